"""TD3+BC (Fujimoto and Gu, NeurIPS 2021, arXiv:2106.06860): TD3 whose actor also clones the data.

    y = r + discount (1 - terminated) min Q_target(s', a'),  a' = pi_target(s') + clipped noise
    actor: maximise alpha Q_1(s, pi(s)) / mean |Q_1(s, pi(s))| - (pi(s) - a)^2

Actor and targets are updated at every second update. Settings are the authors' for locomotion, with
standardised observations and PyTorch's initial weights; they give none for AntMaze, where the same
settings are used. Online the actor explores with Gaussian noise of standard deviation 0.1, as TD3
does.

Shapes: M members (seeds), E critics, B batch, O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.base import Algorithm
from iqlft.config.algorithms import TD3BCHyperparameters
from iqlft.nn.initialization import uniform
from iqlft.nn.networks import Critic, DeterministicActor

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics

NUM_CRITICS = 2
"""E: clipped double Q-learning uses two critics."""


class TD3BC(Algorithm[TD3BCHyperparameters]):
    """TD3 with a behaviour-cloning term."""

    draws = True

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        o, a = self.spec.observation_dim, self.spec.action_dim
        norm = self.hyperparameters.critic_layer_norm
        critic = self.mlp(o + a, 1, NUM_CRITICS, layer_norm=norm, initial=uniform)
        self.critic = self.learned("critic", Critic(critic))
        mlp = self.mlp(o, a, initial=uniform)
        actor = DeterministicActor(mlp, self.hyperparameters.exploration_noise)
        self.actor: DeterministicActor = self.learned("actor", actor)
        self.target_critic = self.target("target_critic", self.critic)
        self.target_actor = self.target("target_actor", self.actor)
        # The loss of the actor's last update, since not every update of the critics has one.
        self._actor_loss = torch.zeros_like(self.observation_mean[:1]).repeat(self.num_members)

    def update(self, batch: Batch) -> Metrics:
        """One update of every member (paper, Algorithm 1 of TD3 with eq. 5)."""
        h = self.hyperparameters
        observations = self.normalize(batch.observations)
        pairs = torch.cat([observations, batch.actions], -1)
        targets = self._targets(batch)
        values = self.critic(pairs)
        critic_loss = losses.critic_loss(values, targets)
        self.minimize("critic", critic_loss, h.learning_rate)

        self.updates += 1
        if self.updates % h.policy_delay == 0:
            actions = self.actor(observations)
            own = self.critic(torch.cat([observations, actions], -1), learn=False)[:, 0]
            scale = h.alpha / own.detach().abs().mean(-1)
            cloning = (actions - batch.actions).square().mean((-2, -1))
            loss = cloning - scale * own.mean(-1)
            self.minimize("actor", loss, h.learning_rate)
            self._actor_loss = loss.detach()
            self.target_critic.track(self.critic, h.target_update_rate)
            self.target_actor.track(self.actor, h.target_update_rate)
        return {
            "critic/loss": critic_loss,
            "actor/loss": self._actor_loss,
            "critic/q": values.detach(),
        }

    @torch.no_grad()
    def _targets(self, batch: Batch) -> Tensor:
        """Targets y `(M, B)`, with the smaller target critic at the target actor's noisy action."""
        h, next_observations = self.hyperparameters, self.normalize(batch.next_observations)
        actions = self.target_actor(next_observations)
        noise = (h.policy_noise * self.normal(actions.shape[1:])).clamp(-h.noise_clip, h.noise_clip)
        next_pairs = torch.cat([next_observations, (actions + noise).clamp(-1, 1)], -1)
        next_values = self.target_critic(next_pairs).amin(1)
        targets = batch.rewards + h.discount * (1 - batch.terminated) * next_values
        return self.clipped(targets)

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The minimum of the target critics."""
        pairs = torch.cat([self.normalize(observations), actions], -1)
        return self.target_critic(pairs).amin(1)

    def extra_tensors(self) -> dict[str, Tensor]:
        """The actor's last loss, so that its metric resumes too."""
        return {"actor_loss": self._actor_loss}
