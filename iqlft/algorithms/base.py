"""The contract of an algorithm: all that loops, metrics, checkpoints, reports and exports know.

Shapes: M members (seeds), E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from iqlft.config.algorithms import Hyperparameters, registered
from iqlft.nn.adam import STATE_PREFIX, Adam
from iqlft.nn.initialization import Initializer, orthogonal
from iqlft.nn.networks import Actor, Network
from iqlft.nn.stacked_mlp import StackedMLP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.transition import RowLayout

AnyHyperparameters = TypeVar("AnyHyperparameters", bound=Hyperparameters)
AnyNetwork = TypeVar("AnyNetwork", bound=Network)
Metrics = dict[str, Tensor | Callable[[], Tensor]]
"""Metrics of an update, `(M, ...)` on the device, under namespaced names such as `value/loss`.

A metric that costs extra arithmetic is a function, called only when the metrics are read."""


class Batch(NamedTuple):
    """B transitions per member, sampled together.

    Attributes:
        observations: `(M, B, O)`.
        actions: `(M, B, A)`.
        rewards: `(M, B)`.
        next_observations: `(M, B, O)`.
        terminated: `(M, B)`, 0 or 1.
        returns_to_go: `(M, B)`, the discounted rewards from a transition to the end of its episode,
            -inf while the episode is under way; None where the algorithm does not need them.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    returns_to_go: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with a function applied to each of its tensors."""
        mapped = Batch(*map(function, self[:5]))
        if self.returns_to_go is None:
            return mapped
        return mapped._replace(returns_to_go=function(self.returns_to_go))


class Spec(NamedTuple):
    """What an algorithm needs to know about its data.

    Attributes:
        observation_dim: O.
        action_dim: A.
        observation_mean: `(O,)` subtracted from observations; None: not normalised.
        observation_std: `(O,)` that divides them.
        num_updates: length of pretraining, over which schedules run; None where it is not fixed.
    """

    observation_dim: int
    action_dim: int
    observation_mean: Tensor | None = None
    observation_std: Tensor | None = None
    num_updates: int | None = None


class Selection(NamedTuple):
    """A part of a dataset.

    Attributes:
        places: indices of its rows, `(n,)` int64.
        note: what was chosen, for the user.
    """

    places: Tensor
    note: str


class Algorithm(ABC, Generic[AnyHyperparameters]):
    """The parameters of M members and the update that trains them.

    A subclass registers its networks with `learned` and `target` in its `__init__`, which tells the
    base class what a checkpoint holds.

    Args:
        spec: of the data.
        hyperparameters: the algorithm's own.
        seeds: one per member, for its initial weights and random draws, which do not depend on the
            other members.
        device: where the parameters live.
        dtype: of parameters and losses; float64 is for the parity tests.
        hidden_dtype: arithmetic of the hidden layers, see `StackedMLP`.

    Attributes:
        hyperparameters: see above.
        num_members: M.
        hidden_dtype: see above.
        updates: number of updates so far.
        online: whether fine-tuning has begun.
        actor: the policy.
    """

    batches_per_update = 1
    """How many batches an update takes, as one batch that many times as large."""
    needs_returns = False
    """Whether batches need `returns_to_go`, discounted by the hyperparameter `discount`."""
    draws = False
    """Whether updates draw from the members' random streams, which a checkpoint then holds."""
    actor: Actor

    def __init__(
        self,
        spec: Spec,
        hyperparameters: AnyHyperparameters,
        seeds: Sequence[int] = (0,),
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        hidden_dtype: torch.dtype | None = None,
    ) -> None:
        self.spec, self.hyperparameters = spec, hyperparameters
        self.num_members, self.hidden_dtype = len(seeds), hidden_dtype or dtype
        self.updates, self.online = 0, False
        self.hidden_sizes = [hyperparameters.hidden_size] * hyperparameters.hidden_layers
        self._dtype, self._device = dtype, device
        # On the CPU whatever the parameters' device, so that a checkpoint resumes on any device.
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._networks: dict[str, Network] = {}
        self._optimizers: dict[str, Adam] = {}
        mean, std = spec.observation_mean, spec.observation_std
        mean = torch.zeros(spec.observation_dim) if mean is None else mean
        std = torch.ones(spec.observation_dim) if std is None else std
        self.observation_mean, self.observation_std = mean.to(device, dtype), std.to(device, dtype)
        self._returns = [(-math.inf, math.inf)] * len(seeds)
        # `(2, M, 1)`: a tensor, so that an update recorded as a graph reads the current bounds.
        self._return_bounds = torch.tensor(self._returns, device=device, dtype=dtype).T.unsqueeze(2)

    # -- what a subclass builds with ---------------------------------------------------------

    def mlp(
        self,
        inputs: int,
        outputs: int,
        copies: int = 1,
        *,
        layer_norm: bool = False,
        hidden_sizes: Sequence[int] | None = None,
        initial: Initializer = orthogonal,
        initial_output: Initializer | None = None,
    ) -> StackedMLP:
        """`copies` MLPs for each member, initialised from its random stream.

        Args:
            inputs: width of the input.
            outputs: width of the output.
            copies: how many each member has.
            layer_norm: see `StackedMLP`.
            hidden_sizes: widths of the hidden layers; None: those of the hyperparameters.
            initial: see `StackedMLP`.
            initial_output: see `StackedMLP`.
        """
        streams = [generator for generator in self.generators for _ in range(copies)]
        hidden = self.hidden_sizes if hidden_sizes is None else hidden_sizes
        return StackedMLP(
            [inputs, *hidden, outputs],
            streams,
            self._dtype,
            self.hidden_dtype,
            self._device,
            layer_norm=layer_norm,
            initial=initial,
            initial_output=initial_output,
        )

    def learned(self, name: str, network: AnyNetwork) -> AnyNetwork:
        """Registers a network that gradients train."""
        self._networks[name] = network
        self._optimizers[name] = Adam(network.parameters, network.gradients)
        return network

    def target(self, name: str, network: AnyNetwork) -> AnyNetwork:
        """Registers a copy of a network as its target network."""
        made = copy.deepcopy(network)
        self._networks[name] = made
        return made

    def minimize(self, name: str, loss: Tensor, learning_rate: float) -> None:
        """One Adam step of a network along the gradient of a loss `(M,)`."""
        loss.sum().backward()  # type: ignore[no-untyped-call]
        self.descend(name, learning_rate)

    @torch.no_grad()
    def descend(self, name: str, learning_rate: float) -> None:
        """One Adam step of a network along its gradients."""
        self._optimizers[name].step(learning_rate)
        self._networks[name].changed()

    @property
    def clips_targets(self) -> bool:
        """Whether the critics' targets are clipped to the possible returns."""
        return getattr(self.hyperparameters, "clip_targets", False)

    def set_possible_returns(self, least: float, greatest: float, member: int = 0) -> None:
        """Sets the bounds of possible returns; due before an update whenever they have changed."""
        if self._returns[member] != (least, greatest):
            self._returns[member] = least, greatest
            self._return_bounds[:, member, 0] = self._return_bounds.new_tensor([least, greatest])

    def clipped(self, targets: Tensor) -> Tensor:
        """The critics' targets `(M, B)`, clipped to the possible returns if `clips_targets`."""
        return targets.clamp(*self._return_bounds) if self.clips_targets else targets

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normals `(M, *shape)`, each member's from its own stream."""
        drawn = [torch.randn(tuple(shape), generator=each) for each in self.generators]
        return torch.stack(drawn).to(self._device, self._dtype)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [-1, 1), `(M, *shape)`, each member's from its own stream."""
        drawn = [torch.rand(tuple(shape), generator=each) for each in self.generators]
        return (2 * torch.stack(drawn) - 1).to(self._device, self._dtype)

    # -- the contract ------------------------------------------------------------------------

    @abstractmethod
    def update(self, batch: Batch) -> Metrics:
        """One update of every member.

        Args:
            batch: B transitions per member; observations as the environment gives them.

        Returns:
            The metrics to log; those whose keys end in `loss` must be finite.
        """

    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """Q `(M, B)` of transitions; None where there is no critic.

        Args:
            observations: `(M, B, O)`, as the environment gives them.
            actions: `(M, B, A)`.
        """
        del observations, actions
        return None

    def values(self, observations: Tensor) -> Tensor | None:
        """V `(M, B)` of observations `(M, B, O)`; None where there is no value network."""
        del observations
        return None

    @property
    def clipped_advantage(self) -> float | None:
        """The advantage above which a transition's weight is clipped; None where none is."""
        return None

    @property
    def discount(self) -> float | None:
        """Discount of the returns that Q estimates; None where nothing estimates returns."""
        discount: float | None = getattr(self.hyperparameters, "discount", None)
        return discount

    def is_uniform(self, *, online: bool) -> bool:
        """Whether all updates run the same operations, so that one can be recorded and repeated.

        Args:
            online: whether the question is about fine-tuning, else about pretraining.
        """
        del online
        return not self.draws

    def begin_online(self) -> None:
        """Switches from pretraining to fine-tuning; called once in a run's life."""
        self.online = True

    def select(self, rows: Tensor, layout: RowLayout) -> Selection | None:
        """The part of the dataset that the algorithm learns from; None for all of it.

        Args:
            rows: `(N, width)`, episode by episode.
            layout: where their fields stand.
        """
        del rows, layout
        return None

    def normalize(self, observations: Tensor) -> Tensor:
        """Observations minus the dataset's mean, divided by its standard deviation."""
        return (observations - self.observation_mean) / self.observation_std

    def actor_weights(self, member: int = 0) -> ActorWeights:
        """One member's actor for workers, policy folder and export; its version is `updates`."""
        return self.actor.export(member, self.observation_mean, self.observation_std, self.updates)

    # -- checkpoints -------------------------------------------------------------------------

    def state(self, member: int = 0) -> dict[str, Tensor]:
        """Every tensor that a member's next update depends on: parameters, moments, random stream.

        The state does not depend on which members are stacked with this one.
        """
        state = {key: tensor.detach().clone() for key, tensor in self._tensors(member).items()}
        if self.draws:
            state["random_state"] = self.generators[member].get_state()
        counters = {"updates": torch.tensor(self.updates), "online": torch.tensor(self.online)}
        return state | counters

    @torch.no_grad()
    def load_state(
        self, state: Mapping[str, Tensor], member: int = 0, *, optimizers: bool = True
    ) -> None:
        """Restores `state()`.

        Args:
            state: what `state()` returned for some member.
            member: the member to restore it into.
            optimizers: whether to restore Adam's moments too; only further updates need them.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor's shape does not fit these networks; nothing has been restored.
        """
        mine = {
            key: tensor
            for key, tensor in self._tensors(member).items()
            if optimizers or not key.startswith(STATE_PREFIX)
        }
        for key, tensor in mine.items():
            if state[key].shape != tensor.shape:
                raise RuntimeError(
                    f"{key} is {tuple(state[key].shape)}, but {tuple(tensor.shape)} is needed"
                )
        updates, online = int(state["updates"]), bool(state["online"])
        if self.draws:
            self.generators[member].set_state(state["random_state"].clone())
        for key, tensor in mine.items():
            tensor.copy_(state[key])
        for network in self._networks.values():
            network.changed()
        self.updates, self.online = updates, online

    @torch.no_grad()
    def carry_over(self, before: Algorithm[Any]) -> list[str]:
        """Takes over the networks that fit from another algorithm with the same members.

        A network fits if the other algorithm has one of the same name, kind and shape; Adam's
        moments come with it. From an actor of another kind the mean may fit (`Actor.take_mean`).

        Args:
            before: the algorithm that has learned until now.

        Returns:
            The names of the networks taken over, `mean` for the actor's mean alone; the others keep
            their initial weights.
        """
        fitting = [
            name
            for name, network in self._networks.items()
            if name in before._networks and network.is_like(before._networks[name])
        ]
        for name in fitting:
            network, other = self._networks[name], before._networks[name]
            for mine, theirs in zip(network.parameters, other.parameters, strict=True):
                mine.copy_(theirs)
            network.changed()
            if name in self._optimizers and name in before._optimizers:
                self._optimizers[name].take_over(before._optimizers[name])
        for name, network in self._networks.items():
            if name in fitting or not isinstance(network, Actor):
                continue
            other = before._networks.get(name, before.actor)  # Not every actor has a target.
            if isinstance(other, Actor) and network.take_mean(other) and network is self.actor:
                fitting.append("mean")
        if type(before) is type(self):
            self._carry_on(before)
        self.updates = before.updates
        return fitting

    def _carry_on(self, before: Algorithm[Any]) -> None:
        """Takes over what the same algorithm has beside networks: tensors, and random streams."""
        others = before.extra_tensors()
        for name, tensor in self.extra_tensors().items():
            if name in others and others[name].shape == tensor.shape:
                tensor.copy_(others[name])
        for stream, other in zip(self.generators, before.generators, strict=True):
            stream.set_state(other.get_state())

    def reset_optimizers(self) -> None:
        """Restarts Adam, with moments and step counts of zero."""
        for optimizer in self._optimizers.values():
            optimizer.reset()

    def _tensors(self, member: int) -> dict[str, Tensor]:
        """Views of a member's parameters and moments, by their names in a checkpoint."""
        tensors = {
            f"{name}.{key}": tensor
            for name, network in self._networks.items()
            for key, tensor in network.named(network.parameters).items()
        }
        for name, optimizer in self._optimizers.items():
            for moment, flat in (("mean", optimizer.means), ("square", optimizer.squares)):
                for key, tensor in self._networks[name].named(flat).items():
                    tensors[f"{STATE_PREFIX}{name}.{key}.{moment}"] = tensor
        tensors |= self.extra_tensors()
        parts = {key: tensor.chunk(self.num_members)[member] for key, tensor in tensors.items()}
        steps = {f"{STATE_PREFIX}{name}.steps": o.steps for name, o in self._optimizers.items()}
        return parts | steps

    def extra_tensors(self) -> dict[str, Tensor]:
        """Further tensors `(M, ...)` to keep in a checkpoint, by name."""
        return {}


def algorithm_class(name: str) -> type[Algorithm[Any]]:
    """The class of a registered algorithm, or of `package.module:Class`.

    Raises:
        ConfigError: there is no such algorithm.
    """
    module, _, attribute = registered(name).home.partition(":")
    found: type[Algorithm[Any]] = getattr(importlib.import_module(module), attribute)
    return found


def reduce(metrics: Metrics) -> list[dict[str, float]]:
    """The mean of each metric of an update, per member; waits for the device, so call it rarely."""
    tensors = [each() if callable(each) else each for each in metrics.values()]
    columns = [each.detach().double().reshape(len(each), -1).mean(-1) for each in tensors]
    return [dict(zip(metrics, row, strict=True)) for row in torch.stack(columns, -1).tolist()]
