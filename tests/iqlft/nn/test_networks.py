import numpy as np
import torch

from iqlft.nn.networks import Actor
from iqlft.nn.stacked_mlp import StackedMLP
from iqlft_workers.actor import GaussianActor


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(index) for index in range(count)]


def test_the_numpy_actor_equals_the_torch_actor() -> None:
    actor = Actor(StackedMLP([29, 256, 256, 8], generators(3)))
    mean, std = torch.randn(29), torch.rand(29) + 0.5
    observations = torch.randn(3, 100, 29)
    expected, log_std = actor((observations - mean) / std)
    for member in range(3):
        weights = actor.export(member, mean, std, version=17)
        ours = GaussianActor(weights).mean(observations[member].numpy())
        np.testing.assert_allclose(ours, expected[member].numpy(), atol=1e-5)
        np.testing.assert_allclose(weights.log_std, log_std[member, 0].numpy())
        assert weights.version == 17


def test_exported_weights_do_not_change_with_the_network() -> None:
    actor = Actor(StackedMLP([4, 8, 2], generators(1)))
    weights = actor.export(0, torch.zeros(4), torch.ones(4), 0)
    before = weights.weights[0].copy()
    actor.mlp.weights[0].add_(1)
    np.testing.assert_array_equal(weights.weights[0], before)
