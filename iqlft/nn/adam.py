"""Adam over a few flat tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

STATE_PREFIX = "adam."
"""What the names of its tensors begin with in an algorithm's state."""
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
_PIECES, _SMALLEST = 32, 4096
"""Into how many pieces a tensor is cut for a GPU at most, and how large one is at least."""


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) in one fused operation.

    It is PyTorch's own arithmetic without its bookkeeping, which takes longer than the operation.

    Args:
        parameters: are changed in place.
        gradients: of the same shapes; read at each step.

    Attributes:
        means: running means of the gradients.
        squares: running means of their squares.
        steps: number of steps taken, of each tensor.
    """

    def __init__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self.means = [torch.zeros_like(each) for each in parameters]
        self.squares = [torch.zeros_like(each) for each in parameters]
        device = parameters[0].device
        self.steps = torch.zeros(len(parameters), device=device)
        # A GPU gives 65,536 elements of a tensor to one of its many processors: small pieces keep
        # more of them busy, and so few that all still go in one launch.
        cut = _cut if device.type == "cuda" else _whole
        self._parameters, self._gradients, self._means, self._squares = (
            [piece for each in tensors for piece in cut(each)]
            for tensors in (parameters, gradients, self.means, self.squares)
        )
        counts = zip(self.steps, parameters, strict=True)
        self._counts = [count for count, each in counts for _ in cut(each)]

    def reset(self) -> None:
        """Begins anew."""
        for each in (*self.means, *self.squares, self.steps):
            each.zero_()

    def take_over(self, other: Adam) -> None:
        """Goes on as another one of the same parameters would."""
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
    """At most `_PIECES` pieces, whose sizes are multiples of the smallest, but for the last."""
    return torch.split(flat, _SMALLEST * -(-flat.numel() // (_PIECES * _SMALLEST)))
