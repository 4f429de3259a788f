"""Flow Q-learning (Park, Li and Levine, ICML 2025, arXiv:2502.02538).

A flow is trained to turn noise into the data's actions, and a one-step policy to do in one pass
what the flow does in ten, and to raise Q:

    flow: minimise |v(t, s, x_t) - (a - z)|^2,  x_t = (1 - t) z + t a,  t ~ U[0, 1)
    actor: minimise alpha |pi(s, z) - flow(s, z)|^2 - Q(s, pi(s, z))
    y = r + discount (1 - terminated) mean Q_target(s', pi(s', z'))

with z standard normal, and flow(s, z) the end of the ODE dx/dt = v(t, s, x) from x = z by Euler's
method. No gradient passes through the ODE. Workers run the one-step policy alone. All losses are of
the parameters before the update. Settings are the authors' for AntMaze, where alpha is 3 in large
mazes.

Shapes: M members (seeds), E critics, B batch, O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.base import Algorithm
from iqlft.config.algorithms import FQLHyperparameters
from iqlft.nn.initialization import xavier
from iqlft.nn.networks import Critic, OneStepFlowActor, VelocityField

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics

NUM_CRITICS = 2
"""E, the authors' number of critics."""


class FQL(Algorithm[FQLHyperparameters]):
    """Q-learning with a policy that is distilled from a flow."""

    draws = True

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        o, a = self.spec.observation_dim, self.spec.action_dim
        norm = self.hyperparameters.critic_layer_norm
        critic = self.mlp(o + a, 1, NUM_CRITICS, layer_norm=norm, initial=xavier)
        self.critic = self.learned("critic", Critic(critic))
        self.flow = self.learned("flow", VelocityField(self.mlp(o + a + 1, a, initial=xavier)))
        actor = OneStepFlowActor(self.mlp(o + a, a, initial=xavier))
        self.actor: OneStepFlowActor = self.learned("actor", actor)
        self.target_critic = self.target("target_critic", self.critic)

    def update(self, batch: Batch) -> Metrics:
        """One update of every member (paper, Algorithm 1)."""
        h = self.hyperparameters
        observations, targets = self.normalize(batch.observations), self._targets(batch)
        noise = self._noise(batch)
        cloned = self.flow.integrate(observations, noise, h.flow_steps).clamp(-1, 1)
        flow_loss = self._flow_loss(observations, batch.actions)
        self.minimize("flow", flow_loss, h.learning_rate)

        actions = self.actor(observations, noise)
        distillation = (actions - cloned).square().mean((-2, -1))
        pairs = torch.cat([observations, actions.clamp(-1, 1)], -1)
        own = self.critic(pairs, learn=False).mean(1)
        scale = 1 / own.detach().abs().mean(-1) if h.normalize_q else 1.0
        actor_loss = h.alpha * distillation - scale * own.mean(-1)
        self.minimize("actor", actor_loss, h.learning_rate)

        values = self.critic(torch.cat([observations, batch.actions], -1))
        critic_loss = losses.critic_loss(values, targets)
        self.minimize("critic", critic_loss, h.learning_rate)
        self.target_critic.track(self.critic, h.target_update_rate)
        self.updates += 1
        return {
            "critic/loss": critic_loss,
            "actor/loss": actor_loss,
            "actor/distillation_loss": distillation,
            "flow/loss": flow_loss,
            "critic/q": values.detach(),
        }

    def _flow_loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Squared error `(M,)` of the velocity on straight lines from noise to actions (eq. 4)."""
        noise, times = self.normal(actions.shape[1:]), (self.uniform((actions.shape[1], 1)) + 1) / 2
        velocity = self.flow(observations, torch.lerp(noise, actions, times), times)
        return (velocity - (actions - noise)).square().mean((-2, -1))

    @torch.no_grad()
    def _targets(self, batch: Batch) -> Tensor:
        """Targets y `(M, B)`, at an action of the one-step policy."""
        h, next_observations = self.hyperparameters, self.normalize(batch.next_observations)
        actions = self.actor(next_observations, self._noise(batch)).clamp(-1, 1)
        values = self.target_critic(torch.cat([next_observations, actions], -1))
        next_values = losses.reduced(values, h.target_reduction)
        return self.clipped(batch.rewards + h.discount * (1 - batch.terminated) * next_values)

    def _noise(self, batch: Batch) -> Tensor:
        """Standard normals `(M, B, A)`."""
        return self.normal(batch.actions.shape[1:])

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The mean or minimum (`target_reduction`) of the target critics."""
        pairs = torch.cat([self.normalize(observations), actions], -1)
        return losses.reduced(self.target_critic(pairs), self.hyperparameters.target_reduction)
