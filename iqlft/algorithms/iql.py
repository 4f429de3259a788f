"""Implicit Q-Learning (Kostrikov, Nair, Levine, ICLR 2022, arXiv:2110.06169).

Where public implementations disagree, this one follows the authors' fine-tuning configuration: the
advantage uses the minimum of both *target* critics and the value *after* its update; the critic
loss is a mean over the batch and a sum over the two critics; log_std is clipped to [-5, 2]; the
actor's learning rate is constant when fine-tuning follows; `inverse_temperature` is the paper's
beta, which other implementations call temperature.

Shapes: M members (seeds), E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.base import Algorithm
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.nn.networks import Critic, GaussianActor, Value
from iqlft.nn.stacked_mlp import Dropout

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics

NUM_CRITICS = 2
"""E: clipped double Q-learning uses two critics."""


class IQL(Algorithm[IQLHyperparameters]):
    """Implicit Q-Learning: V is an expectile of Q over the data's actions; no others are queried.

    The gradients are written out, which saves 13 % of an update on a CPU; a test compares them
    with autograd's gradients of the losses.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        h, o, a = self.hyperparameters, self.spec.observation_dim, self.spec.action_dim
        if h.scheduled and self.spec.num_updates is None:
            raise ValueError("A cosine schedule needs num_updates, the length of its way to 0.")
        norm = h.critic_layer_norm
        self.value = self.learned("value", Value(self.mlp(o, 1, layer_norm=norm)))
        critic = Critic(self.mlp(o + a, 1, NUM_CRITICS, layer_norm=norm))
        self.critic = self.learned("critic", critic)
        self.actor: GaussianActor = self.learned("actor", GaussianActor(self.mlp(o, a)))
        self.target_critic = self.target("target_critic", self.critic)
        self._dropout = Dropout(h.dropout, self.hidden_sizes, self.generators)
        self.draws = h.dropout > 0

    @torch.no_grad()
    def update(self, batch: Batch) -> Metrics:
        """One update of every member (paper, Algorithm 1; one batch for all networks)."""
        h, batch_size = self.hyperparameters, batch.rewards.shape[1]
        both = self.normalize(torch.cat([batch.observations, batch.next_observations], 1))
        observations = both[:, :batch_size]
        pairs = torch.cat([observations, batch.actions], -1)

        target_values = self.target_q(pairs)
        difference = target_values - self.value.forward(observations, learn=True)
        self.value.backward(expectile_gradient(difference, h.expectile))
        self.descend("value", h.learning_rate)

        values, next_values = self.value.forward(both).chunk(2, -1)
        weights = losses.advantage_weights(target_values - values, h.inverse_temperature)
        masks = self._dropout.masks(observations)
        policy = *self.actor.forward(observations, masks, learn=True), batch.actions
        self.actor.backward(*actor_gradients(*policy, weights))
        self.descend("actor", self._actor_learning_rate())

        targets = batch.rewards + h.discount * (1 - batch.terminated) * next_values
        targets = self.clipped(targets)
        critic_values = self.critic.forward(pairs, learn=True)
        self.critic.backward(critic_gradient(critic_values, targets))
        self.descend("critic", h.learning_rate)

        self.target_critic.track(self.critic, h.target_update_rate)
        self.updates += 1
        return {
            "value/loss": lambda: losses.expectile_loss(difference, h.expectile),
            "actor/loss": lambda: losses.actor_loss(*policy, weights),
            "critic/loss": lambda: losses.critic_loss(critic_values, targets),
            "critic/q": target_values,
            "value/mean": values,
            "actor/advantage": lambda: target_values - values,
            "actor/advantage_weight": weights,
            "actor/clipped_share": lambda: weights >= losses.ADVANTAGE_WEIGHT_MAX,
            "actor/log_std": self.actor.log_std,
        }

    def target_q(self, pairs: Tensor) -> Tensor:
        """Clipped double Q `(M, B)` of `pairs`, normalised observations and actions side by side.

        The minimum of the two target critics counteracts overestimation.
        """
        return self.target_critic.forward(pairs).amin(1)

    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q as the losses of V and the actor use it, see `target_q`."""
        return self.target_q(torch.cat([self.normalize(observations), actions], -1))

    def values(self, observations: Tensor) -> Tensor:
        """V of observations."""
        return self.value.forward(self.normalize(observations))

    @property
    def clipped_advantage(self) -> float | None:
        """The A at which exp(beta A) reaches its bound; None if it does not grow with A."""
        return losses.clipped_advantage(self.hyperparameters.inverse_temperature)

    def is_uniform(self, *, online: bool) -> bool:
        """False with dropout, and while a cosine changes the actor's learning rate."""
        constant = {"constant", "cosine"} if online else {"constant"}
        return not self.draws and self.hyperparameters.actor_schedule in constant

    def _actor_learning_rate(self) -> float:
        h = self.hyperparameters
        over = self.online and h.actor_schedule == "cosine"
        if h.actor_schedule == "constant" or over:
            return h.learning_rate
        progress = self.updates / (self.spec.num_updates or 1)
        if h.actor_schedule == "cosine":
            progress = min(1.0, progress)  # Beyond 1 the cosine would climb again.
        return h.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def expectile_gradient(difference: Tensor, expectile: float) -> Tensor:
    """Gradient `(M, B)` of the mean `expectile_loss` with respect to V(s)."""
    return losses.expectile_weighted(difference, expectile) * (-2 / difference.shape[-1])


def actor_gradients(
    mean: Tensor, log_std: Tensor, actions: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `actor_loss` with respect to mean `(M, B, A)` and log std `(M, 1, A)`."""
    inverse_std = torch.exp(-log_std)
    standardized = (actions - mean) * inverse_std
    share = weights.unsqueeze(-1) * (-1 / weights.shape[-1])
    weighted = share * standardized
    log_std_gradient = torch.addcmul(-share, weighted, standardized).sum(1, keepdim=True)
    return weighted * inverse_std, log_std_gradient


def critic_gradient(values: Tensor, targets: Tensor) -> Tensor:
    """Gradient `(M, E, B)` of `critic_loss` with respect to the values."""
    return (values - targets.unsqueeze(1)) * (2 / values.shape[-1])
