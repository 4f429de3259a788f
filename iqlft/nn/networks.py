"""Actors, critics and values, each a stack of MLPs.

M members are runs trained together (seeds). A value network holds `n = M` MLPs; a critic holds
`n = M * E`, the E of one member next to each other. Shapes: M members, E critics, B batch,
O observation, A action.

Calling a network is differentiable: `loss.sum().backward()` adds to its `gradients`. `forward` and
`backward` are the same passes without autograd, for algorithms with written-out gradients.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from iqlft_workers.actor import ActorWeights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iqlft.nn.stacked_mlp import Masks, StackedMLP


class Network(ABC):
    """Named tensors of M members that gradients train.

    Attributes:
        parameters: flat tensors of everything that is learned.
        gradients: where backward passes write, of the same shapes.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]

    @abstractmethod
    def named(self, flat: Sequence[Tensor]) -> dict[str, Tensor]:
        """Named views of tensors shaped like `parameters` (these, or gradients, or moments)."""

    @abstractmethod
    def changed(self) -> None:
        """To be called after the parameters have changed."""

    def is_like(self, other: Network) -> bool:
        """Whether another network computes the same from the same parameters."""
        mine, theirs = self.named(self.parameters), other.named(other.parameters)
        shapes = [[(key, each.shape) for key, each in named.items()] for named in (mine, theirs)]
        return type(self) is type(other) and shapes[0] == shapes[1]

    @torch.no_grad()
    def track(self, other: Network, rate: float) -> None:
        """Moves the parameters towards another network's by a share: a target network's update."""
        for ours, theirs in zip(self.parameters, other.parameters, strict=True):
            ours.lerp_(theirs, rate)
        self.changed()


class Scalar(Network):
    """One learned number per member, such as the logarithm of a temperature.

    Args:
        initial: `(M,)` initial values.
    """

    def __init__(self, initial: Tensor) -> None:
        self._value = initial.clone().requires_grad_()
        self._value.grad = torch.zeros_like(initial)
        self.parameters, self.gradients = [self._value], [self._value.grad]

    def __call__(self) -> Tensor:
        """The numbers `(M,)`."""
        return self._value

    def named(self, flat: Sequence[Tensor]) -> dict[str, Tensor]:
        """See `Network.named`."""
        return {"value": flat[0]}

    def changed(self) -> None:
        """To be called after the numbers have changed."""
        self.gradients[0].zero_()


class MLPNetwork(Network):
    """A network made of a stack of MLPs.

    Args:
        mlp: the MLPs.

    Attributes:
        mlp: the MLPs.
    """

    def __init__(self, mlp: StackedMLP) -> None:
        self.mlp = mlp
        self.parameters, self.gradients = [mlp.parameters], [mlp.gradients]

    def named(self, flat: Sequence[Tensor]) -> dict[str, Tensor]:
        """See `Network.named`."""
        return self.mlp.named(flat[0])

    def is_like(self, other: Network) -> bool:
        """Whether another network computes the same from the same parameters."""
        if not isinstance(other, MLPNetwork) or self.mlp.layer_norm != other.mlp.layer_norm:
            return False
        return super().is_like(other)

    def changed(self) -> None:
        """To be called after the parameters have changed."""
        self.mlp.round()


class Value(MLPNetwork):
    """V(s), one network per member."""

    def __call__(self, observations: Tensor) -> Tensor:
        """Maps observations `(M, B, O)` to values `(M, B)`."""
        return self.mlp(observations).squeeze(-1)

    def forward(self, observations: Tensor, *, learn: bool = False) -> Tensor:
        """Like a call, but without autograd; `learn` keeps what `backward` needs."""
        return self.mlp.forward(observations, learn=learn).squeeze(-1)

    def backward(self, gradient: Tensor) -> None:
        """Writes `gradients`, given the gradient `(M, B)` of the last `forward`'s values."""
        self.mlp.backward(gradient.unsqueeze(-1))


class Critic(MLPNetwork):
    """Q(s, a), E networks per member."""

    def __call__(self, inputs: Tensor, *, learn: bool = True) -> Tensor:
        """Maps observations and actions side by side, `(M, B, O + A)`, to values `(M, E, B)`.

        Without `learn` gradients flow to the inputs only, not to the parameters.
        """
        return _by_critic(self.mlp(inputs, learn=learn), inputs)

    def chosen(self, which: Tensor) -> Critic:
        """A snapshot of k critics of each member, `which` `(M, k)`, for forward passes only."""
        critics = len(self.mlp.weights[0]) // len(which)
        members = torch.arange(len(which), device=which.device).unsqueeze(-1)
        return Critic(self.mlp.chosen((which + critics * members).flatten()))

    def forward(self, inputs: Tensor, *, learn: bool = False) -> Tensor:
        """Like a call, but without autograd; `learn` keeps what `backward` needs."""
        return _by_critic(self.mlp.forward(inputs, learn=learn), inputs)

    def backward(self, gradient: Tensor) -> None:
        """Writes `gradients`, given the gradient `(M, E, B)` of the last `forward`'s values."""
        self.mlp.backward(gradient.flatten(0, 1).unsqueeze(-1))


def _by_critic(values: Tensor, inputs: Tensor) -> Tensor:
    return values.view(len(inputs), -1, inputs.shape[1])


class Actor(MLPNetwork):
    """A policy, and its export to the NumPy actor of its `kind`, which acts alike in workers."""

    kind: ClassVar[str]
    """The key of its NumPy actor in `iqlft_workers.actor.ACTORS`."""
    tanh_mean: bool = True
    """Whether the mean action is tanh of the MLP's first A outputs, or those outputs."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, float]:
        """The numbers that its NumPy actor needs."""

    def is_like(self, other: Network) -> bool:
        """Whether another network acts the same with the same parameters."""
        return super().is_like(other) and self.settings == getattr(other, "settings", None)

    @property
    def action_dim(self) -> int:
        """A."""
        return self.mlp.biases[-1].shape[-1]

    @torch.no_grad()
    def take_mean(self, other: Actor) -> bool:
        """Copies another actor's mean, if hidden layers and squashing are alike.

        Further outputs, the log standard deviations, keep their biases and get weights of 0: they
        start out the same in every state.

        Returns:
            Whether the mean was copied; otherwise nothing has changed.
        """
        mine, theirs = self.mlp, other.mlp
        hidden, given = ([*mlp.weights[:-1], *mlp.biases[:-1]] for mlp in (mine, theirs))
        alike = [each.shape for each in hidden] == [each.shape for each in given]
        acts = [(each.tanh_mean, each.action_dim, each.mlp.layer_norm) for each in (self, other)]
        if not alike or acts[0] != acts[1]:
            return False
        for ours, each in zip(hidden, given, strict=True):
            ours.copy_(each)
        count = self.action_dim
        mine.weights[-1][..., :count].copy_(theirs.weights[-1][..., :count])
        mine.weights[-1][..., count:].zero_()
        mine.biases[-1][..., :count].copy_(theirs.biases[-1][..., :count])
        self.changed()
        return True

    def arrays(self) -> dict[str, Tensor]:
        """The arrays `(M, ...)` that its NumPy actor needs, under the names that it uses."""
        weights = {f"weight.{index}": each for index, each in enumerate(self.mlp.weights)}
        biases = {f"bias.{index}": each.squeeze(1) for index, each in enumerate(self.mlp.biases)}
        return weights | biases

    def export(self, member: int, mean: Tensor, std: Tensor, version: int) -> ActorWeights:
        """One member's weights for the NumPy actor.

        Args:
            member: which member, 0 to M - 1.
            mean: `(O,)` subtracted from observations.
            std: `(O,)` that divides them.
            version: number of updates behind these weights.
        """
        parts = {name: each[member].detach() for name, each in self.arrays().items()}
        parts |= {"observation_mean": mean, "observation_std": std}
        # A single copy, since each copy from a GPU waits for it. `cat` copies on the CPU too, so
        # that the worker side does not see the next update through shared memory.
        flat = torch.cat([part.flatten() for part in parts.values()]).to("cpu", torch.float32)
        pieces = torch.split(flat, [part.numel() for part in parts.values()])
        arrays = {
            name: piece.view(part.shape).numpy()
            for (name, part), piece in zip(parts.items(), pieces, strict=True)
        }
        return ActorWeights(self.kind, arrays, self.settings, version)


class GaussianActor(Actor):
    """pi(a | s) = N(mean(s), exp(log_std)^2), with a state-independent log_std.

    Args:
        mlp: from observations to means.
        log_std_min: lower bound of log_std.
        log_std_max: upper bound of log_std.
        tanh_mean: whether the mean is tanh of the MLP's output, or the output itself.
    """

    kind = "gaussian"

    def __init__(
        self,
        mlp: StackedMLP,
        *,
        log_std_min: float = -5.0,
        log_std_max: float = 2.0,
        tanh_mean: bool = True,
    ) -> None:
        super().__init__(mlp)
        self._bounds, self.tanh_mean = (log_std_min, log_std_max), tanh_mean
        self.log_std = torch.zeros_like(mlp.biases[-1]).requires_grad_()
        self.log_std.grad = torch.zeros_like(self.log_std)
        self.parameters.append(self.log_std)
        self.gradients.append(self.log_std.grad)
        self._mean = self.log_std

    @property
    def settings(self) -> Mapping[str, float]:
        """Bounds of log_std, and whether the mean is squashed."""
        low, high = self._bounds
        return {"log_std_min": low, "log_std_max": high, "tanh_mean": float(self.tanh_mean)}

    def arrays(self) -> dict[str, Tensor]:
        """The arrays of the MLPs, and `log_std`."""
        return super().arrays() | {"log_std": self.log_std.squeeze(1)}

    def named(self, flat: Sequence[Tensor]) -> dict[str, Tensor]:
        """The named views of the MLPs, and `log_std`."""
        return self.mlp.named(flat[0]) | {"log_std": flat[1]}

    def changed(self) -> None:
        """To be called after the parameters have changed."""
        super().changed()
        self.gradients[1].zero_()

    def __call__(self, observations: Tensor, masks: Masks = ()) -> tuple[Tensor, Tensor]:
        """Maps observations `(M, B, O)` to the mean `(M, B, A)` and the log std `(M, 1, A)`.

        Masks (see `Dropout`) are for the actor's update only; the policy acts without them.
        """
        return self._distribution(self.mlp(observations, masks))

    def forward(
        self, observations: Tensor, masks: Masks = (), *, learn: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Like a call, but without autograd; `learn` keeps what `backward` needs."""
        self._mean, log_std = self._distribution(self.mlp.forward(observations, masks, learn=learn))
        return self._mean, log_std

    def _distribution(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.tanh(output) if self.tanh_mean else output
        return mean, self.log_std.clamp(*self._bounds)

    def backward(self, mean_gradient: Tensor, log_std_gradient: Tensor) -> None:
        """Writes `gradients`, given the gradients of the last `forward`'s mean and log std."""
        if self.tanh_mean:
            mean_gradient = torch.ops.aten.tanh_backward(mean_gradient, self._mean)
        self.mlp.backward(mean_gradient)
        # As in clamp's own backward, log_std gets no gradient outside its bounds.
        low, high = self._bounds
        free = (self.log_std >= low) & (self.log_std <= high)
        torch.mul(log_std_gradient, free, out=self.gradients[1])


class SquashedGaussianActor(Actor):
    """a = tanh(u), u ~ N(mean(s), exp(log_std(s))^2): the policy of soft actor-critic.

    Args:
        mlp: from observations to means and log standard deviations side by side, 2A outputs.
        log_std_min: lower bound of log_std.
        log_std_max: upper bound of log_std.
        initial_log_std: initial bias of the log_std outputs, and so about the initial log_std.
    """

    kind = "squashed_gaussian"

    def __init__(
        self,
        mlp: StackedMLP,
        *,
        log_std_min: float = -20.0,
        log_std_max: float = 2.0,
        initial_log_std: float = 0.0,
    ) -> None:
        super().__init__(mlp)
        self._bounds = log_std_min, log_std_max
        mlp.biases[-1].chunk(2, -1)[1].fill_(initial_log_std)

    @property
    def settings(self) -> Mapping[str, float]:
        """Bounds of log_std, and whether hidden layers are normalised."""
        low, high = self._bounds
        return {
            "log_std_min": low,
            "log_std_max": high,
            "layer_norm": float(self.mlp.layer_norm),
        }

    @property
    def action_dim(self) -> int:
        """A: half of the outputs are log standard deviations."""
        return super().action_dim // 2

    @torch.no_grad()
    def take_mean(self, other: Actor) -> bool:
        """Copies another actor's mean, and a `GaussianActor`'s log_std; see `Actor.take_mean`."""
        taken = super().take_mean(other)
        if taken and isinstance(other, GaussianActor):
            self.mlp.biases[-1][..., self.action_dim :].copy_(other.log_std.clamp(*self._bounds))
            self.changed()
        return taken

    def __call__(self, observations: Tensor) -> Tensor:
        """Maps observations `(M, B, O)` to the actions of an evaluation, tanh(mean) `(M, B, A)`."""
        return torch.tanh(self.distribution(observations)[0])

    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh, `(M, B, A)` each."""
        mean, log_std = self.mlp(observations).chunk(2, -1)
        return mean, log_std.clamp(*self._bounds)

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """N actions for each observation, with a gradient to the parameters.

        Args:
            observations: `(M, B, O)`.
            noise: standard normals `(M, B, N, A)`.

        Returns:
            The actions `(M, B, N, A)`, and log pi(a | s) `(M, B, N)`.
        """
        mean, log_std = (each.unsqueeze(2) for each in self.distribution(observations))
        before = mean + log_std.exp() * noise
        return torch.tanh(before), squashed_log_prob(before, noise, log_std)


def squashed_log_prob(before: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of tanh(u) at u = mean + exp(log_std) * noise, summed over the last dimension.

    The change of variables subtracts log(1 - tanh(u)^2), which in float32 is -inf from |u| = 9 on;
    the form 2 (log 2 - u - log(1 + exp(-2u))) is accurate for every u.
    """
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    correction = 2 * (math.log(2) - before - functional.softplus(-2 * before))
    return (normal - correction).sum(-1)


class DeterministicActor(Actor):
    """a = tanh(MLP(s)).

    Args:
        mlp: from observations to actions before tanh.
        exploration_noise: standard deviation of the noise that a worker adds in training.
    """

    kind = "deterministic"

    def __init__(self, mlp: StackedMLP, exploration_noise: float) -> None:
        super().__init__(mlp)
        self._exploration_noise = exploration_noise

    @property
    def settings(self) -> Mapping[str, float]:
        """The standard deviation of the noise in training."""
        return {"exploration_noise": self._exploration_noise}

    def is_like(self, other: Network) -> bool:
        """Whether another network acts the same in evaluations; the noise may differ."""
        return MLPNetwork.is_like(self, other)

    def __call__(self, observations: Tensor) -> Tensor:
        """Maps observations `(M, B, O)` to actions `(M, B, A)`."""
        return torch.tanh(self.mlp(observations))


class OneStepFlowActor(Actor):
    """a = pi(s, z) with standard normal noise z: a flow's actions in one pass (FQL).

    Args:
        mlp: from observations and noise side by side to actions, which are clipped to [-1, 1].
    """

    kind = "one_step_flow"
    tanh_mean = False

    @property
    def settings(self) -> Mapping[str, float]:
        """None."""
        return {}

    def __call__(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Maps observations `(M, B, O)` and noise `(M, B, A)`, None for 0, to unclipped actions."""
        if noise is None:
            noise = observations.new_zeros(*observations.shape[:2], self.action_dim)
        return self.mlp(torch.cat([observations, noise], -1))


class VelocityField(MLPNetwork):
    """v(t, s, x): the velocity that carries noise at t = 0 to an action at t = 1 (flow matching).

    Args:
        mlp: from observations, places and times side by side to velocities.
    """

    def __call__(self, observations: Tensor, places: Tensor, times: Tensor) -> Tensor:
        """Velocities `(M, B, A)`, of `(M, B, O)`, places `(M, B, A)` and times `(M, B, 1)`."""
        return self.mlp(torch.cat([observations, places, times], -1))

    @torch.no_grad()
    def integrate(self, observations: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Where noise `(M, B, A)` is carried to, by so many steps of Euler's method."""
        places = noise
        for step in range(steps):
            times = places.new_full((*places.shape[:2], 1), step / steps)
            places = places + self(observations, places, times) / steps
        return places
