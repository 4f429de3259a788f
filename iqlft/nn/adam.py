"""Adam over a few flat tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

STATE_PREFIX = "adam."
"""Prefix of the names of Adam's tensors in an algorithm's state."""
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
_PIECES, _SMALLEST = 32, 4096
"""For a GPU: largest number of pieces that a tensor is cut into, and elements of the smallest."""


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) in one fused operation.

    The arithmetic is PyTorch's own, without its bookkeeping, which takes longer than the operation.

    Args:
        parameters: changed in place.
        gradients: of the same shapes; read at each step.

    Attributes:
        means: running means of the gradients.
        squares: running means of the squared gradients.
        steps: number of steps taken, one entry per tensor.
    """

    def __init__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self.means = [torch.zeros_like(each) for each in parameters]
        self.squares = [torch.zeros_like(each) for each in parameters]
        device = parameters[0].device
        self.steps = torch.zeros(len(parameters), device=device)
        # The kernel gives each 65,536 elements of a tensor to one of the GPU's many processors:
        # smaller pieces keep more of them busy, and this few still fit one launch.
        cut = _cut if device.type == "cuda" else _whole
        self._parameters, self._gradients, self._means, self._squares = (
            [piece for each in tensors for piece in cut(each)]
            for tensors in (parameters, gradients, self.means, self.squares)
        )
        counts = zip(self.steps, parameters, strict=True)
        self._counts = [count for count, each in counts for _ in cut(each)]

    def reset(self) -> None:
        """Restarts with moments and step counts of zero."""
        for each in (*self.means, *self.squares, self.steps):
            each.zero_()

    def take_over(self, other: Adam) -> None:
        """Copies the moments and step counts of another Adam, of tensors of the same shapes."""
        for mine, theirs in zip(
            (*self.means, *self.squares, self.steps),
            (*other.means, *other.squares, other.steps),
            strict=True,
        ):
            mine.copy_(theirs)

    def step(self, learning_rate: float) -> None:
        """Takes one step."""
        self.steps += 1
        torch._fused_adam_(
            self._parameters, self._gradients, self._means, self._squares, [], self._counts,
            lr=learning_rate, beta1=BETA_1, beta2=BETA_2, weight_decay=0.0, eps=EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip


def _whole(flat: Tensor) -> Sequence[Tensor]:
    return [flat]


def _cut(flat: Tensor) -> Sequence[Tensor]:
    """At most `_PIECES` pieces of a multiple of `_SMALLEST` elements; the last may be shorter."""
    return torch.split(flat, _SMALLEST * -(-flat.numel() // (_PIECES * _SMALLEST)))
