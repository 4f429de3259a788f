"""Conservative Q-learning (Kumar, Zhou, Tucker, Levine, arXiv:2006.04779), on soft actor-critic.

The critics' loss has a penalty, which pushes Q down at proposed actions and up at the data's:

    alpha' w (log sum exp (Q(s, a_i) - log p(a_i)) - Q(s, a) - gap)

with weight w, and N actions a_i from each of the uniform distribution, pi(s) and pi(s'), of
densities p. The multiplier alpha' is learned (`lagrange`), so that the difference tends to the
target gap, or it is 1. Defaults are CORL's settings for AntMaze (docs/algorithm.md compares).

Shapes: M members (seeds), E critics, B batch, N actions per state, O observation, A action.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.sac import SAC
from iqlft.config.algorithms import CQLHyperparameters
from iqlft.nn.networks import Scalar

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics

Settings = TypeVar("Settings", bound=CQLHyperparameters)
INITIAL_LOG_ALPHA_PRIME, ALPHA_PRIME_MAX = 1.0, 1e6
"""Initial logarithm of the multiplier, and upper bound of the multiplier (CORL)."""


class CQL(SAC[Settings]):
    """Soft actor-critic with conservative critics."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        if self.hyperparameters.lagrange:
            initial = torch.full_like(self.log_temperature(), INITIAL_LOG_ALPHA_PRIME)
            self.log_alpha_prime = self.learned("log_alpha_prime", Scalar(initial.detach()))

    def update_critic(self, batch: Batch) -> Metrics:
        """One step of the critics, and of the penalty's multiplier."""
        h, observations = self.hyperparameters, self.normalize(batch.observations)
        actions, log_densities = self.proposals(batch)
        every = torch.cat([batch.actions.unsqueeze(2), actions], 2)
        values, proposed = self.q(self.critic, observations, every).tensor_split((1,), -1)
        values = values.squeeze(-1)
        proposed, figures = self.calibrated(proposed, batch)
        gap = (proposed - log_densities.unsqueeze(1)).logsumexp(-1) - values
        gap = gap.clamp(min=-math.inf if h.gap_min is None else h.gap_min).mean(-1)

        weight = self.penalty_weight()
        bellman = losses.critic_loss(values, self.targets(batch))
        loss = bellman + (weight.detach() * (gap - h.target_gap)).sum(-1)
        self.minimize("critic", loss, h.learning_rate)
        if h.lagrange:
            multiplier_loss = -(weight * (gap.detach() - h.target_gap)).mean(-1)
            self.minimize("log_alpha_prime", multiplier_loss, h.learning_rate)
        return {
            "critic/loss": loss.detach(),
            "critic/bellman_loss": bellman.detach(),
            "critic/q": values.detach(),
            "critic/gap": gap.detach(),
            "critic/penalty_weight": weight.detach(),
            **figures,
        }

    @torch.no_grad()
    def proposals(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Actions `(M, B, 3N, A)`, uniform, of pi(s) and of pi(s'); log-densities `(M, B, 3N)`."""
        size, count = batch.actions.shape[1], self.hyperparameters.sampled_actions
        uniform = self.uniform((size, count, self.spec.action_dim))
        own, own_log = self.actor.sample(
            self.normalize(batch.observations), self.noise(batch, count)
        )
        following, following_log = self.actor.sample(
            self.normalize(batch.next_observations), self.noise(batch, count)
        )
        uniform_log = torch.full_like(own_log, -self.spec.action_dim * math.log(2))
        log_densities = torch.cat([uniform_log, own_log, following_log], -1)
        return torch.cat([uniform, own, following], 2), log_densities

    def calibrated(self, proposed: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
        """The values `(M, E, B, 3N)` of proposed actions that the penalty uses, and metrics."""
        del batch
        return proposed, {}

    def penalty_weight(self) -> Tensor:
        """The weight alpha' w `(M, 1)`, differentiable in the multiplier where that is learned."""
        h = self.hyperparameters
        if not h.lagrange:
            return torch.full_like(self.log_temperature(), h.penalty_weight).unsqueeze(-1)
        multiplier = self.log_alpha_prime().exp().clamp(max=ALPHA_PRIME_MAX)
        return h.penalty_weight * multiplier.unsqueeze(-1)
