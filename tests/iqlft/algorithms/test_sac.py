"""Soft actor-critic against a NumPy float64 transcription."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Batch
from iqlft.algorithms.losses import reduced
from iqlft.algorithms.rlpd import RLPD
from iqlft.algorithms.sac import SAC, split
from iqlft.algorithms.wsrl import WSRL
from iqlft.config.algorithms import RLPDHyperparameters, SACHyperparameters, WSRLHyperparameters
from iqlft.config.errors import ConfigError
from iqlft.config.validation import check
from numpy_networks import BATCH, SPEC, as_batch, figures, random_arrays, random_batch
from numpy_sac import Draws, NumpySAC

SMALL = SACHyperparameters(hidden_size=12, batch_size=BATCH)
DISTINCT = {
    "num_critics": 4, "num_target_critics": 2, "target_actions": 3, "critic_updates": 2,
    "actor_reduction": "mean", "entropy_backup": False, "target_entropy": -0.5,
    "critic_hidden_size": 10, "critic_hidden_layers": 3, "critic_layer_norm": True,
    "actor_layer_norm": True, "initial_log_std": -1.0, "output_gain": 0.5,
    "entropy_temperature": 0.3,
}  # fmt: skip
"""Settings that differ from the defaults."""


CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "distinct": DISTINCT,
    "mean target, fixed temperature": {"target_reduction": "mean", "learn_temperature": False},
    "clipped": {"clip_targets": True, "entropy_backup": False},
}


KINDS: dict[str, tuple[type[SAC[Any]], SACHyperparameters]] = {
    **{name: (SAC, dataclasses.replace(SMALL, **changes)) for name, changes in CASES.items()},
    "rlpd": (RLPD, RLPDHyperparameters(hidden_size=12, batch_size=BATCH, critic_updates=8)),
    "wsrl": (WSRL, WSRLHyperparameters(hidden_size=12, batch_size=BATCH)),
}


@pytest.mark.parametrize("name", KINDS)
def test_five_updates_equal_a_numpy_float64_transcription(name: str) -> None:
    kind, settings = KINDS[name]
    algorithm, rng = kind(SPEC, settings, (3,), dtype=torch.float64), np.random.default_rng(0)
    twin = NumpySAC(algorithm)
    algorithm.set_possible_returns(-0.7, 0.4)
    twin.returns = (-0.7, 0.4) if settings.clip_targets else twin.returns
    for _ in range(5):
        arrays, draws = random_arrays(rng), Draws(algorithm)
        found = figures(algorithm.update(as_batch(arrays, torch.float64)))
        expected = twin.update(arrays, draws)
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-9)
    twin.assert_equal(algorithm.state(), 1e-8)
    np.testing.assert_allclose(
        algorithm.log_temperature().detach().numpy(), twin.log_temperature, rtol=1e-8
    )
    assert ("log_temperature.value" in algorithm.state()) == settings.learn_temperature
    s, a = arrays[:2]
    values = twin.q("target_critic", s, a)[-1][..., 0]
    values = values.min(0) if settings.target_reduction == "min" else values.mean(0)
    batch = as_batch(arrays, torch.float64)
    q = algorithm.q_values(batch.observations, batch.actions)[0].numpy()
    np.testing.assert_allclose(q, values, rtol=1e-8, atol=1e-9)


def test_the_temperature_rises_while_the_policy_has_less_entropy_than_its_target() -> None:
    rng, found = np.random.default_rng(1), {}
    for target in (5.0, -50.0):
        algorithm = SAC(SPEC, dataclasses.replace(SMALL, target_entropy=target))
        for _ in range(20):
            algorithm.update(random_batch(rng))
        found[target] = algorithm.temperature.item()
    assert found[5.0] > 1 > found[-50.0]


def test_every_critic_is_asked_for_targets_in_turn_and_members_draw_apart() -> None:
    settings = dataclasses.replace(SMALL, num_critics=3, num_target_critics=1)
    algorithm = SAC(SPEC, settings, (0, 1))
    batch = random_batch(np.random.default_rng(2), 2)
    pairs = torch.cat([batch.observations, batch.actions], -1)
    every = algorithm.critic.forward(pairs)
    asked = []
    for _ in range(40):
        found = algorithm.drawn(algorithm.critic).forward(pairs)
        assert found.shape == (2, 1, BATCH)
        # One critic for the whole batch of a member.
        asked.append((found - every).abs().amax(-1).argmin(1))
        torch.testing.assert_close(found[:, 0], every[[0, 1], asked[-1]])
    chosen = torch.stack(asked)
    assert {*chosen[:, 0].tolist()} == {*chosen[:, 1].tolist()} == {0, 1, 2}
    assert not torch.equal(chosen[:, 0], chosen[:, 1])


def test_the_parts_of_a_batch_have_the_same_mixture_whatever_its_order() -> None:
    # The first half is of the dataset, the second of new transitions.
    rewards = torch.arange(12.0)[None]
    batch = Batch(rewards[..., None], rewards[..., None], rewards, rewards[..., None], rewards)
    parts = split(batch, 3)
    assert sorted(float(each) for part in parts for each in part.rewards[0]) == list(range(12))
    for part in parts:
        assert ((part.rewards < 6).sum(), part.observations.shape) == (2, (1, 4, 1))


def test_several_updates_of_the_critics_take_as_many_batches() -> None:
    assert SAC(SPEC, SMALL).batches_per_update == 1
    assert SAC(SPEC, dataclasses.replace(SMALL, critic_updates=20)).batches_per_update == 20


def test_reductions_are_over_the_critics() -> None:
    values = torch.tensor([[[[1.0], [5.0]], [[3.0], [1.0]]]])
    assert reduced(values, "min").tolist() == [[[1.0], [1.0]]]
    assert reduced(values, "mean").tolist() == [[[2.0], [3.0]]]


def test_more_critics_for_a_target_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="--num-target-critics is 3, but there are 2 critics"):
        check(dataclasses.replace(SMALL, num_target_critics=3))


def test_the_policy_finds_the_action_that_is_rewarded_and_keeps_its_entropy() -> None:
    settings = dataclasses.replace(
        SMALL,
        hidden_size=64,
        learning_rate=1e-3,
        actor_learning_rate=1e-3,
        target_entropy=-1.5,
        entropy_temperature=0.1,
    )
    algorithm, rng = SAC(SPEC, settings), np.random.default_rng(4)
    best = torch.tensor([0.6, -0.4])
    for _ in range(1000):
        batch = random_batch(rng)
        batch = batch._replace(terminated=torch.ones_like(batch.terminated))
        rewards = -10 * (batch.actions - best).square().sum(-1)
        found = figures(algorithm.update(batch._replace(rewards=rewards)))
    with torch.no_grad():
        actions = algorithm.actor(torch.randn(1, 200, SPEC.observation_dim))
    assert (actions - best).abs().mean() < 0.15
    assert found["actor/entropy"] == pytest.approx(-1.5 * len(best), abs=0.8)


def test_with_the_entropy_in_its_target_q_is_no_return_and_is_not_held_to_be_one() -> None:
    assert SAC(SPEC, SMALL).discount is None
    plain = dataclasses.replace(SMALL, entropy_backup=False)
    assert SAC(SPEC, plain).discount == 0.99
    with pytest.raises(ConfigError, match="--no-entropy-backup"):
        check(dataclasses.replace(SMALL, clip_targets=True))
