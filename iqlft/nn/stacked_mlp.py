"""Stacked MLPs: n of one shape, evaluated layer by layer.

Every tensor keeps a leading member axis. M members are runs trained together (seeds), and each of
them may have several MLPs, so `n` is a multiple of M. Shapes: M members, B batch.

Forward and backward pass are written out: for MLPs of this size autograd's bookkeeping costs
as much as a third of the arithmetic (`docs/performance.md`). Algorithms need not know: calling a
stack is one autograd operation, whose backward pass is the written-out one.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from iqlft.nn.initialization import orthogonal
from iqlft.nn.layers import layer_class
from iqlft_workers.actor import LAYER_NORM_EPSILON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.nn.initialization import Initializer
    from iqlft.nn.layers import Activations

    Masks = Sequence[Tensor]


class StackedMLP:
    """n MLPs with ReLU hidden layers and a linear output.

    Args:
        sizes: layer widths from input to output.
        generators: one random stream per MLP; n is their number.
        dtype: of the parameters, the output layer and the result.
        hidden_dtype: arithmetic of the hidden layers; bfloat16 is faster where the machine has it.
            The output layer never uses it: a value near -70 would be rounded to steps of 0.5.
        device: where the parameters live.
        layer_norm: whether each hidden layer is normalised before its ReLU, without gain and shift
            of its own.
        initial: draws the initial weights and biases of each layer.
        initial_output: those of the output layer; None: as for the others.

    Attributes:
        layer_norm: see above.
        parameters: `(P,)` everything that is learned, side by side.
        gradients: `(P,)` in the same order; `backward` overwrites them, autograd adds to them until
            the parameters change.
        weights: `(n, in, out)` per layer, views of `parameters`.
        biases: `(n, 1, out)` per layer, views of `parameters`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        dtype: torch.dtype = torch.float32,
        hidden_dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        *,
        layer_norm: bool = False,
        initial: Initializer = orthogonal,
        initial_output: Initializer | None = None,
    ) -> None:
        self.layer_norm = layer_norm
        n, pairs = len(generators), list(itertools.pairwise(sizes))
        self._shapes = [shape for i, o in pairs for shape in ((n, i, o), (n, 1, o))]
        self.parameters = torch.zeros(sum(map(math.prod, self._shapes)), dtype=dtype, device=device)
        self.gradients = torch.zeros_like(self.parameters)
        self._rounded = self.parameters.to(hidden_dtype or dtype)
        self.weights, self.biases = self._split(self.parameters)
        draws = [*[initial] * (len(pairs) - 1), initial_output or initial]
        for index, (pair, draw) in enumerate(zip(pairs, draws, strict=True)):
            weights, biases = zip(*(draw(*pair, each) for each in generators), strict=True)
            self.weights[index].copy_(torch.stack(weights))
            self.biases[index].copy_(torch.stack(biases))
        rounded, gradients = self._split(self._rounded), self._split(self.gradients)
        *hidden, last = zip(*rounded, *gradients, strict=True)
        self._layer_class = layer_class(self._rounded)
        self._hidden = [self._layer_class(*tensors) for tensors in hidden]
        # The output layer uses the parameters themselves, without rounding.
        self._last = self._layer_class(self.weights[-1], self.biases[-1], *last[2:])
        self._passed: _Pass | None = None
        self._accumulates = False
        # Autograd runs a backward pass only if an input of the operation requires a gradient.
        self._anchor = torch.zeros((), device=device, requires_grad=True)
        self.round()

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Named views of a vector laid out as `parameters` is (these, or gradients, or moments)."""
        weights, biases = self._split(flat)
        return {
            f"{kind}.{index}": tensor
            for kind, tensors in (("weights", weights), ("biases", biases))
            for index, tensor in enumerate(tensors)
        }

    def _split(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        parts = torch.split(flat, [math.prod(shape) for shape in self._shapes])
        tensors = [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return tensors[::2], tensors[1::2]

    def round(self) -> None:
        """Copies the parameters to the hidden layers' dtype; due whenever they have changed."""
        self._accumulates = False
        if self._rounded is not self.parameters:
            self._rounded.copy_(self.parameters)

    def chosen(self, indices: Tensor) -> StackedMLP:
        """A snapshot of the MLPs at indices `(k,)`, for forward passes only."""
        some = copy.copy(self)
        some.weights = [each[indices] for each in self.weights]
        some._hidden = [layer.chosen(indices) for layer in self._hidden]
        some._last = self._last.chosen(indices)
        return some

    def __call__(self, inputs: Tensor, masks: Masks = (), *, learn: bool = True) -> Tensor:
        """Maps inputs to outputs as one autograd operation.

        Args:
            inputs: `(M, B, in)`; the n / M MLPs of a member share its inputs, which get a
                gradient where they require one.
            masks: `(n, B, width)` per hidden layer, which multiply its activations.
            learn: whether a backward pass adds to `gradients`; without it these MLPs only
                pass a gradient on to their inputs, as critics do in an actor's loss.

        Returns:
            `(n, B, out)`.
        """
        if not torch.is_grad_enabled():
            return self.forward(inputs, masks)
        anchor = self._anchor if learn else self._anchor.detach()
        outputs: Tensor = _Differentiable.apply(inputs, anchor, self, masks)  # type: ignore[no-untyped-call]
        return outputs

    def forward(self, inputs: Tensor, masks: Masks = (), *, learn: bool = False) -> Tensor:
        """Maps inputs to outputs without autograd.

        Args:
            inputs: as in a call.
            masks: as in a call.
            learn: whether to keep what `backward` needs, which can fill a core's cache.

        Returns:
            `(n, B, out)`.
        """
        outputs, passed = self._forward(inputs, masks)
        self._passed = passed if learn else None
        return outputs

    def _forward(self, inputs: Tensor, masks: Masks) -> tuple[Tensor, _Pass]:
        n, spread = len(self.weights[0]), self._layer_class.spread
        layers: list[Activations] = [spread(inputs.to(self._rounded.dtype), n)]
        dropped = [spread(mask, n) for mask in masks]
        normalized: list[list[_Normalized]] = []
        for index, layer in enumerate(self._hidden):
            activations = layer.forward(layers[-1], relu=not self.layer_norm)
            if self.layer_norm:
                normalized.append([_Normalized(each) for each in activations])
                activations = [each.outputs for each in normalized[-1]]
            if dropped:
                for each, mask in zip(activations, dropped[index], strict=True):
                    each.mul_(mask)
            layers.append(activations)
        top = [each.to(self.parameters.dtype) for each in layers[-1]]
        outputs = self._layer_class.stack(self._last.forward(top, relu=False))
        return outputs, _Pass(layers, top, dropped, normalized)

    def backward(self, gradient: Tensor) -> None:
        """Writes `gradients` for the last `forward`, which must have had `learn`.

        Args:
            gradient: of the loss with respect to that pass's outputs, `(n, B, out)`.
        """
        assert self._passed is not None
        passed, self._passed = self._passed, None
        self._backward(passed, gradient)

    def _backward(
        self, passed: _Pass, gradient: Tensor, *, learn: bool = True, to_inputs: bool = False
    ) -> Activations:
        """Writes `gradients` if `learn`; returns the gradient of the inputs if `to_inputs`."""
        layers, top, dropped, normalized = passed
        kind, last = self._rounded.dtype, self._layer_class.spread(gradient, len(gradient))
        if learn:
            self._last.backward(top, last)
        below: Activations = [each.to(kind) for each in self._last.input_gradient(last)]
        for index in reversed(range(len(self._hidden))):
            for number, (each, activation) in enumerate(zip(below, layers[index + 1], strict=True)):
                torch.ops.aten.threshold_backward(each, activation, 0, grad_input=each)
                if dropped:
                    each.mul_(dropped[index][number])
            if normalized:
                pairs = zip(normalized[index], below, strict=True)
                below = [layer.input_gradient(each) for layer, each in pairs]
            if learn:
                self._hidden[index].backward(layers[index], below)
            if index or to_inputs:
                below = self._hidden[index].input_gradient(below)
        return below

    def accumulate(
        self, passed: _Pass, gradient: Tensor, *, learn: bool, to_inputs: bool
    ) -> Tensor:
        """Autograd's backward pass: adds to the `gradients` that earlier passes have left.

        Returns:
            The gradient of the inputs of each MLP, `(n, B, in)`; meaningless unless `to_inputs`.
        """
        others = self.gradients.clone() if learn and self._accumulates else None
        below = self._backward(passed, gradient, learn=learn, to_inputs=to_inputs)
        if others is not None:
            self.gradients += others
        self._accumulates |= learn
        return self._layer_class.stack(below)


class _Pass(NamedTuple):
    """What a forward pass leaves for the backward pass.

    Attributes:
        layers: inputs and hidden activations, from the first layer to the last.
        top: the last of them in the dtype of the output layer.
        dropped: the masks of each hidden layer; empty without dropout.
        normalized: each hidden layer's normalisation; empty without LayerNorm.
    """

    layers: list[Activations]
    top: Activations
    dropped: list[Activations]
    normalized: list[list[_Normalized]]


class _Normalized:
    """LayerNorm and ReLU of activations `(..., width)`, and LayerNorm's backward pass.

    Attributes:
        outputs: after the ReLU.
    """

    def __init__(self, inputs: Tensor) -> None:
        self._inputs, self._shape = inputs, inputs.shape[-1:]
        normal, self._mean, self._inverse_std = torch.native_layer_norm(
            inputs, self._shape, None, None, LAYER_NORM_EPSILON
        )
        self.outputs: Tensor = normal.relu_()

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient of the inputs; `gradient` is that of the ReLU's inputs."""
        found: Tensor = torch.ops.aten.native_layer_norm_backward(
            gradient, self._inputs, self._shape, self._mean, self._inverse_std, None, None,
            [True, False, False],
        )[0]  # fmt: skip
        return found


class _Differentiable(torch.autograd.Function):
    """A stack's forward and backward pass as one operation."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, _: Tensor, mlp: StackedMLP, masks: Masks) -> Tensor:  # noqa: ANN401
        ctx.mlp, ctx.shape, ctx.dtype = mlp, inputs.shape, inputs.dtype
        outputs, ctx.passed = mlp._forward(inputs, masks)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:  # noqa: ANN401
        to_inputs, learn = ctx.needs_input_grad[:2]
        below = ctx.mlp.accumulate(
            ctx.passed, gradients[0].contiguous(), learn=learn, to_inputs=to_inputs
        )
        if not to_inputs:
            return None, None, None, None
        # The MLPs of a member share its inputs, so the inputs' gradient is the sum of theirs.
        shared = below.to(ctx.dtype).unflatten(0, (ctx.shape[0], -1)).sum(1)
        return shared, None, None, None


class Dropout:
    """Random masks that drop hidden units in training and scale the others up.

    Masks are an argument of a forward pass, so there is no training mode to forget to leave.

    Args:
        probability: p in [0, 1) that a unit is dropped; with 0 nothing is drawn.
        widths: of the hidden layers.
        generators: one random stream per network, on the CPU, so checkpoints resume on any device.
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
