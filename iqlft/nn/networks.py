"""The networks of IQL: actor, critics and value, each a stack of perceptrons.

M members are runs trained together (seeds), E critics per member are stacked behind it, so that a
value network holds `n = M` perceptrons and a critic `n = M * E`. Shapes: M members, E critics, B
batch, O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iqlft_workers.actor import LOG_STD_MAX, LOG_STD_MIN, ActorWeights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.nn.stacked_mlp import Masks, StackedMLP

NUM_CRITICS = 2
"""E: clipped double Q-learning uses two critics."""


class Network:
    """What the networks have in common: a stack of perceptrons, and tensors with names.

    Args:
        mlp: the perceptrons.

    Attributes:
        mlp: the perceptrons.
        parameters: flat tensors of everything that is learned.
        gradients: where `backward` writes, of the same shapes.
    """

    def __init__(self, mlp: StackedMLP) -> None:
        self.mlp = mlp
        self.parameters, self.gradients = [mlp.parameters], [mlp.gradients]

    def named(self, flat: Sequence[Tensor]) -> dict[str, Tensor]:
        """The parameters, or something about each of them, as views with names."""
        return self.mlp.named(flat[0])

    def changed(self) -> None:
        """To be called after the parameters have changed."""
        self.mlp.round()


class Value(Network):
    """V(s), one network per member."""

    def __call__(self, observations: Tensor, *, learn: bool = False) -> Tensor:
        """Maps observations `(M, B, O)` to values `(M, B)`."""
        return self.mlp.forward(observations, learn=learn).squeeze(-1)

    def backward(self, gradient: Tensor) -> None:
        """Writes `gradients` from that of the last values, `(M, B)`."""
        self.mlp.backward(gradient.unsqueeze(-1))


class Critic(Network):
    """Q_1(s, a) and Q_2(s, a), E networks per member."""

    def __call__(self, inputs: Tensor, *, learn: bool = False) -> Tensor:
        """Maps observations and actions side by side, `(M, B, O + A)`, to values `(M, E, B)`."""
        members, batch, _ = inputs.shape
        return self.mlp.forward(inputs, learn=learn).view(members, NUM_CRITICS, batch)

    def backward(self, gradient: Tensor) -> None:
        """Writes `gradients` from that of the last values, `(M, E, B)`."""
        self.mlp.backward(gradient.flatten(0, 1).unsqueeze(-1))

    def track(self, other: Critic, rate: float) -> None:
        """Moves the parameters towards another critic's: the targets' step."""
        self.mlp.parameters.lerp_(other.mlp.parameters, rate)
        self.changed()


class Actor(Network):
    """pi(a | s) = N(tanh(MLP(s)), exp(log_std)^2), with a state-independent log_std."""

    def __init__(self, mlp: StackedMLP) -> None:
        super().__init__(mlp)
        self.log_std = torch.zeros_like(mlp.biases[-1])
        self.parameters.append(self.log_std)
        self.gradients.append(torch.zeros_like(self.log_std))
        self._mean = self.log_std

    def named(self, flat: Sequence[Tensor]) -> dict[str, Tensor]:
        """Those of the perceptrons, and `log_std`."""
        return self.mlp.named(flat[0]) | {"log_std": flat[1]}

    def __call__(
        self, observations: Tensor, masks: Masks = (), *, learn: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Maps observations `(M, B, O)` to the mean `(M, B, A)` and the log std `(M, 1, A)`.

        Masks (see `Dropout`) serve the actor's update alone; without them this is the policy.
        """
        self._mean = torch.tanh(self.mlp.forward(observations, masks, learn=learn))
        return self._mean, self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def backward(self, mean_gradient: Tensor, log_std_gradient: Tensor) -> None:
        """Writes `gradients` from those of the last mean and log std."""
        self.mlp.backward(torch.ops.aten.tanh_backward(mean_gradient, self._mean))
        # Where the clamp holds it, log_std does not move.
        free = (self.log_std >= LOG_STD_MIN) & (self.log_std <= LOG_STD_MAX)
        torch.mul(log_std_gradient, free, out=self.gradients[1])

    def export(self, member: int, mean: Tensor, std: Tensor, version: int) -> ActorWeights:
        """One member's weights for the NumPy actor.

        Args:
            member: which member, 0 to M - 1.
            mean: `(O,)` subtracted from observations.
            std: `(O,)` that divides them.
            version: updates behind these weights.
        """
        layers = len(self.mlp.weights)
        parts = [
            *(weight[member] for weight in self.mlp.weights),
            *(bias[member, 0] for bias in self.mlp.biases),
            *(self.log_std[member, 0], mean, std),
        ]
        # A single copy: each one from a GPU waits for it. And a copy on the CPU too: the worker
        # side must not see the next update through shared memory.
        flat = torch.cat([part.flatten() for part in parts]).to("cpu", torch.float32)
        pieces = torch.split(flat, [part.numel() for part in parts])
        *matrices, log_std, mean_array, std_array = [
            piece.view(part.shape).numpy() for piece, part in zip(pieces, parts, strict=True)
        ]
        return ActorWeights(
            weights=tuple(matrices[:layers]),
            biases=tuple(matrices[layers:]),
            log_std=log_std,
            observation_mean=mean_array,
            observation_std=std_array,
            version=version,
        )
