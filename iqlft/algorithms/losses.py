"""Losses that algorithms share, and what they are made of: pure functions of tensors.

Shapes: M members (seeds), E critics, B batch, A action.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from iqlft.config.algorithms import Reduction

ADVANTAGE_WEIGHT_MAX = 100.0
"""Upper bound of the exponentiated advantage (the code of IQL's authors)."""


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared loss L_2^tau(u) (IQL, eq. 5).

    Args:
        difference: u = Q(s, a) - V(s), `(M, B)`.
        expectile: tau; 0.5 gives half the squared error, 1 approaches the maximum over actions.

    Returns:
        `(M,)` mean over the batch.
    """
    return (expectile_weighted(difference, expectile) * difference).mean(-1)


def expectile_weighted(difference: Tensor, expectile: float) -> Tensor:
    """|tau - 1(u < 0)| u: tau u where u is positive, (1 - tau) u where it is negative."""
    return functional.leaky_relu(difference, (1 - expectile) / expectile) * expectile


def advantage_weights(advantage: Tensor, inverse_temperature: float) -> Tensor:
    """min(exp(beta * A), 100) of the advantages `(M, B)` (IQL, eq. 7)."""
    return (advantage * inverse_temperature).exp_().clamp_(max=ADVANTAGE_WEIGHT_MAX)


def clipped_advantage(inverse_temperature: float) -> float | None:
    """The advantage above which its weight is clipped; None where weights do not grow with it."""
    return math.log(ADVANTAGE_WEIGHT_MAX) / inverse_temperature if inverse_temperature > 0 else None


def gaussian_log_prob(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """Log pi(a | s) of a diagonal Gaussian, summed over the action's dimensions.

    Args:
        mean: `(M, B, A)`.
        log_std: `(M, 1, A)`.
        actions: `(M, B, A)`.

    Returns:
        `(M, B)`.
    """
    standardized = (actions - mean) * torch.exp(-log_std)
    per_dimension = -0.5 * standardized.square() - log_std - 0.5 * math.log(2 * math.pi)
    return per_dimension.sum(-1)


def actor_loss(mean: Tensor, log_std: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
    """Weighted negative log-likelihood of the actions (IQL, eq. 7).

    Args:
        mean: `(M, B, A)`.
        log_std: `(M, 1, A)`.
        actions: `(M, B, A)`.
        weights: `advantage_weights`, `(M, B)`.

    Returns:
        `(M,)` mean over the batch.
    """
    return -(weights * gaussian_log_prob(mean, log_std, actions)).mean(-1)


def critic_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Squared error of the critics (IQL, eq. 6): mean over the batch, sum over the critics.

    Args:
        values: Q(s, a), `(M, E, B)`.
        targets: y, `(M, B)`; in IQL r + discount * (1 - terminated) * V(s').

    Returns:
        `(M,)`.
    """
    return (values - targets.unsqueeze(1)).square().mean(-1).sum(-1)


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """The minimum or the mean of the critics' values `(M, E, ...)`."""
    return values.amin(1) if reduction == "min" else values.mean(1)
