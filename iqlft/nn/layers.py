"""One layer of n MLPs, forward and backward, by the device's fastest matrix products.

Activations are sequences of tensors: one `(n, B, width)` where a batched product serves all
MLPs at once, and n of `(B, width)` where each MLP has products of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    Activations = Sequence[Tensor]

_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""`(x, weight, bias, then, ...)`: x @ weight^T + bias by oneDNN, then ReLU where `then` says so.

The operation that compiled models call; None where PyTorch is built without oneDNN."""
_NARROW = 16
"""Up to this output width PyTorch's backward products are faster, the transposed one above all."""


class Layer:
    """`x @ weight + bias` by batched products: for CUDA, float64, and CPUs without oneDNN.

    Args:
        weight: `(n, in, out)`.
        bias: `(n, 1, out)`.
        weight_gradient: where `backward` writes, of the shape of `weight`.
        bias_gradient: where `backward` writes, of the shape of `bias`.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, weight_gradient: Tensor, bias_gradient: Tensor
    ) -> None:
        self._weight, self._bias = weight, bias
        self._weight_gradient, self._bias_gradient = weight_gradient, bias_gradient

    @staticmethod
    def spread(inputs: Tensor, n: int) -> Activations:
        """`(M, B, width)` as activations of n MLPs; the n / M of a member share its inputs."""
        members, batch, width = inputs.shape
        shared = inputs.unsqueeze(1).expand(members, n // members, batch, width)
        return [shared.reshape(n, batch, width)]

    @staticmethod
    def stack(activations: Activations) -> Tensor:
        """Activations as `(n, B, width)`."""
        return activations[0]

    def chosen(self, indices: Tensor) -> Layer:
        """A snapshot of the layer for some of the MLPs, for forward passes only."""
        weight, bias = self._weight[indices], self._bias[indices]
        return type(self)(weight, bias, self._weight_gradient, self._bias_gradient)

    def forward(self, below: Activations, *, relu: bool) -> Activations:
        """The activations after this layer."""
        outputs = torch.baddbmm(self._bias, below[0], self._weight)
        return [outputs.relu_() if relu else outputs]

    def backward(self, below: Activations, gradient: Activations) -> None:
        """Writes the gradients of weight and bias; `gradient` is of the outputs before ReLU."""
        if gradient[0].dtype == self._weight_gradient.dtype:
            torch.bmm(below[0].mT, gradient[0], out=self._weight_gradient)
        else:
            self._weight_gradient.copy_(torch.bmm(below[0].mT, gradient[0]))
        out = self._bias_gradient
        torch.sum(gradient[0], 1, keepdim=True, dtype=out.dtype, out=out)

    def input_gradient(self, gradient: Activations) -> Activations:
        """The gradient of this layer's inputs; `gradient` is of its outputs before ReLU."""
        return [torch.bmm(gradient[0], self._weight.mT)]


class OneDnnLayer(Layer):
    """The same layer by oneDNN, one MLP after the other, with ReLU fused into the product.

    On an AMD processor its float32 products take half the time of PyTorch's default ones. With only
    a few columns they are slow, so the products of a narrow layer are left to PyTorch.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, weight_gradient: Tensor, bias_gradient: Tensor
    ) -> None:
        super().__init__(weight, bias, weight_gradient, bias_gradient)
        self._single, self._narrow = weight.shape[-1] == 1, weight.shape[-1] <= _NARROW
        # Made once, because making these views takes a noticeable part of an update.
        self._weights, self._transposed = weight.unbind(), weight.mT.unbind()
        self._biases = bias.squeeze(1).unbind()
        self._weight_gradients = weight_gradient.unbind()
        self._bias_gradients = bias_gradient.squeeze(1).unbind()

    @staticmethod
    def spread(inputs: Tensor, n: int) -> Activations:
        """`(M, B, width)` as activations of n MLPs; the n / M of a member are the same tensor."""
        return [each for each in inputs.unbind() for _ in range(n // len(inputs))]

    @staticmethod
    def stack(activations: Activations) -> Tensor:
        """Activations as `(n, B, width)`."""
        return torch.stack(tuple(activations))

    def forward(self, below: Activations, *, relu: bool) -> Activations:
        """The activations after this layer."""
        if self._single:
            columns = zip(self._biases, below, self._weights, strict=True)
            return [torch.addmm(bias, x, weight) for bias, x, weight in columns]
        then = "relu" if relu else "none"
        rows = zip(below, self._transposed, self._biases, strict=True)
        return [_linear(x, weight, bias, then, [], "") for x, weight, bias in rows]

    def backward(self, below: Activations, gradient: Activations) -> None:
        """Writes the gradients of weight and bias."""
        for x, g, to_weight, to_bias in zip(
            below, gradient, self._weight_gradients, self._bias_gradients, strict=True
        ):
            if self._narrow:
                to_weight.copy_((g.mT @ x).mT)
            elif x.dtype != torch.float32:
                to_weight.copy_(x.mT @ g)
            else:
                to_weight.copy_(_linear(x.mT, g.mT, None, "none", [], ""))
            # Summed in float32 inside; asking for that as the result would first convert all of g.
            to_bias.copy_(g.sum(0))

    def input_gradient(self, gradient: Activations) -> Activations:
        """The gradient of this layer's inputs."""
        if self._narrow:
            return [g @ weight for g, weight in zip(gradient, self._transposed, strict=True)]
        rows = zip(gradient, self._weights, strict=True)
        return [_linear(g, weight, None, "none", [], "") for g, weight in rows]


def layer_class(parameters: Tensor) -> type[Layer]:
    """The class that computes layers with such parameters."""
    kind = parameters.dtype
    by_onednn = (
        parameters.device.type == "cpu"
        and _linear is not None
        # Not every processor has bf16.
        and (
            kind == torch.float32
            or (kind == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        )
    )
    return OneDnnLayer if by_onednn else Layer
