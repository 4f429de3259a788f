"""Stacked networks: n perceptrons of one shape, evaluated by one batched product a layer.

Every tensor keeps a leading member axis. M members are runs trained together (seeds), E critics per
member are stacked behind it, so that a value network holds `n = M` perceptrons and a critic
`n = M * E`. Shapes: M members, E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from workers.actor import LOG_STD_MAX, LOG_STD_MIN, ActorWeights

if TYPE_CHECKING:
    from collections.abc import Sequence

    Masks = Sequence[Tensor]

NUM_CRITICS = 2
"""E: clipped double Q-learning uses two critics."""


def orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A `(rows, columns)` semi-orthogonal matrix with gain sqrt(2), the authors' initialisation.

    The QR decomposition runs in float64, so that a float32 and a float64 network of one seed start
    from the same matrix.
    """
    tall = max(rows, columns), min(rows, columns)
    gaussian = torch.randn(tall, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * torch.sign(torch.diagonal(r))
    matrix: Tensor = math.sqrt(2) * (q if rows >= columns else q.T)
    return matrix


class StackedMLP(nn.Module):
    """n perceptrons with ReLU hidden layers and a linear output.

    Forward and backward pass are written out and work in place in memory that is kept from update
    to update, which spares autograd's bookkeeping and fresh intermediate tensors (the learner as a
    whole makes 1.1 to 1.2 times the updates of a plain eager one, `benchmarks/learner.py`). Two
    consequences: a backward pass must follow its forward pass before the next one with
    gradients, and it replaces the parameters' `.grad` instead of adding to it.

    Args:
        sizes: layer widths from input to output.
        generators: one random stream per perceptron; n is their number.
        dtype: of the parameters, the output layer and the result.
        hidden_dtype: arithmetic of the hidden layers; bfloat16 is faster where the CPU has it.
            The output layer never uses it: a value near -70 would be rounded to steps of 0.5.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        dtype: torch.dtype = torch.float32,
        hidden_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.hidden_dtype = hidden_dtype or dtype
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            stacked = torch.stack([orthogonal(fan_in, fan_out, g) for g in generators])
            self.weights.append(nn.Parameter(stacked.to(dtype).contiguous()))
            self.biases.append(nn.Parameter(torch.zeros(len(generators), 1, fan_out, dtype=dtype)))
        self._workspaces: dict[int, Workspace] = {}

    def forward(self, inputs: Tensor, masks: Masks = ()) -> Tensor:
        """Maps `(n, B, in)` to `(n, B, out)`; masks `(n, B, width)` multiply the hidden layers."""
        if torch.is_grad_enabled() and self.biases[-1].requires_grad:
            output: Tensor = _Backpropagation.apply(  # type: ignore[no-untyped-call]
                inputs, self.biases[-1], self, masks
            )
            return output
        return self.propagate(inputs, masks)

    def propagate(self, inputs: Tensor, masks: Masks) -> Tensor:
        """`forward` without autograd; leaves the masked hidden layers in the workspace."""
        work, kind = self._workspace(inputs), self.hidden_dtype
        hidden = inputs.to(kind)
        for index, out in enumerate(work.hidden):
            weight, bias = self.weights[index].to(kind), self.biases[index].to(kind)
            hidden = torch.baddbmm(bias, hidden, weight, out=out).relu_()
            if masks:
                hidden.mul_(masks[index])
        weight, bias = self.weights[-1], self.biases[-1]
        return torch.baddbmm(bias, hidden.to(weight.dtype), weight)

    def backpropagate(
        self, inputs: Tensor, gradient: Tensor, masks: Masks, *, to_inputs: bool
    ) -> Tensor | None:
        """Writes the parameters' `.grad` for the last `propagate(inputs, masks)`.

        Args:
            inputs: `(n, B, in)`.
            gradient: of the loss with respect to the output, `(n, B, out)`.
            masks: those of the forward pass.
            to_inputs: whether the gradient with respect to the inputs is wanted.

        Returns:
            `(n, B, in)` if wanted.
        """
        work = self._workspace(inputs)
        layers = [inputs.to(self.hidden_dtype), *work.hidden]
        for index in reversed(range(len(self.weights))):
            weight, bias, below = self.weights[index], self.biases[index], layers[index]
            kind = gradient.dtype
            if kind == weight.dtype:
                torch.bmm(below.to(kind).mT, gradient, out=_gradient(weight))
            else:
                _gradient(weight).copy_(torch.bmm(below.mT, gradient))
            torch.sum(gradient, 1, keepdim=True, dtype=bias.dtype, out=_gradient(bias))
            if index == 0:
                break
            out = work.gradients[index - 1] if kind == self.hidden_dtype else None
            gradient = torch.bmm(gradient, weight.to(kind).mT, out=out).to(self.hidden_dtype)
            torch.ops.aten.threshold_backward(gradient, below, 0, grad_input=gradient)
            if masks:
                gradient.mul_(masks[index - 1])
        if not to_inputs:
            return None
        return torch.bmm(gradient, self.weights[0].to(gradient.dtype).mT).to(inputs.dtype)

    def _workspace(self, inputs: Tensor) -> Workspace:
        members, batch, _ = inputs.shape
        if batch not in self._workspaces:
            shapes = [(members, batch, int(weight.shape[-1])) for weight in self.weights[:-1]]

            def empty() -> list[Tensor]:
                kind, device = self.hidden_dtype, inputs.device
                return [torch.empty(shape, dtype=kind, device=device) for shape in shapes]

            self._workspaces[batch] = Workspace(empty(), empty())
        return self._workspaces[batch]

    def __deepcopy__(self, memo: dict[int, object]) -> StackedMLP:
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin.__dict__ = {
            key: {} if key == "_workspaces" else copy.deepcopy(each, memo)
            for key, each in self.__dict__.items()
        }
        return twin


class Workspace(NamedTuple):
    """Memory of a forward and a backward pass over B inputs, one tensor per hidden layer.

    Attributes:
        hidden: activations, `(n, B, width)`.
        gradients: of the loss with respect to them, `(n, B, width)`.
    """

    hidden: list[Tensor]
    gradients: list[Tensor]


class _Backpropagation(torch.autograd.Function):
    """Puts `StackedMLP.propagate` and `backpropagate` into autograd's graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, anchor: Tensor, mlp: StackedMLP, masks: Masks) -> Tensor:  # noqa: ANN401
        # The anchor is a parameter: it makes the result require a gradient.
        del anchor
        ctx.inputs, ctx.mlp, ctx.masks = inputs, mlp, masks
        return mlp.propagate(inputs, masks)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:  # noqa: ANN401
        wanted = ctx.needs_input_grad[0]
        to_inputs = ctx.mlp.backpropagate(ctx.inputs, gradients[0], ctx.masks, to_inputs=wanted)
        return to_inputs, None, None, None


def _gradient(parameter: Tensor) -> Tensor:
    """The parameter's gradient, to be overwritten."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


class Dropout:
    """Random masks that drop hidden units in training and scale the others up.

    Masks are an argument of a forward pass: no evaluation can forget to leave a training mode.

    Args:
        probability: p in [0, 1) that a unit is dropped; with 0 nothing is drawn.
        widths: of the hidden layers.
        generators: one random stream per network, on the CPU: checkpoints continue on any device.
    """

    def __init__(
        self, probability: float, widths: Sequence[int], generators: Sequence[torch.Generator]
    ) -> None:
        self._probability, self._widths, self._generators = probability, widths, generators

    def masks(self, inputs: Tensor) -> list[Tensor]:
        """Fresh masks for a pass over inputs `(n, B, in)`, of their dtype and on their device.

        Returns:
            `(n, B, width)` for each hidden layer, 0 with probability p and else 1 / (1 - p), which
            keeps the expected activation; no masks at all where p is 0.
        """
        if self._probability == 0:
            return []
        batch, kept = inputs.shape[1], 1 - self._probability

        def mask(width: int) -> Tensor:
            uniform = torch.stack([torch.rand(batch, width, generator=g) for g in self._generators])
            return (uniform < kept).to(inputs.device, non_blocking=True).to(inputs.dtype).div_(kept)

        return [mask(width) for width in self._widths]

    def random_state(self) -> Tensor:
        """`(n, bytes)` uint8: the random streams, for a checkpoint."""
        return torch.stack([generator.get_state() for generator in self._generators])

    def set_random_state(self, state: Tensor) -> None:
        """Restores `random_state()`."""
        for generator, each in zip(self._generators, state, strict=True):
            generator.set_state(each.clone())


class Value(nn.Module):
    """V(s), one network per member."""

    def __init__(self, mlp: StackedMLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, observations: Tensor) -> Tensor:
        """Maps observations `(M, B, O)` to values `(M, B)`."""
        values: Tensor = self.mlp(observations).squeeze(-1)
        return values


class Critic(nn.Module):
    """Q_1(s, a) and Q_2(s, a), E networks per member."""

    def __init__(self, mlp: StackedMLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Maps observations `(M, B, O)` and actions `(M, B, A)` to values `(M, E, B)`."""
        inputs = torch.cat([observations, actions], dim=-1)
        members, batch, width = inputs.shape
        shared = inputs.unsqueeze(1).expand(members, NUM_CRITICS, batch, width)
        values: Tensor = self.mlp(shared.reshape(members * NUM_CRITICS, batch, width))
        return values.view(members, NUM_CRITICS, batch)


class Actor(nn.Module):
    """pi(a | s) = N(tanh(MLP(s)), exp(log_std)^2), with a state-independent log_std."""

    def __init__(self, mlp: StackedMLP) -> None:
        super().__init__()
        self.mlp = mlp
        members, _, actions = mlp.biases[-1].shape
        self.log_std = nn.Parameter(torch.zeros(members, 1, actions, dtype=mlp.biases[-1].dtype))

    def forward(self, observations: Tensor, masks: Masks = ()) -> tuple[Tensor, Tensor]:
        """Maps observations `(M, B, O)` to the mean `(M, B, A)` and the log std `(M, 1, A)`.

        Masks (see `Dropout`) serve the actor's update alone; without them this is the policy.
        """
        mean = torch.tanh(self.mlp(observations, masks))
        return mean, self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def export(self, member: int, mean: Tensor, std: Tensor, version: int) -> ActorWeights:
        """One member's weights for the NumPy actor.

        Args:
            member: which member, 0 to M - 1.
            mean: `(O,)` subtracted from observations.
            std: `(O,)` that divides them.
            version: updates behind these weights.
        """

        # A copy: the worker side must not see the next update through shared memory.
        def array(tensor: Tensor):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return tensor.detach().to("cpu", torch.float32, copy=True).numpy()

        return ActorWeights(
            weights=tuple(array(weight[member]) for weight in self.mlp.weights),
            biases=tuple(array(bias[member, 0]) for bias in self.mlp.biases),
            log_std=array(self.log_std[member, 0]),
            observation_mean=array(mean),
            observation_std=array(std),
            version=version,
        )
