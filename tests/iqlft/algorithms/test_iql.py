"""IQL against a NumPy float64 transcription of the recipe."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from iqlft.algorithms.iql import ImplicitQLearning
from iqlft.config.algorithms import ActorSchedule, IQLHyperparameters
from iqlft.nn.stacked_mlp import Dropout
from iqlft.training.replay import Batch

Array = np.ndarray
Masks = Sequence[Array]

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 2, 16
SMALL = IQLHyperparameters(hidden_size=12, batch_size=BATCH)
DROPPING = dataclasses.replace(SMALL, dropout=0.25)
NO_MASKS = (np.ones(1), np.ones(1))


# -- the whole update against NumPy -------------------------------------------------------------


class NumpyIQL:
    """The recipe's table in float64, with a backward pass derived by hand for one member."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.networks = {
            name: [
                (
                    state[f"{name}.weights.{i}"].numpy().astype(float),
                    state[f"{name}.biases.{i}"].numpy().astype(float),
                )
                for i in range(3)
            ]
            for name in ("value", "actor", "critic", "target_critic")
        }
        self.log_std = state["actor.log_std"].numpy().astype(float)
        self.moments, self.steps = {}, 0

    def forward(self, name: str, inputs: Array, masks: Masks = NO_MASKS) -> list[Array]:
        layers = [inputs]
        for (weight, bias), mask in zip(self.networks[name], masks, strict=False):
            layers.append(np.maximum(layers[-1] @ weight + bias, 0) * mask)
        weight, bias = self.networks[name][-1]
        return [*layers, layers[-1] @ weight + bias]

    def descend(
        self, name: str, layers: list[Array], gradient: Array, masks: Masks = NO_MASKS
    ) -> None:
        """Backpropagates d loss / d output and takes an Adam step."""
        gradients, dropped = [], (np.ones(1), *masks)  # The inputs are whole.
        for index in (2, 1, 0):
            weight, _ = self.networks[name][index]
            below = layers[index]
            gradients.append((np.swapaxes(below, 1, 2) @ gradient, gradient.sum(1, keepdims=True)))
            gradient = (gradient @ np.swapaxes(weight, 1, 2)) * (below > 0) * dropped[index]
        for index, parts in zip((2, 1, 0), gradients, strict=True):
            self.networks[name][index] = tuple(
                self.adam((name, index, kind), parameter, part)
                for kind, parameter, part in zip(
                    "wb", self.networks[name][index], parts, strict=True
                )
            )

    def adam(self, key: object, parameter: Array, gradient: Array) -> Array:
        first, second = self.moments.get(key, (0.0, 0.0))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        self.moments[key] = first, second
        corrected = first / (1 - 0.9**self.steps), second / (1 - 0.999**self.steps)
        return parameter - 3e-4 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)

    def update(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, masks: Masks = NO_MASKS
    ) -> tuple[float, float, float]:
        self.steps += 1
        n = len(s)
        s, s2, both = s[None], s2[None], np.repeat(np.concatenate([s, a], -1)[None], 2, 0)
        target_q = self.forward("target_critic", both)[-1].min(0)[:, 0]

        layers = self.forward("value", s)
        u = target_q - layers[-1][0, :, 0]
        tau = np.where(u > 0, 0.9, 0.1)
        value_loss = (tau * u**2).mean()
        self.descend("value", layers, (-2 * tau * u / n)[None, :, None])

        v = self.forward("value", s)[-1][0, :, 0]
        weight = np.minimum(np.exp(10 * (target_q - v)), 100)
        layers = self.forward("actor", s, masks)
        mean, log_std = np.tanh(layers[-1][0]), np.clip(self.log_std[0], -5, 2)
        z = (a - mean) / np.exp(log_std)
        log_prob = (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)
        actor_loss = -(weight * log_prob).mean()
        log_std_gradient = (-(weight / n)[:, None] * (z**2 - 1)).sum(0)
        output_gradient = -(weight / n)[:, None] * z / np.exp(log_std) * (1 - mean**2)
        self.descend("actor", layers, output_gradient[None], masks)
        self.log_std = self.adam("log_std", self.log_std, log_std_gradient[None, None])

        y = r + 0.99 * (1 - terminated) * self.forward("value", s2)[-1][0, :, 0]
        layers = self.forward("critic", both)
        error = layers[-1][..., 0] - y
        loss = (error**2).mean(-1).sum()
        self.descend("critic", layers, (2 * error / n)[..., None])

        self.networks["target_critic"] = [
            tuple(t + 0.005 * (c - t) for t, c in zip(target, online, strict=True))
            for target, online in zip(
                self.networks["target_critic"], self.networks["critic"], strict=True
            )
        ]
        return value_loss, actor_loss, loss


def random_arrays(rng: np.random.Generator) -> tuple[Array, ...]:
    return (
        rng.normal(size=(BATCH, OBSERVATION_DIM)),
        rng.uniform(-1, 1, (BATCH, ACTION_DIM)),
        rng.normal(size=BATCH),
        rng.normal(size=(BATCH, OBSERVATION_DIM)),
        (rng.random(BATCH) < 0.3).astype(float),
    )


def as_batch(arrays: Sequence[Array], dtype: torch.dtype) -> Batch:
    return Batch(*(torch.tensor(each, dtype=dtype)[None] for each in arrays))


def masks_of_one_update(algorithm: ImplicitQLearning) -> Masks:
    """What its next update will drop in the actor, drawn from a copy of its random streams."""
    settings, state = algorithm.hyperparameters, algorithm.state()
    if settings.dropout == 0:
        return NO_MASKS
    dropout = Dropout(settings.dropout, [settings.hidden_size] * 2, [torch.Generator()])
    dropout.set_random_state(0, state["dropout.random_state"])
    masks = dropout.masks(torch.zeros(1, BATCH, OBSERVATION_DIM, dtype=torch.float64))
    return [mask.numpy() for mask in masks]


@pytest.mark.parametrize("settings", [SMALL, DROPPING], ids=["whole", "dropout"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_ten_updates_equal_a_numpy_float64_transcription(
    dtype: torch.dtype, tolerance: float, settings: IQLHyperparameters
) -> None:
    algorithm = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, settings, (3,), dtype=dtype)
    twin = NumpyIQL(algorithm.state())
    rng = np.random.default_rng(0)
    for _ in range(10):
        arrays, masks = random_arrays(rng), masks_of_one_update(algorithm)
        result = algorithm.update(as_batch(arrays, dtype))
        losses = twin.update(*arrays, masks)
        ours = result.value_loss.item(), result.actor_loss.item(), result.critic_loss.item()
        assert ours == pytest.approx(losses, rel=tolerance)
    state = algorithm.state()
    for name, layers in twin.networks.items():
        for index, (weight, bias) in enumerate(layers):
            for kind, expected in (("weights", weight), ("biases", bias)):
                actual = state[f"{name}.{kind}.{index}"].numpy()
                np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(state["actor.log_std"].numpy(), twin.log_std, atol=tolerance)


def test_a_terminated_transition_learns_its_reward_alone() -> None:
    algorithm = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, SMALL)
    s, a, r, s2, _ = random_arrays(np.random.default_rng(1))
    far = s2 * 1e3
    terminated = np.ones(BATCH)
    one = algorithm.update(as_batch((s, a, r, s2, terminated), torch.float32)).critic_loss
    algorithm = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, SMALL)
    other = algorithm.update(as_batch((s, a, r, far, terminated), torch.float32)).critic_loss
    assert one.item() == other.item()


# -- members, normalisation, schedule, state ----------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, DROPPING], ids=["whole", "dropout"])
def test_a_member_learns_the_same_whichever_members_are_stacked_with_it(
    settings: IQLHyperparameters,
) -> None:
    rng = np.random.default_rng(2)
    batches = [[random_arrays(rng) for _ in range(3)] for _ in range(4)]
    sizes, dtype = (OBSERVATION_DIM, ACTION_DIM), torch.float64
    alone = ImplicitQLearning(*sizes, settings, (7,), dtype=dtype)
    together = ImplicitQLearning(*sizes, settings, (5, 7, 9), dtype=dtype)
    for members in batches:
        each = [as_batch(arrays, torch.float64) for arrays in members]
        together.update(Batch(*(torch.cat(field) for field in zip(*each, strict=True))))
        alone.update(each[1])
    ours, theirs = alone.actor_weights(0), together.actor_weights(1)
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_normalising_inside_equals_normalised_observations_outside() -> None:
    s, a, r, s2, terminated = random_arrays(np.random.default_rng(3))
    mean, std = s.mean(0), s.std(0) + 1e-3
    inside = ImplicitQLearning(
        OBSERVATION_DIM,
        ACTION_DIM,
        SMALL,
        observation_mean=torch.tensor(mean),
        observation_std=torch.tensor(std),
        dtype=torch.float64,
    )
    outside = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, SMALL, dtype=torch.float64)
    one = inside.update(as_batch((s, a, r, s2, terminated), torch.float64))
    normalized = ((s - mean) / std, a, r, (s2 - mean) / std, terminated)
    other = outside.update(as_batch(normalized, torch.float64))
    assert one.critic_loss.item() == pytest.approx(other.critic_loss.item(), rel=1e-12)


@pytest.mark.parametrize(("schedule", "end"), [("cosine", 4), ("climbing-cosine", 7)])
def test_a_cosine_schedule_stays_at_zero_or_climbs_back(schedule: ActorSchedule, end: int) -> None:
    settings = IQLHyperparameters(hidden_size=4, actor_schedule=schedule)
    algorithm = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, settings, num_updates=4)
    batch = as_batch(random_arrays(np.random.default_rng(4)), torch.float32)
    rates = []
    for _ in range(7):
        rates.append(algorithm._actor_learning_rate())
        algorithm.update(batch)
    expected = [3e-4 * 0.5 * (1 + math.cos(math.pi * min(i, end) / 4)) for i in range(7)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("settings", [SMALL, DROPPING], ids=["whole", "dropout"])
def test_training_continues_to_the_same_bits_from_its_state(settings: IQLHyperparameters) -> None:
    rng = np.random.default_rng(5)
    batches = [as_batch(random_arrays(rng), torch.float32) for _ in range(6)]
    whole = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, settings)
    for batch in batches:
        whole.update(batch)
    first = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, settings)
    for batch in batches[:3]:
        first.update(batch)
    second = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, settings, (99,))
    second.load_state(first.state())
    for batch in batches[3:]:
        second.update(batch)
    assert second.updates == 6
    for key, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[key]), key


def test_dropout_reaches_the_actor_s_update_and_nothing_else() -> None:
    rng = np.random.default_rng(8)
    whole = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, SMALL)
    dropping = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, DROPPING)
    for _ in range(3):
        batch = as_batch(random_arrays(rng), torch.float32)
        one, other = whole.update(batch), dropping.update(batch)
        assert one.actor_loss.item() != other.actor_loss.item()
    for key, tensor in whole.state().items():
        if not key.startswith(("actor.", "adam.actor.")):
            assert torch.equal(tensor, dropping.state()[key]), key
    assert whole.estimates(batch) == dropping.estimates(batch)


def test_a_state_holds_random_streams_only_where_there_is_dropout() -> None:
    whole = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, SMALL, (0, 1))
    dropping = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, DROPPING, (0, 1))
    assert dropping.state().keys() - whole.state().keys() == {"dropout.random_state"}
    whole.load_state(dropping.state())
    with pytest.raises(KeyError, match="dropout"):
        dropping.load_state(whole.state())


def test_metrics_report_the_share_of_clipped_advantage_weights() -> None:
    algorithm = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, SMALL)
    result = algorithm.update(as_batch(random_arrays(np.random.default_rng(6)), torch.float32))
    result = result._replace(weights=torch.tensor([[100.0, 100.0, 1.0, 0.5] * (BATCH // 4)]))
    (metrics,) = algorithm.metrics(result)
    assert metrics["advantage_weight_clipped_share"] == 0.5
    assert metrics["advantage_weight_mean"] == pytest.approx(50.375)


def test_a_cosine_schedule_without_its_length_is_refused() -> None:
    settings = IQLHyperparameters(actor_schedule="cosine")
    with pytest.raises(ValueError, match="num_updates"):
        ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, settings)


def test_bf16_layers_follow_every_update_and_every_state() -> None:
    rng = np.random.default_rng(9)

    def rough() -> ImplicitQLearning:
        return ImplicitQLearning(
            OBSERVATION_DIM, ACTION_DIM, SMALL, (0, 1), hidden_dtype=torch.bfloat16
        )

    def assert_rounded(algorithm: ImplicitQLearning) -> None:
        for network in algorithm._networks.values():
            mlp = network.mlp
            assert torch.equal(mlp._rounded, mlp.parameters.to(torch.bfloat16))

    first, second = rough(), rough()
    for _ in range(3):
        members = [as_batch(random_arrays(rng), torch.float32) for _ in range(2)]
        first.update(Batch(*(torch.cat(field) for field in zip(*members, strict=True))))
        assert_rounded(first)
    second.load_state(first.state(1), 0)
    assert_rounded(second)
    assert torch.equal(second.critic.mlp.weights[0][:2], first.critic.mlp.weights[0][2:])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("hidden", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)], ids=["f32", "bf16"]
)
@pytest.mark.parametrize("settings", [SMALL, DROPPING], ids=["whole", "dropout"])
def test_updates_on_cuda_equal_those_on_the_cpu_and_continue_from_their_state(
    settings: IQLHyperparameters, hidden: torch.dtype, tolerance: float
) -> None:
    rng, seeds = np.random.default_rng(7), (0, 1)

    def made(device: str) -> ImplicitQLearning:
        return ImplicitQLearning(
            OBSERVATION_DIM, ACTION_DIM, settings, seeds, device=device, hidden_dtype=hidden
        )

    here, there = made("cpu"), made("cuda")
    for index in range(10):
        members = [as_batch(random_arrays(rng), torch.float32) for _ in seeds]
        batch = Batch(*(torch.cat(field) for field in zip(*members, strict=True)))
        one = here.update(batch)
        other = there.update(Batch(*(each.cuda() for each in batch)))
        expected = pytest.approx(one.critic_loss.tolist(), rel=tolerance)
        assert other.critic_loss.tolist() == expected
        if index == 4:
            there = made("cuda")
            for member in range(2):
                there.load_state(here.state(member), member)
    assert there.updates == 10
