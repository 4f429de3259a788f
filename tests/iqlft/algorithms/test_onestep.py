"""One-step RL as IQL with the expectile 0.5."""

import dataclasses

import numpy as np
import pytest
import torch
import tyro

from iqlft.algorithms.base import Batch
from iqlft.algorithms.iql import IQL
from iqlft.algorithms.onestep import OneStep
from iqlft.config.algorithms import IQLHyperparameters, OneStepHyperparameters
from numpy_networks import ACTION_DIM, BATCH, OBSERVATION_DIM, SPEC, figures, random_batch

SMALL = OneStepHyperparameters(hidden_size=12, batch_size=BATCH)


def with_one_critic(algorithm: IQL) -> IQL:
    """The same after both of its critics became one, so that their minimum is their mean."""
    for critic in (algorithm.critic, algorithm.target_critic):
        for each in (*critic.mlp.weights, *critic.mlp.biases):
            each[1::2] = each[0::2]  # Members have their two critics side by side.
        critic.changed()
    return algorithm


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_with_one_critic_it_equals_iql_at_the_expectile_one_half_bit_for_bit(
    dropout: float,
) -> None:
    rng = np.random.default_rng(0)
    settings = IQLHyperparameters(hidden_size=12, batch_size=BATCH, dropout=dropout, expectile=0.5)
    iql = with_one_critic(IQL(SPEC, settings, (0, 1)))
    ours = with_one_critic(OneStep(SPEC, dataclasses.replace(SMALL, dropout=dropout), (0, 1)))
    for _ in range(5):
        batch = random_batch(rng, 2)
        ours.update(batch)
        iql.update(batch)
    for member in range(2):
        theirs = iql.state(member)
        for key, tensor in ours.state(member).items():
            assert torch.equal(tensor, theirs[key]), key


def test_q_is_the_mean_of_the_target_critics() -> None:
    algorithm, batch = OneStep(SPEC, SMALL), random_batch(np.random.default_rng(2))
    pairs = torch.cat([algorithm.normalize(batch.observations), batch.actions], -1)
    first, second = algorithm.target_critic.forward(pairs)[0]
    assert (first - second).abs().max() > 0.1
    found = algorithm.q_values(batch.observations, batch.actions)[0]
    torch.testing.assert_close(found, (first + second) / 2)


def fitted_value(kind: type[IQL], settings: IQLHyperparameters) -> tuple[float, torch.Tensor]:
    """V of one observation, after it has met 64 actions whose Q stays as it is; and those Q."""
    settings = dataclasses.replace(settings, learning_rate=3e-3, target_update_rate=0.0)
    algorithm, generator = kind(SPEC, settings), torch.Generator().manual_seed(0)
    observations = torch.ones(1, 64, OBSERVATION_DIM)
    actions = torch.rand(1, 64, ACTION_DIM, generator=generator) * 2 - 1
    zeros = torch.zeros(1, 64)
    for _ in range(1000):
        algorithm.update(Batch(observations, actions, zeros, observations, zeros))
    return algorithm.values(observations)[0, 0].item(), algorithm.q_values(observations, actions)


def test_v_tends_to_the_mean_of_q_over_the_data_s_actions() -> None:
    value, q = fitted_value(OneStep, SMALL)
    assert q.std() > 0.1
    assert value == pytest.approx(q.mean().item(), abs=1e-3)
    upper, q = fitted_value(IQL, IQLHyperparameters(hidden_size=12, batch_size=BATCH))
    assert upper > q.mean().item() + 0.5 * q.std().item()


def test_its_value_loss_is_half_the_squared_error() -> None:
    algorithm = OneStep(SPEC, SMALL)
    batch = random_batch(np.random.default_rng(1))
    q = algorithm.q_values(batch.observations, batch.actions)
    expected = 0.5 * (q - algorithm.values(batch.observations)).square().mean().item()
    assert figures(algorithm.update(batch))["value/loss"] == pytest.approx(expected, rel=1e-5)


def test_the_expectile_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert tyro.cli(OneStepHyperparameters, args=["--dropout", "0.1"]).expectile == 0.5
    with pytest.raises(SystemExit):
        tyro.cli(OneStepHyperparameters, args=["--expectile", "0.7"])
    assert "expectile" in capsys.readouterr().err
