"""CQL and Cal-QL against a NumPy float64 transcription."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from iqlft.algorithms.calql import CalQL
from iqlft.algorithms.cql import CQL
from iqlft.config.algorithms import CalQLHyperparameters, CQLHyperparameters
from numpy_networks import (
    ACTION_DIM,
    BATCH,
    SPEC,
    Array,
    as_batch,
    figures,
    random_arrays,
    random_batch,
    returns_to_go,
)
from numpy_sac import Draws, NumpySAC

SIZES = {"hidden_size": 12, "batch_size": BATCH, "sampled_actions": 3, "target_actions": 2}
PLAIN, CALIBRATED = CQLHyperparameters(**SIZES), CalQLHyperparameters(**SIZES)


class NumpyCQL(NumpySAC):
    """The critics' step with a penalty, its gradient derived by hand."""

    calibrated = False
    log_alpha_prime = np.ones(1)

    def update_critic(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, draw: Draws
    ) -> dict[str, float]:
        n, count = len(s), self.h.sampled_actions
        uniform = draw.uniform(n, count)
        _, own, own_log = self.policy(s, draw.noise(n, count))
        _, following, following_log = self.policy(s2, draw.noise(n, count))
        actions = np.concatenate([a[:, None], uniform, own, following], 1)
        per_state = 1 + 3 * count
        layers = self.q("critic", np.repeat(s, per_state, 0), actions.reshape(-1, ACTION_DIM))
        q = layers[-1][..., 0].reshape(-1, n, per_state)
        values, proposed = q[..., 0], q[..., 1:].copy()
        figures = {}
        is_free = np.ones_like(proposed)
        if self.calibrated:
            floor = 2 * r
            floor[-3:] = -np.inf
            is_free[..., count:] = proposed[..., count:] >= floor[:, None]
            figures["critic/calibrated_share"] = 1 - is_free[..., count:].mean()
            proposed[..., count:] = np.maximum(proposed[..., count:], floor[:, None])

        uniform_log = np.full((n, count), np.log(0.5**ACTION_DIM))
        weighted = proposed - np.concatenate([uniform_log, own_log, following_log], 1)
        sums = np.exp(weighted).sum(-1)
        gap = np.log(sums) - values
        bound = -np.inf if self.h.gap_min is None else self.h.gap_min
        moves = (gap >= bound).astype(float)
        mean_gap = np.maximum(gap, bound).mean(-1)
        weight = self.h.penalty_weight
        if self.h.lagrange:
            weight = weight * np.exp(self.log_alpha_prime[0])

        noise = draw.noise(n, self.h.target_actions)
        error = values - self.targets(r, s2, terminated, noise, draw.critics())
        gradient = np.empty_like(q)
        gradient[..., 0] = 2 * error / n - weight / n * moves
        soft = np.exp(weighted) / sums[..., None]
        gradient[..., 1:] = weight / n * moves[..., None] * soft * is_free
        self.descend("critic", layers, gradient.reshape(len(q), -1, 1))
        if self.h.lagrange:
            slope = np.array([-(weight * (mean_gap - self.h.target_gap)).mean()])
            self.log_alpha_prime = self.adam("alpha_prime", self.log_alpha_prime, slope)
        bellman = (error**2).mean(-1).sum()
        return {
            "critic/loss": bellman + (weight * (mean_gap - self.h.target_gap)).sum(),
            "critic/bellman_loss": bellman,
            "critic/q": values.mean(),
            "critic/gap": mean_gap.mean(),
            "critic/penalty_weight": weight,
            **figures,
        }


CASES: dict[str, tuple[type[CQL[Any]], CQLHyperparameters]] = {
    "cql": (CQL, PLAIN),
    "fixed weight": (CQL, dataclasses.replace(PLAIN, lagrange=False, penalty_weight=0.7)),
    "clipped gap": (CQL, dataclasses.replace(PLAIN, gap_min=2.0)),
    "many critics": (CQL, dataclasses.replace(PLAIN, num_critics=4, num_target_critics=2)),
    "calql": (CalQL, CALIBRATED),
}


@pytest.mark.parametrize("name", CASES)
def test_five_updates_equal_a_numpy_float64_transcription(name: str) -> None:
    kind, settings = CASES[name]
    algorithm, rng = kind(SPEC, settings, (3,), dtype=torch.float64), np.random.default_rng(0)
    twin = NumpyCQL(algorithm)
    twin.calibrated = kind is CalQL
    for _ in range(5):
        arrays, draws = random_arrays(rng), Draws(algorithm)
        found = figures(algorithm.update(as_batch(arrays, torch.float64)))
        expected = twin.update(arrays, draws)
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-8)
    twin.assert_equal(algorithm.state(), 1e-7)
    if settings.lagrange:
        learned = algorithm.state()["log_alpha_prime.value"].numpy()
        np.testing.assert_allclose(learned, twin.log_alpha_prime, rtol=1e-7)
        assert learned != 1


def test_the_penalty_lowers_q_of_actions_that_the_data_lack() -> None:
    rng, differences = np.random.default_rng(1), []
    for weight in (0.0, 5.0):
        settings = dataclasses.replace(
            PLAIN, lagrange=False, penalty_weight=weight, target_update_rate=0.5
        )
        algorithm, batch = CQL(SPEC, settings), random_batch(rng)
        others = torch.tensor(rng.uniform(-1, 1, batch.actions.shape), dtype=torch.float32)
        for _ in range(100):
            algorithm.update(batch)
        q = [algorithm.q_values(batch.observations, each) for each in (batch.actions, others)]
        differences.append((q[0] - q[1]).mean().item())
    assert differences[1] > differences[0] + 0.1


def test_the_multiplier_rises_while_the_gap_is_above_its_target_and_stays_bounded() -> None:
    rng, found = np.random.default_rng(2), {}
    for target in (-100.0, 100.0):
        algorithm = CQL(SPEC, dataclasses.replace(PLAIN, target_gap=target))
        for _ in range(10):
            algorithm.update(random_batch(rng))
        found[target] = algorithm.penalty_weight().item()
    assert found[-100.0] > 5 * np.e > found[100.0]
    with torch.no_grad():
        algorithm.log_alpha_prime().fill_(99.0)
    assert algorithm.penalty_weight().item() == pytest.approx(5e6)


def calibrated(algorithm: CalQL, proposed: float, returns: float) -> list[float]:
    """What the penalty takes of 3 uniform actions and 6 of the policy's, all of one value."""
    batch = random_batch(np.random.default_rng(3))
    batch = batch._replace(returns_to_go=torch.full((1, BATCH), returns))
    values, _ = algorithm.calibrated(torch.full((1, 2, BATCH, 9), proposed), batch)
    return [float(each) for each in values[0, 0, 0]]


def test_values_of_the_policy_s_actions_are_at_least_the_return_to_go() -> None:
    algorithm = CalQL(SPEC, CALIBRATED)
    assert calibrated(algorithm, -3.0, -1.0) == [-3.0] * 3 + [-1.0] * 6
    assert calibrated(algorithm, 2.0, -1.0) == [2.0] * 9
    assert calibrated(algorithm, -3.0, -np.inf) == [-3.0] * 9


def test_calibration_can_end_with_pretraining() -> None:
    algorithm = CalQL(SPEC, dataclasses.replace(CALIBRATED, calibrate_online=False))
    assert calibrated(algorithm, -3.0, -1.0) == [-3.0] * 3 + [-1.0] * 6
    algorithm.begin_online()
    assert calibrated(algorithm, -3.0, -1.0) == [-3.0] * 9


def test_without_known_returns_cal_ql_is_cql_bit_for_bit() -> None:
    same = {field.name: getattr(CALIBRATED, field.name) for field in dataclasses.fields(PLAIN)}
    ours, plain = CalQL(SPEC, CALIBRATED), CQL(SPEC, CQLHyperparameters(**same))
    rng = np.random.default_rng(4)
    for _ in range(3):
        batch = random_batch(rng)
        unknown = torch.full_like(batch.rewards, -torch.inf)
        ours.update(batch._replace(returns_to_go=unknown))
        plain.update(batch)
    theirs = plain.state()
    for key, tensor in ours.state().items():
        assert torch.equal(tensor, theirs[key]), key


def test_the_returns_of_the_tests_are_known_for_some_and_unknown_for_others() -> None:
    returns = returns_to_go(random_arrays(np.random.default_rng(5)))
    assert 0 < np.isinf(returns).sum() < BATCH
