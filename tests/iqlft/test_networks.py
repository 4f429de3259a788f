import numpy as np
import pytest
import torch

from iqlft.networks import Actor, StackedMLP, orthogonal
from workers.actor import GaussianActor


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def plain_forward(mlp: StackedMLP, inputs: torch.Tensor) -> torch.Tensor:
    """What autograd would differentiate."""
    hidden = inputs
    for weight, bias in zip(mlp.weights[:-1], mlp.biases[:-1], strict=True):
        hidden = torch.relu(hidden @ weight + bias)
    return hidden @ mlp.weights[-1] + mlp.biases[-1]


def test_orthogonal_matrices_have_gain_sqrt_two_in_both_orientations() -> None:
    (generator,) = generators(1)
    wide, tall = orthogonal(3, 8, generator), orthogonal(8, 3, generator)
    torch.testing.assert_close(wide @ wide.T, 2 * torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(tall.T @ tall, 2 * torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("batch", [1, 7])
def test_the_written_out_backward_pass_equals_autograd(batch: int) -> None:
    mlp = StackedMLP([4, 6, 5, 3], generators(2), torch.float64)
    inputs = torch.randn(2, batch, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, batch, 3, dtype=torch.float64)
    (plain_forward(mlp, inputs) * weight).sum().backward()
    expected = [each.grad.clone() for each in [inputs, *mlp.parameters()]]
    for each in [inputs, *mlp.parameters()]:
        each.grad = None
    (mlp(inputs) * weight).sum().backward()
    for actual, wanted in zip([inputs, *mlp.parameters()], expected, strict=True):
        torch.testing.assert_close(actual.grad, wanted)


def test_a_backward_pass_replaces_old_gradients() -> None:
    mlp = StackedMLP([4, 6, 1], generators(1))
    inputs = torch.randn(1, 8, 4)
    mlp(inputs).sum().backward()
    first = [each.grad.clone() for each in mlp.parameters()]
    mlp(inputs).sum().backward()
    for each, before in zip(mlp.parameters(), first, strict=True):
        torch.testing.assert_close(each.grad, before)


def test_bf16_hidden_layers_keep_a_float32_output_layer() -> None:
    exact = StackedMLP([4, 64, 64, 1], generators(1))
    rough = StackedMLP([4, 64, 64, 1], generators(1), hidden_dtype=torch.bfloat16)
    with torch.no_grad():
        for mlp in (exact, rough):
            mlp.biases[-1].fill_(-70.3)
    inputs = torch.randn(1, 256, 4)
    with torch.no_grad():
        values, approximate = exact(inputs), rough(inputs)
    assert approximate.dtype == torch.float32
    # A value near -70 in bf16 would lie on steps of 0.5; the float32 output layer keeps the rest.
    assert (approximate * 2 != (approximate * 2).round()).any()
    torch.testing.assert_close(values, approximate, atol=0.3, rtol=0)
    rough(inputs).sum().backward()
    exact(inputs).sum().backward()
    for one, other in zip(exact.parameters(), rough.parameters(), strict=True):
        assert torch.nn.functional.cosine_similarity(
            one.grad.flatten(), other.grad.flatten(), dim=0
        ) == pytest.approx(1, abs=0.02)


def test_the_numpy_actor_equals_the_torch_actor() -> None:
    actor = Actor(StackedMLP([29, 256, 256, 8], generators(3)))
    mean, std = torch.randn(29), torch.rand(29) + 0.5
    observations = torch.randn(3, 100, 29)
    with torch.no_grad():
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
    with torch.no_grad():
        actor.mlp.weights[0].add_(1)
    np.testing.assert_array_equal(weights.weights[0], before)
