from collections.abc import Callable

import numpy as np
import pytest
import torch

from iqlft.nn.networks import Actor, Critic, DeterministicActor, GaussianActor
from iqlft.nn.stacked_mlp import StackedMLP
from iqlft_workers.actor import make_actor


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(index) for index in range(count)]


MAKERS = {
    "gaussian": GaussianActor,
    "gaussian, mean as it is": lambda mlp: GaussianActor(mlp, tanh_mean=False),
    "deterministic": lambda mlp: DeterministicActor(mlp, 0.1),
}


@pytest.mark.parametrize("made", MAKERS.values(), ids=MAKERS)
def test_the_numpy_actor_equals_the_torch_actor(made: Callable[[StackedMLP], Actor]) -> None:
    actor = made(StackedMLP([29, 256, 256, 8], generators(3)))
    mean, std = torch.randn(29), torch.rand(29) + 0.5
    observations = torch.randn(3, 100, 29)
    with torch.no_grad():
        expected = actor((observations - mean) / std)
    expected = expected[0] if isinstance(expected, tuple) else expected
    for member in range(3):
        weights = actor.export(member, mean, std, version=17)
        ours = make_actor(weights).mean(observations[member].numpy())
        np.testing.assert_allclose(ours, expected[member].clamp(-1, 1).numpy(), atol=1e-5)
        assert weights.version == 17


def test_exported_weights_do_not_change_with_the_network() -> None:
    actor = GaussianActor(StackedMLP([4, 8, 2], generators(1)))
    weights = actor.export(0, torch.zeros(4), torch.ones(4), 0)
    before = weights.arrays["weight.0"].copy()
    actor.mlp.weights[0].add_(1)
    np.testing.assert_array_equal(weights.arrays["weight.0"], before)


# -- autograd -----------------------------------------------------------------------------------


class PlainMLP:
    """The same perceptrons, member by member, by autograd's own operations."""

    def __init__(self, mlp: StackedMLP) -> None:
        self.leaves = [
            [each.detach().clone().requires_grad_() for each in kind]
            for kind in (mlp.weights, mlp.biases)
        ]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        weights, biases = self.leaves
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            inputs = torch.relu(inputs @ weight + bias)
        return inputs @ weights[-1] + biases[-1]

    def gradients(self) -> torch.Tensor:
        pairs = zip(*self.leaves, strict=True)
        return torch.cat([each.grad.flatten() for pair in pairs for each in pair])


KINDS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
def test_autograd_gets_the_gradients_of_parameters_and_inputs(
    dtype: torch.dtype, tolerance: float
) -> None:
    # Two members with three critics each, whose gradients add up in the inputs that they share.
    mlp = StackedMLP([5, 16, 16, 1], generators(6), dtype)
    critic, plain = Critic(mlp), PlainMLP(mlp)
    inputs = torch.randn(2, 7, 5, dtype=dtype, requires_grad=True)
    twin = inputs.detach().clone().requires_grad_()
    values = critic(inputs)
    expected = plain(twin.repeat_interleave(3, 0)).view(2, 3, 7)
    torch.testing.assert_close(values, expected, rtol=tolerance, atol=tolerance)
    values.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mlp.gradients, plain.gradients(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(inputs.grad, twin.grad, rtol=tolerance, atol=tolerance)


def test_gradients_of_several_passes_add_up_until_the_parameters_change() -> None:
    mlp = StackedMLP([5, 16, 1], generators(2))
    critic = Critic(mlp)
    one, other = torch.randn(2, 7, 5), torch.randn(2, 9, 5)

    def gradient(*batches: torch.Tensor) -> torch.Tensor:
        critic.changed()
        loss = sum(critic(batch).square().sum() for batch in batches)
        loss.backward()
        return mlp.gradients.clone()

    torch.testing.assert_close(gradient(one, other), gradient(one) + gradient(other))


def test_a_network_that_does_not_learn_passes_the_gradient_on_alone() -> None:
    mlp = StackedMLP([5, 16, 1], generators(2))
    critic = Critic(mlp)
    inputs = torch.randn(1, 7, 5, requires_grad=True)
    critic(inputs, learn=False).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
    assert mlp.gradients.abs().sum() == 0


def test_a_log_std_gets_its_gradient_within_its_bounds_alone() -> None:
    actor = GaussianActor(StackedMLP([5, 16, 3], generators(2)), log_std_min=-1.0, log_std_max=1.0)
    with torch.no_grad():
        actor.log_std[0, 0, 0] = -2.0
    _, log_std = actor(torch.randn(2, 7, 5))
    (2 * log_std).sum().backward()
    assert actor.gradients[1].tolist() == [[[0, 2, 2]], [[2, 2, 2]]]
