"""IQL against a NumPy float64 transcription of the recipe; test_base.py has the contract."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Metrics
from iqlft.algorithms.iql import IQL
from iqlft.config.algorithms import ActorSchedule, IQLHyperparameters
from numpy_networks import (
    BATCH,
    SPEC,
    Array,
    Masks,
    NumpyNetworks,
    as_batch,
    figures,
    log_prob_and_gradients,
    masks_of_one_update,
    random_arrays,
    random_batch,
)

SMALL = IQLHyperparameters(hidden_size=12, batch_size=BATCH)
NORMALIZED = dataclasses.replace(SMALL, critic_layer_norm=True)
CLIPPED = dataclasses.replace(NORMALIZED, clip_targets=True, dropout=0.25)
RETURNS = -0.7, 0.4
"""Bounds that some targets are beyond."""
DROPPING = dataclasses.replace(SMALL, dropout=0.25)


# -- the whole update against NumPy -------------------------------------------------------------


class NumpyIQL(NumpyNetworks):
    """The recipe's table in float64, with a backward pass derived by hand for one member."""

    returns = -np.inf, np.inf

    def update(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, masks: Masks
    ) -> tuple[float, float, float]:
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
        mean, log_std = np.tanh(layers[-1][0]), np.clip(self.log_std[0, 0], -5, 2)
        log_prob, to_mean, to_log_std = log_prob_and_gradients(mean, log_std, a, weight)
        self.descend("actor", layers, (to_mean * (1 - mean**2))[None], masks)
        self.descend_log_std(to_log_std)

        y = r + 0.99 * (1 - terminated) * self.forward("value", s2)[-1][0, :, 0]
        y = np.clip(y, *self.returns)
        layers = self.forward("critic", both)
        error = layers[-1][..., 0] - y
        self.descend("critic", layers, (2 * error / n)[..., None])

        self.track("critic")
        return value_loss, -(weight * log_prob).mean(), (error**2).mean(-1).sum()


def critic_loss(metrics: Metrics) -> float:
    return figures(metrics)["critic/loss"]


@pytest.mark.parametrize(
    "settings",
    [SMALL, DROPPING, NORMALIZED, CLIPPED],
    ids=["whole", "dropout", "layer norm", "clipped"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_ten_updates_equal_a_numpy_float64_transcription(
    dtype: torch.dtype, tolerance: float, settings: IQLHyperparameters
) -> None:
    algorithm = IQL(SPEC, settings, (3,), dtype=dtype)
    normalized = ("value", "critic", "target_critic") if settings.critic_layer_norm else ()
    twin = NumpyIQL(
        algorithm.state(), "value", "actor", "critic", "target_critic", normalized=normalized
    )
    algorithm.set_possible_returns(*RETURNS)
    if settings.clip_targets:
        twin.returns = RETURNS
    rng = np.random.default_rng(0)
    for _ in range(10):
        arrays, masks = random_arrays(rng), masks_of_one_update(algorithm)
        result = algorithm.update(as_batch(arrays, dtype))
        losses = twin.update(*arrays, masks)
        ours = tuple(figures(result)[f"{name}/loss"] for name in ("value", "actor", "critic"))
        assert ours == pytest.approx(losses, rel=tolerance)
    twin.assert_equal(algorithm.state(), tolerance)
    batch = as_batch(arrays, dtype)
    q = algorithm.q_values(batch.observations, batch.actions)[0].numpy()
    np.testing.assert_allclose(q, twin.target_q(*arrays[:2]), rtol=tolerance, atol=tolerance)


def test_a_terminated_transition_learns_its_reward_alone() -> None:
    algorithm = IQL(SPEC, SMALL)
    s, a, r, s2, _ = random_arrays(np.random.default_rng(1))
    far = s2 * 1e3
    terminated = np.ones(BATCH)
    one = critic_loss(algorithm.update(as_batch((s, a, r, s2, terminated), torch.float32)))
    algorithm = IQL(SPEC, SMALL)
    other = critic_loss(algorithm.update(as_batch((s, a, r, far, terminated), torch.float32)))
    assert one == other


def test_a_target_that_no_return_reaches_is_clipped_for_each_member_by_its_own_bounds() -> None:
    algorithm = IQL(SPEC, CLIPPED, (0, 1))
    algorithm.set_possible_returns(-1.0, 0.0, 1)
    targets = torch.tensor([[-3.0, 5.0, -0.5], [-3.0, 5.0, -0.5]])
    assert algorithm.clipped(targets).tolist() == [[-3.0, 5.0, -0.5], [-1.0, 0.0, -0.5]]
    algorithm.set_possible_returns(-2.0, 0.0, 1)
    assert algorithm.clipped(targets)[1, 0] == -2
    assert IQL(SPEC, SMALL).clipped(targets) is targets


# -- schedule, dropout, metrics ----------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "end"), [("cosine", 4), ("climbing-cosine", 7)])
def test_a_cosine_schedule_stays_at_zero_or_climbs_back(schedule: ActorSchedule, end: int) -> None:
    settings = IQLHyperparameters(hidden_size=4, actor_schedule=schedule)
    algorithm = IQL(SPEC._replace(num_updates=4), settings)
    batch = random_batch(np.random.default_rng(4))
    rates = []
    for _ in range(7):
        rates.append(algorithm._actor_learning_rate())
        algorithm.update(batch)
    expected = [3e-4 * 0.5 * (1 + math.cos(math.pi * min(i, end) / 4)) for i in range(7)]
    assert rates == pytest.approx(expected)


def test_dropout_reaches_the_actor_s_update_and_nothing_else() -> None:
    rng = np.random.default_rng(8)
    whole = IQL(SPEC, SMALL)
    dropping = IQL(SPEC, DROPPING)
    for _ in range(3):
        batch = random_batch(rng)
        one, other = whole.update(batch), dropping.update(batch)
        assert figures(one)["actor/loss"] != figures(other)["actor/loss"]
    for key, tensor in whole.state().items():
        if not key.startswith(("actor.", "adam.actor.")):
            assert torch.equal(tensor, dropping.state()[key]), key
    assert torch.equal(whole.values(batch.observations), dropping.values(batch.observations))


def test_a_state_holds_random_streams_only_where_there_is_dropout() -> None:
    whole = IQL(SPEC, SMALL, (0, 1))
    dropping = IQL(SPEC, DROPPING, (0, 1))
    assert dropping.state().keys() - whole.state().keys() == {"random_state"}
    whole.load_state(dropping.state())
    with pytest.raises(KeyError, match="random_state"):
        dropping.load_state(whole.state())


def test_metrics_report_the_share_of_clipped_advantage_weights() -> None:
    # Values far below Q give every weight its bound; without a temperature all weights are 1.
    algorithm = IQL(SPEC, SMALL)
    algorithm.target_critic.mlp.biases[-1].fill_(100.0)
    algorithm.target_critic.changed()
    batch = random_batch(np.random.default_rng(6))
    clipped = figures(algorithm.update(batch))
    assert (clipped["actor/clipped_share"], clipped["actor/advantage_weight"]) == (1, 100)
    flat = figures(IQL(SPEC, dataclasses.replace(SMALL, inverse_temperature=0.0)).update(batch))
    assert (flat["actor/clipped_share"], flat["actor/advantage_weight"]) == (0, 1)


def test_a_cosine_schedule_without_its_length_is_refused() -> None:
    settings = IQLHyperparameters(actor_schedule="cosine")
    with pytest.raises(ValueError, match="num_updates"):
        IQL(SPEC, settings)
