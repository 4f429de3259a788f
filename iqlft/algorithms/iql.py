"""Implicit Q-Learning (Kostrikov, Nair, Levine, ICLR 2022, arXiv:2110.06169).

Where public implementations disagree, this one follows the authors' fine-tuning configuration: the
advantage uses the minimum of both *target* critics and the value *after* its update; the critic
loss is a mean over the batch and a sum over the two critics; log_std is clipped to [-5, 2]; the
actor's learning rate is constant when fine-tuning follows; "inverse temperature" is the paper's
beta, which others call temperature.

Shapes: M members (seeds), E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.nn.adam import Adam
from iqlft.nn.networks import NUM_CRITICS, Actor, Critic, Value
from iqlft.nn.stacked_mlp import Dropout, StackedMLP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iqlft.config.algorithms import IQLHyperparameters
    from iqlft.training.replay import Batch
    from iqlft_workers.actor import ActorWeights


class UpdateResult(NamedTuple):
    """What one update computed, left on the device; `metrics` reduces it when somebody looks.

    Attributes:
        difference: `(M, B)` min of both target critics - V(s), before V's update.
        target_values: `(M, B)` min of both target critics.
        values: `(M, B)` V(s) after its update.
        weights: `(M, B)` clipped advantage weights.
        policy: the actor's mean `(M, B, A)`, log std `(M, 1, A)`, and the actions `(M, B, A)`.
        critic_values: `(M, E, B)`.
        critic_targets: `(M, B)`.
        expectile: tau.
    """

    difference: Tensor
    target_values: Tensor
    values: Tensor
    weights: Tensor
    policy: tuple[Tensor, Tensor, Tensor]
    critic_values: Tensor
    critic_targets: Tensor
    expectile: float

    @property
    def value_loss(self) -> Tensor:
        """`(M,)`."""
        return losses.expectile_loss(self.difference, self.expectile)

    @property
    def actor_loss(self) -> Tensor:
        """`(M,)`."""
        return losses.actor_loss(*self.policy, self.weights)

    @property
    def critic_loss(self) -> Tensor:
        """`(M,)`."""
        return losses.critic_loss(self.critic_values, self.critic_targets)


class ImplicitQLearning:
    """The parameters of M members and the update that trains them.

    Args:
        observation_dim: O.
        action_dim: A.
        hyperparameters: see `IQLHyperparameters`.
        seeds: one per member, of its initial weights and dropout, whatever is stacked with it.
        observation_mean: `(O,)` subtracted from observations; zeros when not normalised.
        observation_std: `(O,)` that divides them; ones when not normalised.
        device: where the parameters live.
        dtype: of parameters and losses; float64 serves the parity test.
        hidden_dtype: arithmetic of the hidden layers, see `StackedMLP`.
        num_updates: in which a cosine of the actor's learning rate reaches 0; not needed for a
            constant one.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hyperparameters: IQLHyperparameters,
        seeds: Sequence[int] = (0,),
        *,
        observation_mean: Tensor | None = None,
        observation_std: Tensor | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        hidden_dtype: torch.dtype | None = None,
        num_updates: int | None = None,
    ) -> None:
        if hyperparameters.actor_schedule != "constant" and num_updates is None:
            raise ValueError("A cosine schedule needs num_updates, the length of its way to 0.")
        self.hyperparameters = hyperparameters
        self.num_members = len(seeds)
        self.hidden_dtype = hidden_dtype or dtype
        self.updates = 0
        self._schedule_updates = num_updates
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        hidden = [hyperparameters.hidden_size] * hyperparameters.hidden_layers

        def mlp(inputs: int, outputs: int, copies: int = 1) -> StackedMLP:
            streams = [generator for generator in generators for _ in range(copies)]
            return StackedMLP([inputs, *hidden, outputs], streams, dtype, hidden_dtype, device)

        self.value = Value(mlp(observation_dim, 1))
        self.critic = Critic(mlp(observation_dim + action_dim, 1, NUM_CRITICS))
        self.actor = Actor(mlp(observation_dim, action_dim))
        self._dropout = Dropout(hyperparameters.dropout, hidden, generators)
        self.target_critic = copy.deepcopy(self.critic)
        mean = torch.zeros(observation_dim) if observation_mean is None else observation_mean
        std = torch.ones(observation_dim) if observation_std is None else observation_std
        self.observation_mean, self.observation_std = mean.to(device, dtype), std.to(device, dtype)
        self._networks = {
            "value": self.value,
            "actor": self.actor,
            "critic": self.critic,
            "target_critic": self.target_critic,
        }
        self._optimizers = {
            name: Adam(network.parameters, network.gradients)
            for name, network in self._networks.items()
            if name != "target_critic"
        }

    @property
    def is_uniform(self) -> bool:
        """Whether every update is the same operations, so that it can be recorded and repeated."""
        h = self.hyperparameters
        return h.actor_schedule == "constant" and h.dropout == 0

    def update(self, batch: Batch) -> UpdateResult:
        """One update of every member (paper, Algorithm 1; one batch for all networks).

        Args:
            batch: B transitions per member; observations as the environment gives them.
        """
        h, batch_size = self.hyperparameters, batch.rewards.shape[1]
        both = self.normalize(torch.cat([batch.observations, batch.next_observations], 1))
        observations = both[:, :batch_size]
        pairs = torch.cat([observations, batch.actions], -1)

        target_values = self.target_critic(pairs).amin(1)
        difference = target_values - self.value(observations, learn=True)
        self.value.backward(losses.expectile_gradient(difference, h.expectile))
        self._descend("value", h.learning_rate)

        values, next_values = self.value(both).chunk(2, -1)
        weights = losses.advantage_weights(target_values - values, h.inverse_temperature)
        mean, log_std = self.actor(observations, self._dropout.masks(observations), learn=True)
        policy = mean, log_std, batch.actions
        self.actor.backward(*losses.actor_gradients(*policy, weights))
        self._descend("actor", self._actor_learning_rate())

        targets = batch.rewards + h.discount * (1 - batch.terminated) * next_values
        critic_values = self.critic(pairs, learn=True)
        self.critic.backward(losses.critic_gradient(critic_values, targets))
        self._descend("critic", h.learning_rate)

        self.target_critic.track(self.critic, h.target_update_rate)
        self.updates += 1
        return UpdateResult(
            difference, target_values, values, weights, policy, critic_values, targets, h.expectile
        )

    def normalize(self, observations: Tensor) -> Tensor:
        """Observations minus the dataset's mean, divided by its deviation."""
        return (observations - self.observation_mean) / self.observation_std

    def _descend(self, name: str, learning_rate: float) -> None:
        """One Adam step of a network."""
        self._optimizers[name].step(learning_rate)
        self._networks[name].changed()

    def _actor_learning_rate(self) -> float:
        h = self.hyperparameters
        if h.actor_schedule == "constant":
            return h.learning_rate
        progress = self.updates / (self._schedule_updates or 1)
        if h.actor_schedule == "cosine":
            progress = min(1.0, progress)  # Past its end a cosine climbs back.
        return h.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def metrics(self, result: UpdateResult) -> list[dict[str, float]]:
        """The update's figures per member; reads from the device, so call it rarely."""
        clipped = (result.weights >= losses.ADVANTAGE_WEIGHT_MAX).float().mean(-1)
        columns = {
            "value_loss": result.value_loss,
            "actor_loss": result.actor_loss,
            "critic_loss": result.critic_loss,
            "q_mean": result.target_values.mean(-1),
            "value_mean": result.values.mean(-1),
            "advantage_mean": (result.target_values - result.values).mean(-1),
            "advantage_weight_mean": result.weights.mean(-1),
            "advantage_weight_clipped_share": clipped,
            "log_std_mean": self.actor.log_std.mean((-2, -1)),
        }
        table = torch.stack([column.detach().float() for column in columns.values()], -1).tolist()
        return [dict(zip(columns, row, strict=True)) for row in table]

    def q_and_v(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Q (min of the target critics) and V of transitions, for diagnostics.

        Args:
            observations: `(M, B, O)`, as the environment gives them.
            actions: `(M, B, A)`.

        Returns:
            `(M, B)` each.
        """
        observations = self.normalize(observations)
        q = self.target_critic(torch.cat([observations, actions], -1)).amin(1)
        return q, self.value(observations)

    def estimates(self, batch: Batch) -> list[dict[str, float]]:
        """Mean Q (min of the target critics) and V of a batch, per member."""
        means = (each.mean(-1).tolist() for each in self.q_and_v(batch.observations, batch.actions))
        return [{"q": q, "v": v} for q, v in zip(*means, strict=True)]

    def actor_weights(self, member: int = 0) -> ActorWeights:
        """One member's actor for the workers; its version is the number of updates."""
        return self.actor.export(member, self.observation_mean, self.observation_std, self.updates)

    def state(self, member: int = 0) -> dict[str, Tensor]:
        """Every tensor that a member's next update depends on: parameters, moments, random stream.

        It does not depend on which members are stacked with it.
        """
        state = {key: tensor.clone() for key, tensor in self._tensors(member).items()}
        if self.hyperparameters.dropout:
            state["dropout.random_state"] = self._dropout.random_state(member)
        return state | {"updates": torch.tensor(self.updates)}

    def load_state(self, state: Mapping[str, Tensor], member: int = 0) -> None:
        """Restores `state()`.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor's shape does not fit these networks.
        """
        for key, tensor in self._tensors(member).items():
            if state[key].shape != tensor.shape:
                raise RuntimeError(
                    f"{key} is {tuple(state[key].shape)}, but {tuple(tensor.shape)} is needed"
                )
            tensor.copy_(state[key])
        for network in self._networks.values():
            network.changed()
        if self.hyperparameters.dropout:
            self._dropout.set_random_state(member, state["dropout.random_state"])
        self.updates = int(state["updates"])

    def _tensors(self, member: int) -> dict[str, Tensor]:
        """Views of a member's parameters and moments, by the names that a checkpoint has."""
        tensors = {
            f"{name}.{key}": tensor
            for name, network in self._networks.items()
            for key, tensor in network.named(network.parameters).items()
        }
        for name, optimizer in self._optimizers.items():
            for moment, flat in (("mean", optimizer.means), ("square", optimizer.squares)):
                for key, tensor in self._networks[name].named(flat).items():
                    tensors[f"adam.{name}.{key}.{moment}"] = tensor
        parts = {key: tensor.chunk(self.num_members)[member] for key, tensor in tensors.items()}
        return parts | {f"adam.{name}.steps": o.steps for name, o in self._optimizers.items()}
