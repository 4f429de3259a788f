"""A peer's networks as vectors, for those in PyTorch."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector


def flattened(**networks: nn.Module) -> Callable[[], dict[str, torch.Tensor]]:
    """What returns the parameters of each network, as they are when it is called."""
    return lambda: {
        name: parameters_to_vector(network.parameters()).detach()
        for name, network in networks.items()
    }
