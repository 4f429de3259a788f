"""Initial weights of a layer: IQL's authors' (orthogonal), PyTorch's default, or Xavier's."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

GAIN = math.sqrt(2)
"""Gain of orthogonal weights, with which activations behind a ReLU keep their scale."""

Initializer = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]
"""Draws the weights `(inputs, outputs)` and the biases `(1, outputs)` of a layer, in float64.

In float64, so that a float32 and a float64 network of one seed start from the same numbers."""


def orthogonal(
    inputs: int, outputs: int, generator: torch.Generator, gain: float = GAIN
) -> tuple[Tensor, Tensor]:
    """Semi-orthogonal weights, by default with the gain of IQL's authors, and biases 0."""
    rows, columns = max(inputs, outputs), min(inputs, outputs)
    gaussian = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = gain * q * torch.sign(torch.diagonal(r))
    weights = q if inputs >= outputs else q.T
    return weights, torch.zeros(1, outputs, dtype=torch.float64)


def uniform(inputs: int, outputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights and biases uniform in +-1 / sqrt(inputs), as in PyTorch's `Linear`."""
    drawn = torch.rand(inputs + 1, outputs, generator=generator, dtype=torch.float64)
    scaled = (2 * drawn - 1) / math.sqrt(inputs)
    return scaled[:-1], scaled[-1:]


def xavier(inputs: int, outputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights uniform in +-sqrt(6 / (inputs + outputs)) and biases 0: Glorot and Bengio, 2010."""
    drawn = torch.rand(inputs, outputs, generator=generator, dtype=torch.float64)
    weights = (2 * drawn - 1) * math.sqrt(6 / (inputs + outputs))
    return weights, torch.zeros(1, outputs, dtype=torch.float64)
