"""The losses against hand-computed arithmetic, and their gradients against autograd."""

import math

import pytest
import torch
from torch import Tensor

from iqlft.algorithms.iql import actor_gradients, critic_gradient, expectile_gradient
from iqlft.algorithms.losses import (
    actor_loss,
    advantage_weights,
    critic_loss,
    expectile_loss,
    gaussian_log_prob,
)

MEMBERS, CRITICS, BATCH, ACTIONS = 3, 2, 7, 4


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_expectile_loss_weights_positive_differences_by_tau_and_negative_ones_by_the_rest() -> None:
    difference = torch.tensor([[2.0, -1.0]])
    # tau = 0.9: 0.9 * 2^2 = 3.6 and 0.1 * 1^2 = 0.1, mean (3.6 + 0.1) / 2.
    assert expectile_loss(difference, 0.9).tolist() == pytest.approx([1.85])


def test_expectile_loss_at_one_half_is_half_the_squared_error() -> None:
    difference = torch.tensor([[3.0, -3.0], [1.0, 0.0]])
    assert expectile_loss(difference, 0.5).tolist() == pytest.approx([4.5, 0.25])


def test_advantage_weights_are_exponentials_clipped_at_one_hundred() -> None:
    weights = advantage_weights(torch.tensor([[0.0, 0.1, 1.0]]), 10.0)
    assert weights.tolist()[0] == pytest.approx([1.0, math.e, 100.0])


def test_log_prob_is_that_of_the_gaussian_summed_over_action_dimensions() -> None:
    mean, actions = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[0.5, 2.0]]])
    log_std = torch.tensor([[[0.0, math.log(2.0)]]])
    # -log(sqrt(2 pi)) - 0 for the first; -1/2 (2 / 2)^2 - log 2 - log(sqrt(2 pi)) for the second.
    expected = -math.log(2 * math.pi) - 0.5 - math.log(2.0)
    assert gaussian_log_prob(mean, log_std, actions).item() == pytest.approx(expected)


def test_critic_loss_is_a_mean_over_the_batch_and_a_sum_over_the_critics() -> None:
    values = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
    targets = torch.tensor([[0.0, 1.0]])
    # First critic (1 + 1) / 2 = 1, second (0 + 1) / 2 = 0.5.
    assert critic_loss(values, targets).tolist() == pytest.approx([1.5])


# -- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9, 1.0])
def test_the_value_s_gradient_is_autograd_s(expectile: float) -> None:
    q, v = normal(MEMBERS, BATCH), normal(MEMBERS, BATCH)
    expectile_loss(q - v, expectile).sum().backward()
    torch.testing.assert_close(expectile_gradient(q - v, expectile), v.grad)


def test_the_actor_s_gradients_are_autograd_s() -> None:
    mean, log_std = normal(MEMBERS, BATCH, ACTIONS), normal(MEMBERS, 1, ACTIONS)
    actions, weights = normal(MEMBERS, BATCH, ACTIONS), normal(MEMBERS, BATCH).abs()
    actor_loss(mean, log_std, actions, weights).sum().backward()
    to_mean, to_log_std = actor_gradients(mean, log_std, actions, weights)
    torch.testing.assert_close(to_mean, mean.grad)
    torch.testing.assert_close(to_log_std, log_std.grad)


def test_the_critics_gradient_is_autograd_s() -> None:
    values, targets = normal(MEMBERS, CRITICS, BATCH), normal(MEMBERS, BATCH)
    critic_loss(values, targets).sum().backward()
    torch.testing.assert_close(critic_gradient(values, targets), values.grad)
