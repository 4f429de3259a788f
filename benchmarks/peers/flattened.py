"""The networks of a peer in PyTorch as vectors."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector


def flattened(**networks: nn.Module) -> Callable[[], dict[str, torch.Tensor]]:
    """A function that returns the current parameters of each network."""
    return lambda: {
        name: parameters_to_vector(network.parameters()).detach()
        for name, network in networks.items()
    }
