"""Advantage-weighted actor-critic (Nair, Gupta, Dalal, Levine, arXiv:2006.09359).

The critics evaluate the actor's own actions; the actor regresses onto the data's actions, each
weighted by its advantage over an action of the actor:

    y = r + discount (1 - terminated) min Q_target(s', a'),  a' ~ pi(s')
    w = min(exp((min Q(s, a) - min Q(s, a_pi)) / lambda), 100),  a_pi ~ pi(s)

The order is critics, actor, targets; the advantage uses the critics just updated. Settings
are those of CORL for AntMaze (docs/algorithm.md compares): lambda 0.1, three hidden layers of 256,
a state-independent log_std within [-20, 2], a mean that is not squashed, and sampled actions
clipped to [-1, 1]; observations standardised; PyTorch's initial weights. CORL's AWAC runs score 0
after fine-tuning on five of six AntMaze tasks.

Shapes: M members (seeds), E critics, B batch, O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.base import Algorithm
from iqlft.config.algorithms import AWACHyperparameters
from iqlft.nn.initialization import uniform
from iqlft.nn.networks import Critic, GaussianActor

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics

NUM_CRITICS = 2
"""E: clipped double Q-learning uses two critics."""
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Bounds of the log standard deviation (CORL)."""


class AWAC(Algorithm[AWACHyperparameters]):
    """Advantage-weighted actor-critic."""

    draws = True

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        o, a = self.spec.observation_dim, self.spec.action_dim
        norm = self.hyperparameters.critic_layer_norm
        critic = self.mlp(o + a, 1, NUM_CRITICS, layer_norm=norm, initial=uniform)
        self.critic = self.learned("critic", Critic(critic))
        mlp = self.mlp(o, a, initial=uniform)
        actor = GaussianActor(
            mlp, log_std_min=LOG_STD_MIN, log_std_max=LOG_STD_MAX, tanh_mean=False
        )
        self.actor: GaussianActor = self.learned("actor", actor)
        self.target_critic = self.target("target_critic", self.critic)

    def update(self, batch: Batch) -> Metrics:
        """One update of every member (paper, Algorithm 1)."""
        h = self.hyperparameters
        observations = self.normalize(batch.observations)
        next_observations = self.normalize(batch.next_observations)
        pairs = torch.cat([observations, batch.actions], -1)

        with torch.no_grad():
            next_pairs = torch.cat([next_observations, self._sample(next_observations)], -1)
            next_values = self.target_critic(next_pairs).amin(1)
            targets = batch.rewards + h.discount * (1 - batch.terminated) * next_values
            targets = self.clipped(targets)
        critic_loss = losses.critic_loss(self.critic(pairs), targets)
        self.minimize("critic", critic_loss, h.learning_rate)

        with torch.no_grad():
            values = self.critic(pairs).amin(1)
            own = self.critic(torch.cat([observations, self._sample(observations)], -1)).amin(1)
            weights = losses.advantage_weights(values - own, h.inverse_temperature)
        actor_loss = losses.actor_loss(*self.actor(observations), batch.actions, weights)
        self.minimize("actor", actor_loss, h.learning_rate)

        self.target_critic.track(self.critic, h.target_update_rate)
        self.updates += 1
        return {
            "critic/loss": critic_loss,
            "actor/loss": actor_loss,
            "critic/q": values,
            "actor/advantage": lambda: values - own,
            "actor/advantage_weight": weights,
            "actor/clipped_share": lambda: weights >= losses.ADVANTAGE_WEIGHT_MAX,
            "actor/log_std": self.actor.log_std,
        }

    def _sample(self, observations: Tensor) -> Tensor:
        """Actions `(M, B, A)` drawn from the actor, clipped as workers execute them."""
        mean, log_std = self.actor(observations)
        noise = self.normal(mean.shape[1:])
        return (mean + log_std.exp() * noise).clamp(-1, 1)

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The minimum of the target critics."""
        pairs = torch.cat([self.normalize(observations), actions], -1)
        return self.target_critic(pairs).amin(1)

    @property
    def clipped_advantage(self) -> float | None:
        """The A at which exp(A / lambda) reaches its bound; None if it does not grow with A."""
        return losses.clipped_advantage(self.hyperparameters.inverse_temperature)
