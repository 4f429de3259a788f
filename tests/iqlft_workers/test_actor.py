from collections.abc import Callable

import numpy as np

from actors import gaussian, with_array
from iqlft_workers.actor import ActorWeights, GaussianActor

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
