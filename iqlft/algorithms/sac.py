"""Soft actor-critic (Haarnoja et al., arXiv:1812.05905), the base of RLPD, WSRL, CQL and Cal-QL.

    y = r + discount (1 - terminated) (min Q_target(s', a') - alpha log pi(a' | s')),  a' ~ pi(s')
    actor: minimise alpha log pi(a | s) - min Q(s, a),  a ~ pi(s)
    temperature: minimise alpha (H - target entropy), where H is the policy's entropy

The order is that of the RLPD authors' code: `critic_updates` updates of the critics, each on
transitions of its own and followed by one of the target critics; then the actor, and then the
temperature, on the last of these batches. Settings (docs/algorithm.md) choose the critics behind a
target, minimum or mean, and whether the target includes the entropy.

Shapes: M members (seeds), E critics, B batch, N actions per state, O observation, A action.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.base import Algorithm
from iqlft.config.algorithms import SACHyperparameters
from iqlft.nn.initialization import orthogonal
from iqlft.nn.networks import Critic, Scalar, SquashedGaussianActor

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics

Settings = TypeVar("Settings", bound=SACHyperparameters)


class SAC(Algorithm[Settings]):
    """Soft actor-critic with E critics."""

    draws = True

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        h, o, a = self.hyperparameters, self.spec.observation_dim, self.spec.action_dim
        self.batches_per_update = h.critic_updates
        width = h.critic_hidden_size or h.hidden_size
        sizes = [width] * (h.critic_hidden_layers or h.hidden_layers)
        norm, output = h.critic_layer_norm, partial(orthogonal, gain=h.output_gain)
        critic = self.mlp(
            o + a, 1, h.num_critics, layer_norm=norm, hidden_sizes=sizes, initial_output=output
        )
        self.critic = self.learned("critic", Critic(critic))
        actor = self.mlp(o, 2 * a, layer_norm=h.actor_layer_norm, initial_output=output)
        self.actor: SquashedGaussianActor = self.learned(
            "actor", SquashedGaussianActor(actor, initial_log_std=h.initial_log_std)
        )
        self.target_critic = self.target("target_critic", self.critic)
        initial = self.observation_mean.new_full(
            (self.num_members,), math.log(h.entropy_temperature)
        )
        self.log_temperature = Scalar(initial)
        if h.learn_temperature:
            self.learned("log_temperature", self.log_temperature)

    def update(self, batch: Batch) -> Metrics:
        """One update of every member."""
        h = self.hyperparameters
        for part in split(batch, h.critic_updates):
            figures = self.update_critic(part)
            self.target_critic.track(self.critic, h.target_update_rate)

        observations = self.normalize(part.observations)
        actions, log_probs = self.actor.sample(observations, self.noise(part))
        values = self.q(self.critic, observations, actions, learn=False)
        values = losses.reduced(values, h.actor_reduction)
        actor_loss = (self.temperature * log_probs - values).mean((-2, -1))
        self.minimize("actor", actor_loss, h.actor_learning_rate)

        entropy = -log_probs.detach().mean((-2, -1))
        figures |= self.update_temperature(entropy)
        self.updates += 1
        return {"actor/loss": actor_loss, "actor/entropy": entropy, **figures}

    def update_critic(self, batch: Batch) -> Metrics:
        """One step of the critics."""
        observations, actions = self.normalize(batch.observations), batch.actions.unsqueeze(2)
        values = self.q(self.critic, observations, actions).squeeze(-1)
        loss = losses.critic_loss(values, self.targets(batch))
        self.minimize("critic", loss, self.hyperparameters.learning_rate)
        return {"critic/loss": loss, "critic/q": values.detach()}

    def update_temperature(self, entropy: Tensor) -> Metrics:
        """One step of the temperature towards the target entropy, if it is learned."""
        h, temperature = self.hyperparameters, self.log_temperature().exp()
        figures: Metrics = {"temperature/value": temperature.detach()}
        if h.learn_temperature:
            loss = temperature * (entropy - h.target_entropy * self.spec.action_dim)
            self.minimize("log_temperature", loss, h.actor_learning_rate)
            figures["temperature/loss"] = loss
        return figures

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Targets y `(M, B)`, at the best of `target_actions` actions drawn from pi(s')."""
        h, next_observations = self.hyperparameters, self.normalize(batch.next_observations)
        noise = self.noise(batch, h.target_actions)
        actions, log_probs = self.actor.sample(next_observations, noise)
        values = self.q(self.drawn(self.target_critic), next_observations, actions)
        next_values = losses.reduced(values, h.target_reduction)
        if h.entropy_backup:
            next_values = next_values - self.temperature * log_probs
        next_values = next_values.amax(-1)
        return self.clipped(batch.rewards + h.discount * (1 - batch.terminated) * next_values)

    @property
    def temperature(self) -> Tensor:
        """Alpha `(M, 1, 1)`."""
        return self.log_temperature().detach().exp().view(-1, 1, 1)

    def q(
        self, critic: Critic, observations: Tensor, actions: Tensor, *, learn: bool = True
    ) -> Tensor:
        """Q `(M, E, B, N)` of N actions of each state.

        Args:
            critic: the critic to evaluate.
            observations: `(M, B, O)`, normalised.
            actions: `(M, B, N, A)`.
            learn: whether a gradient reaches the critic.
        """
        batch, count = actions.shape[1:3]
        states = observations.unsqueeze(2).expand(-1, -1, count, -1)
        pairs = torch.cat([states, actions], -1).flatten(1, 2)
        return critic(pairs, learn=learn).view(len(pairs), -1, batch, count)

    def drawn(self, critic: Critic) -> Critic:
        """The critics that a target uses: `num_target_critics` random ones per member, or all."""
        h = self.hyperparameters
        if h.num_target_critics in (0, h.num_critics):
            return critic
        orders = [torch.randperm(h.num_critics, generator=each) for each in self.generators]
        which = torch.stack(orders)[:, : h.num_target_critics]
        return critic.chosen(which.to(self.observation_mean.device))

    def noise(self, batch: Batch, count: int = 1) -> Tensor:
        """Standard normals `(M, B, N, A)` for N = `count` actions per transition."""
        return self.normal((batch.actions.shape[1], count, self.spec.action_dim))

    @property
    def discount(self) -> float | None:
        """The discount; None with the entropy in the target: Q estimates more than returns."""
        return None if self.hyperparameters.entropy_backup else self.hyperparameters.discount

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The minimum or mean (`target_reduction`) of all target critics."""
        states, pairs = self.normalize(observations), actions.unsqueeze(2)
        values = self.q(self.target_critic, states, pairs).squeeze(-1)
        return losses.reduced(values, self.hyperparameters.target_reduction)


def split(batch: Batch, count: int) -> list[Batch]:
    """Splits a batch into `count`, taking turns: old and new data may lie in separate blocks."""

    def part(first: int) -> Batch:
        return batch.map(lambda each: each[:, first::count])

    return [part(index) for index in range(count)]
