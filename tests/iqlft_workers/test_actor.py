import itertools
from collections.abc import Callable

import numpy as np
import pytest

from actors import gaussian, with_array
from iqlft_workers.actor import (
    ACTORS,
    ActorWeights,
    ActorWeightsError,
    GaussianActor,
    check_weights,
    make_actor,
    renewed,
    uniform_weights,
)

MakeWeights = Callable[..., ActorWeights]


def by_hand() -> ActorWeights:
    """Two inputs, two hidden units, one action; the observation is normalised."""
    return gaussian(
        weights=(
            np.array([[1.0, -1.0], [2.0, 1.0]], np.float32),
            np.array([[0.5], [0.25]], np.float32),
        ),
        biases=(np.array([0.0, 1.0], np.float32), np.array([-0.5], np.float32)),
        log_std=np.array([-1.0], np.float32),
        observation_mean=np.array([1.0, 0.0], np.float32),
        observation_std=np.array([2.0, 1.0], np.float32),
        version=3,
    )


def test_the_mean_is_tanh_of_a_relu_network_on_the_normalised_observation() -> None:
    # ((3, 0) - (1, 0)) / (2, 1) = (1, 0); hidden = relu((1, -1) + (0, 1)) = (1, 0);
    # output = 0.5 * 1 + 0.25 * 0 - 0.5 = 0.
    assert GaussianActor(by_hand()).mean(np.array([3.0, 0.0], np.float32)) == [0.0]
    # ((1, 1) - (1, 0)) / (2, 1) = (0, 1); hidden = relu((2, 1) + (0, 1)) = (2, 2);
    # output = 1 + 0.5 - 0.5 = 1.
    action = GaussianActor(by_hand()).mean(np.array([1.0, 1.0], np.float32))
    np.testing.assert_allclose(action, np.tanh([1.0]), rtol=1e-6)
    assert action.dtype == np.float32


def test_a_batch_of_observations_gives_the_actions_of_each(make_weights: MakeWeights) -> None:
    actor = GaussianActor(make_weights(3, 2))
    observations = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    one_by_one = np.stack([actor.mean(observation) for observation in observations])
    np.testing.assert_allclose(actor.mean(observations), one_by_one, rtol=1e-5)


def test_samples_have_the_policys_mean_and_deviation() -> None:
    actor, rng = GaussianActor(by_hand()), np.random.default_rng(0)
    observation = np.array([3.0, 0.0], np.float32)
    samples = np.array([actor.sample(observation, rng) for _ in range(20_000)])
    # The mean is 0 and the deviation exp(-1) = .368, so that clipping touches .7 % of the samples.
    assert abs(samples.mean()) < 0.01
    assert abs(samples.std() - np.exp(-1)) < 0.01


def test_samples_are_clipped_to_the_action_bounds() -> None:
    actor = GaussianActor(with_array(by_hand(), "log_std", np.array([2.0], np.float32)))
    rng = np.random.default_rng(0)
    samples = np.array([actor.sample(np.zeros(2, np.float32), rng) for _ in range(500)])
    assert samples.min() == -1.0
    assert samples.max() == 1.0


def test_the_log_deviation_is_clipped() -> None:
    actor = GaussianActor(with_array(by_hand(), "log_std", np.array([-50.0], np.float32)))
    observation = np.array([3.0, 0.0], np.float32)
    noise = np.random.default_rng(0).standard_normal(1, np.float32)
    sample = actor.sample(observation, np.random.default_rng(0))
    np.testing.assert_allclose(sample, np.exp(-5) * noise, rtol=1e-5)


def test_newer_weights_replace_older_ones(make_weights: MakeWeights) -> None:
    actor = GaussianActor(make_weights(3, 1, version=1))
    newer = make_weights(3, 1, seed=9, version=2)
    actor.load(newer)
    observation = np.ones(3, np.float32)
    assert actor.version == 2
    np.testing.assert_array_equal(actor.mean(observation), GaussianActor(newer).mean(observation))


# -- the other kinds, by hand -------------------------------------------------------------------


def squashed(bias: list[float], low: float = -5.0, high: float = 2.0) -> ActorWeights:
    """One input, two hidden units, one action: means and log standard deviations side by side."""
    arrays = {
        "weight.0": np.array([[1.0, -1.0]], np.float32),
        "bias.0": np.zeros(2, np.float32),
        "weight.1": np.array([[0.5, 1.0], [0.25, -1.0]], np.float32),
        "bias.1": np.array(bias, np.float32),
        "observation_mean": np.array([1.0], np.float32),
        "observation_std": np.array([2.0], np.float32),
    }
    settings = {"log_std_min": low, "log_std_max": high, "layer_norm": 0.0}
    return ActorWeights("squashed_gaussian", arrays, settings, version=4)


def normalized() -> ActorWeights:
    """The same network with LayerNorm."""
    weights = squashed([0.0, 0.0])
    return weights._replace(settings={**weights.settings, "layer_norm": 1.0})


def deterministic(noise: float) -> ActorWeights:
    """The same network, whose two outputs are actions."""
    weights = squashed([0.0, 0.0])
    return weights._replace(kind="deterministic", settings={"exploration_noise": noise})


def unsquashed(log_std: float) -> ActorWeights:
    """The same network as a Gaussian whose mean is the output itself."""
    weights = squashed([0.0, 0.0])
    arrays = {**weights.arrays, "log_std": np.full(2, log_std, np.float32)}
    settings = {"log_std_min": -20.0, "log_std_max": 2.0, "tanh_mean": 0.0}
    return weights._replace(kind="gaussian", arrays=arrays, settings=settings)


def flow() -> ActorWeights:
    """The same network, whose hidden layer also takes the noise of its two actions."""
    weights = squashed([0.0, 0.0])
    noise_rows = np.array([[0.0, 3.0], [1.0, 0.0]], np.float32)
    matrix = np.concatenate([weights.arrays["weight.0"], noise_rows])
    return weights._replace(
        kind="one_step_flow", arrays={**weights.arrays, "weight.0": matrix}, settings={}
    )


# (5 - 1) / 2 = 2; hidden = relu((2, -2)) = (2, 0); outputs = (0.5 * 2, 1 * 2) = (1, 2).
OBSERVATION, OUTPUTS = np.array([5.0], np.float32), (1.0, 2.0)


class KnownNoise(np.random.Generator):
    """A generator whose normals are known."""

    def __init__(self, *values: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._values = np.array(values, np.float32)

    def standard_normal(self, size: tuple[int, ...], dtype: type) -> np.ndarray:
        return self._values.reshape(size).astype(dtype)


def test_a_squashed_gaussian_s_mean_is_tanh_of_the_first_half_of_the_outputs() -> None:
    action = make_actor(squashed([0.0, 0.0])).mean(OBSERVATION)
    np.testing.assert_allclose(action, [np.tanh(1.0)], rtol=1e-6)
    assert action.dtype == np.float32
    batch = make_actor(squashed([0.0, 0.0])).mean(np.stack([OBSERVATION, OBSERVATION]))
    np.testing.assert_allclose(batch, np.tanh([[1.0], [1.0]]), rtol=1e-6)


@pytest.mark.parametrize(
    ("bias", "log_std"), [(-2.5, -0.5), (9.0, 2.0), (-99.0, -5.0)], ids=["free", "wide", "narrow"]
)
def test_a_squashed_gaussian_samples_before_tanh_at_a_bounded_log_std(
    bias: float, log_std: float
) -> None:
    # The log standard deviation is 2 + bias, within [-5, 2].
    action = make_actor(squashed([0.0, bias])).sample(OBSERVATION, KnownNoise(-0.5))
    np.testing.assert_allclose(action, [np.tanh(1 - 0.5 * np.exp(log_std))], rtol=1e-5)
    assert action.dtype == np.float32


def test_layer_norm_comes_before_the_relu_of_a_hidden_layer() -> None:
    # The hidden layer is (2, -2) before its ReLU, with mean 0 and variance 4: normalised (1, -1),
    # so that the outputs are (0.5 * 1, 1 * 1).
    action = make_actor(normalized()).mean(OBSERVATION)
    np.testing.assert_allclose(action, [np.tanh(0.5)], rtol=1e-5)
    assert action.dtype == np.float32


def test_a_deterministic_actor_explores_by_noise_on_its_action_and_is_clipped() -> None:
    actor, mean = make_actor(deterministic(0.1)), np.tanh(OUTPUTS)
    np.testing.assert_allclose(actor.mean(OBSERVATION), mean, rtol=1e-6)
    action = actor.sample(OBSERVATION, KnownNoise(-1.5, 3.0))
    np.testing.assert_allclose(action, [mean[0] - 0.15, 1.0], rtol=1e-6)
    assert action.dtype == np.float32
    np.testing.assert_allclose(
        make_actor(deterministic(0.0)).sample(OBSERVATION, KnownNoise(-1.5, 3.0)), mean, rtol=1e-6
    )


def test_a_mean_that_is_not_squashed_is_clipped_after_the_noise_alone() -> None:
    # The outputs are 1 and 2: the first noise brings the second action back within the bounds.
    actor = make_actor(unsquashed(0.0))
    assert actor.mean(OBSERVATION).tolist() == [1.0, 1.0]
    assert actor.sample(OBSERVATION, KnownNoise(0.5, -1.5)).tolist() == [1.0, 0.5]


def test_a_one_step_flow_takes_its_noise_as_an_input_and_is_clipped() -> None:
    actor = make_actor(flow())
    assert actor.mean(OBSERVATION).tolist() == [1.0, 1.0]
    # hidden = relu((2 - 1.5, -2 + 3 * 0.75)) = (0.5, 0.25); outputs = (0.3125, 0.25).
    action = actor.sample(OBSERVATION, KnownNoise(0.75, -1.5))
    np.testing.assert_allclose(action, [0.3125, 0.25], rtol=1e-6)
    assert action.dtype == np.float32
    batch = actor.sample(np.stack([OBSERVATION] * 2), KnownNoise(0.75, -1.5, 0.0, 0.0))
    np.testing.assert_allclose(batch, [[0.3125, 0.25], [1.0, 1.0]], rtol=1e-6)


def test_evaluations_take_the_mean_and_draw_nothing_unless_the_kind_is_sampled_there() -> None:
    for weights in EVERY_KIND.values():
        actor, rng = make_actor(weights), np.random.default_rng(0)
        observation = np.ones(weights.observation_dim, np.float32)
        action = actor.evaluate(observation, rng)
        expected = (
            actor.sample(observation, np.random.default_rng(0))
            if weights.kind == "one_step_flow"
            else actor.mean(observation)
        )
        assert action.tolist() == expected.tolist()
        drawn = rng.bit_generator.state != np.random.default_rng(0).bit_generator.state
        assert drawn == (weights.kind == "one_step_flow")


def test_a_uniform_actor_draws_every_action_alike_whatever_it_observes() -> None:
    weights = uniform_weights(unsquashed(0.0))
    assert (weights.observation_dim, weights.action_dim, weights.version) == (1, 2, 4)
    actor, rng = make_actor(weights), np.random.default_rng(0)
    assert actor.mean(OBSERVATION).tolist() == [0.0, 0.0]
    assert actor.mean(np.stack([OBSERVATION] * 3)).shape == (3, 2)
    samples = np.array([actor.sample(OBSERVATION, rng) for _ in range(4000)])
    assert samples.dtype == np.float32
    counts, _ = np.histogram(samples, bins=8, range=(-1, 1))
    assert counts.sum() == samples.size
    assert abs(counts / samples.size - 1 / 8).max() < 0.02
    # The middle of the normals is the middle of the actions, and the quartiles those.
    found = actor.sample(OBSERVATION, KnownNoise(0.0, 0.6744898))
    np.testing.assert_allclose(found, [0.0, 0.5], atol=1e-6)


def test_newer_weights_of_another_kind_make_another_actor() -> None:
    weights = squashed([0.0, 0.0])
    actor = make_actor(uniform_weights(weights))
    newer = renewed(actor, weights)
    assert type(newer) is type(make_actor(weights))
    assert newer.mean(OBSERVATION).tolist() == make_actor(weights).mean(OBSERVATION).tolist()
    assert renewed(newer, weights._replace(version=9)) is newer
    assert newer.version == 9


EVERY_KIND = {
    "gaussian": by_hand(),
    "gaussian, mean as it is": unsquashed(-1.0),
    "squashed_gaussian": squashed([0.0, 0.0]),
    "squashed_gaussian, normalised": normalized(),
    "deterministic": deterministic(0.1),
    "one_step_flow": flow(),
    "uniform": uniform_weights(squashed([0.0, 0.0])),
}
each_kind = pytest.mark.parametrize("weights", EVERY_KIND.values(), ids=EVERY_KIND)


def test_every_kind_is_tested() -> None:
    assert {weights.kind for weights in EVERY_KIND.values()} == ACTORS.keys()


@each_kind
def test_skipping_an_action_draws_what_sampling_it_draws(weights: ActorWeights) -> None:
    actor, observation = make_actor(weights), np.ones(weights.observation_dim, np.float32)
    sampling, skipping = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(3):
        action = actor.sample(observation, sampling)
        assert action.shape == (weights.action_dim,)
        actor.skip(action, skipping)
        assert sampling.bit_generator.state == skipping.bit_generator.state
    assert skipping.bit_generator.state != np.random.default_rng(7).bit_generator.state


# -- what are weights ---------------------------------------------------------------------------


@each_kind
def test_whole_weights_of_every_kind_are_taken(weights: ActorWeights) -> None:
    assert check_weights(weights) is weights


def test_an_unknown_kind_is_refused_and_shown_in_part() -> None:
    with pytest.raises(ActorWeightsError, match=f"'{'x' * 40}'"):
        check_weights(by_hand()._replace(kind="x" * 99))


@each_kind
def test_a_missing_a_further_or_a_misshapen_array_is_refused(weights: ActorWeights) -> None:
    arrays = dict(weights.arrays)
    odd = [{name: each for name, each in arrays.items() if name != lost} for lost in arrays]
    odd += [
        arrays | {name: np.zeros((*each.shape, 1), np.float32)} for name, each in arrays.items()
    ]
    odd += [arrays | {name: np.zeros((), np.float32)} for name in arrays]
    odd += [arrays | {name: np.zeros(7, np.float32)} for name in arrays]
    odd += [arrays | {name: np.zeros(3, np.float32)} for name in ("other", "bias.2", "bias.x")]
    odd.append({})
    for each in odd:
        with pytest.raises(ActorWeightsError, match="arrays"):
            check_weights(weights._replace(arrays=each))


@each_kind
def test_a_missing_or_a_further_setting_is_refused(weights: ActorWeights) -> None:
    names = list(weights.settings)
    fewer = [{each: weights.settings[each] for each in names[1:]}] if names else []
    for settings in (*fewer, {**weights.settings, "other": 1.0}):
        with pytest.raises(ActorWeightsError, match="settings"):
            check_weights(weights._replace(settings=settings))


def test_arrays_of_another_kind_are_refused() -> None:
    # A Gaussian has a log_std of its own; a squashed one has none.
    for weights, kind in itertools.product(EVERY_KIND.values(), ACTORS):
        if weights.kind != kind:
            with pytest.raises(ActorWeightsError):
                check_weights(weights._replace(kind=kind))


def test_outputs_that_are_no_pairs_are_refused() -> None:
    weights = with_array(squashed([0.0, 0.0, 0.0]), "weight.1", np.zeros((2, 3), np.float32))
    with pytest.raises(ActorWeightsError, match="3 outputs"):
        check_weights(weights)
