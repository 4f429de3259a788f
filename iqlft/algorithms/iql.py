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
from torch import Tensor, nn

from iqlft.networks import NUM_CRITICS, Actor, Critic, Dropout, StackedMLP, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iqlft.config import Hyperparameters
    from iqlft.replay import Batch
    from workers.actor import ActorWeights

ADVANTAGE_WEIGHT_MAX = 100.0
"""Upper bound of the exponentiated advantage (the authors' code)."""

DATASET_ACTION_MAX = 1 - 1e-5
"""Dataset actions are kept this far inside [-1, 1] (the authors' code)."""


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared loss L_2^tau(u) (paper, eq. 5).

    Args:
        difference: u = Q(s, a) - V(s), `(M, B)`.
        expectile: tau; 0.5 gives half the squared error, 1 approaches the maximum over actions.

    Returns:
        `(M,)` mean over the batch.
    """
    weight = torch.abs(expectile - (difference < 0).to(difference.dtype))
    return (weight * difference.square()).mean(-1)


def advantage_weights(advantage: Tensor, inverse_temperature: float) -> Tensor:
    """min(exp(beta * A), 100) of the advantages `(M, B)`, without gradient (paper, eq. 7)."""
    return torch.exp(inverse_temperature * advantage.detach()).clamp(max=ADVANTAGE_WEIGHT_MAX)


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


def critic_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Squared error of both critics (paper, eq. 6): mean over the batch, sum over the critics.

    Args:
        values: `(M, E, B)`.
        targets: y = r + discount * (1 - terminated) * V(s'), `(M, B)`.

    Returns:
        `(M,)`.
    """
    return (values - targets.unsqueeze(1)).square().mean(-1).sum(-1)


class UpdateResult(NamedTuple):
    """What one update computed, left on the device; `metrics` reduces it when somebody looks.

    Attributes:
        value_loss: `(M,)`.
        actor_loss: `(M,)`.
        critic_loss: `(M,)`.
        target_values: `(M, B)` min of both target critics.
        values: `(M, B)` V(s) after its update.
        weights: `(M, B)` clipped advantage weights.
    """

    value_loss: Tensor
    actor_loss: Tensor
    critic_loss: Tensor
    target_values: Tensor
    values: Tensor
    weights: Tensor


class ImplicitQLearning:
    """The parameters of M members and the update that trains them.

    Args:
        observation_dim: O.
        action_dim: A.
        hyperparameters: see `Hyperparameters`.
        seeds: one per member, of its initial weights and dropout, whatever is stacked with it.
        observation_mean: `(O,)` subtracted from observations; zeros when not normalised.
        observation_std: `(O,)` that divides them; ones when not normalised.
        device: where the parameters live.
        dtype: of parameters and losses; float64 serves the parity test.
        hidden_dtype: arithmetic of the hidden layers, see `StackedMLP`.
        num_updates: length of the cosine schedule, needed for `actor_schedule="cosine"` only.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hyperparameters: Hyperparameters,
        seeds: Sequence[int] = (0,),
        *,
        observation_mean: Tensor | None = None,
        observation_std: Tensor | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        hidden_dtype: torch.dtype | None = None,
        num_updates: int | None = None,
    ) -> None:
        if hyperparameters.actor_schedule == "cosine" and num_updates is None:
            raise ValueError("A cosine schedule needs num_updates, the length of its way to 0.")
        self.hyperparameters = hyperparameters
        self.updates = 0
        self._schedule_updates = num_updates
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        hidden = [hyperparameters.hidden_size] * hyperparameters.hidden_layers

        def mlp(inputs: int, outputs: int, copies: int = 1) -> StackedMLP:
            streams = [generator for generator in generators for _ in range(copies)]
            return StackedMLP([inputs, *hidden, outputs], streams, dtype, hidden_dtype).to(device)

        self.value = Value(mlp(observation_dim, 1))
        self.critic = Critic(mlp(observation_dim + action_dim, 1, NUM_CRITICS))
        self.actor = Actor(mlp(observation_dim, action_dim)).to(device)
        self._dropout = Dropout(hyperparameters.dropout, hidden, generators)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        mean = torch.zeros(observation_dim) if observation_mean is None else observation_mean
        std = torch.ones(observation_dim) if observation_std is None else observation_std
        self.observation_mean, self.observation_std = mean.to(device, dtype), std.to(device, dtype)
        self._optimizers = {
            name: torch.optim.Adam(
                network.parameters(), hyperparameters.learning_rate, eps=1e-8, fused=True
            )
            for name, network in self._networks().items()
            if name != "target_critic"
        }

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "value": self.value,
            "actor": self.actor,
            "critic": self.critic,
            "target_critic": self.target_critic,
        }

    def update(self, batch: Batch) -> UpdateResult:
        """One update of every member (paper, Algorithm 1; one batch for all networks).

        Args:
            batch: B transitions per member; observations as the environment gives them.
        """
        h = self.hyperparameters
        observations, next_observations = self.normalize(
            batch.observations, batch.next_observations
        )

        target_values = self.target_critic(observations, batch.actions).amin(dim=1)
        value_loss = expectile_loss(target_values - self.value(observations), h.expectile)
        self._descend("value", value_loss)

        with torch.no_grad():
            values, next_values = self.value(observations), self.value(next_observations)
        weights = advantage_weights(target_values - values, h.inverse_temperature)
        mean, log_std = self.actor(observations, self._dropout.masks(observations))
        log_prob = gaussian_log_prob(mean, log_std, batch.actions)
        actor_loss = -(weights * log_prob).mean(-1)
        self._descend("actor", actor_loss)

        targets = batch.rewards + h.discount * (1 - batch.terminated) * next_values
        loss = critic_loss(self.critic(observations, batch.actions), targets)
        self._descend("critic", loss)

        self._move_targets()
        self.updates += 1
        return UpdateResult(value_loss, actor_loss, loss, target_values, values, weights)

    def normalize(self, *observations: Tensor) -> tuple[Tensor, ...]:
        """Observations minus the dataset's mean, divided by its deviation."""
        return tuple((each - self.observation_mean) / self.observation_std for each in observations)

    def _descend(self, name: str, loss: Tensor) -> None:
        """One Adam step; the members' losses are summed, so that their gradients stay apart.

        The networks replace their gradients; log_std's, which autograd adds to, is cleared.
        """
        optimizer = self._optimizers[name]
        if name == "actor" and self.hyperparameters.actor_schedule == "cosine":
            optimizer.param_groups[0]["lr"] = self._cosine_learning_rate()
        self.actor.log_std.grad = None
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _cosine_learning_rate(self) -> float:
        # Past its end a cosine climbs back; the progress is held at 1 instead.
        progress = min(1.0, self.updates / (self._schedule_updates or 1))
        return self.hyperparameters.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    @torch.no_grad()
    def _move_targets(self) -> None:
        torch._foreach_lerp_(
            list(self.target_critic.parameters()),
            list(self.critic.parameters()),
            self.hyperparameters.target_update_rate,
        )

    def metrics(self, result: UpdateResult) -> list[dict[str, float]]:
        """The update's figures per member; reads from the device, so call it rarely."""
        clipped = (result.weights >= ADVANTAGE_WEIGHT_MAX).float().mean(-1)
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

    @torch.no_grad()
    def estimates(self, batch: Batch) -> list[dict[str, float]]:
        """Mean Q (min of the target critics) and V of a batch, per member."""
        (observations,) = self.normalize(batch.observations)
        q = self.target_critic(observations, batch.actions).amin(dim=1).mean(-1).tolist()
        v = self.value(observations).mean(-1).tolist()
        return [{"q": each_q, "v": each_v} for each_q, each_v in zip(q, v, strict=True)]

    def actor_weights(self, member: int = 0) -> ActorWeights:
        """One member's actor for the workers; its version is the number of updates."""
        return self.actor.export(member, self.observation_mean, self.observation_std, self.updates)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on: parameters, moments, random streams."""
        state = {
            f"{name}.{key}": tensor
            for name, network in self._networks().items()
            for key, tensor in network.state_dict().items()
        }
        for name, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                state |= {f"adam.{name}.{index}.{key}": each for key, each in moments.items()}
        if self.hyperparameters.dropout:
            state["dropout.random_state"] = self._dropout.random_state()
        return state | {"updates": torch.tensor(self.updates)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state()`.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor's shape does not fit these networks.
        """
        for name, network in self._networks().items():
            prefix = f"{name}."
            part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            network.load_state_dict(part)
        for name, optimizer in self._optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in state.items():
                if key.startswith(f"adam.{name}."):
                    index, moment = key.removeprefix(f"adam.{name}.").split(".")
                    moments.setdefault(int(index), {})[moment] = tensor.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        if self.hyperparameters.dropout:
            self._dropout.set_random_state(state["dropout.random_state"])
        self.updates = int(state["updates"])
