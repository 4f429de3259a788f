"""Adam over a few flat tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


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
        self._parameters, self._gradients = list(parameters), list(gradients)
        self.means = [torch.zeros_like(each) for each in parameters]
        self.squares = [torch.zeros_like(each) for each in parameters]
        self.steps = torch.zeros(len(self._parameters), device=self._parameters[0].device)
        self._counts = list(self.steps)

    def step(self, learning_rate: float) -> None:
        """Takes one step."""
        self.steps += 1
        torch._fused_adam_(
            self._parameters, self._gradients, self.means, self.squares, [], self._counts,
            lr=learning_rate, beta1=BETA_1, beta2=BETA_2, weight_decay=0.0, eps=EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip
