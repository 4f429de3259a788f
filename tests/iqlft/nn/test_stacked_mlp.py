import copy
from collections.abc import Sequence
from functools import partial

import pytest
import torch

from iqlft.nn import stacked_mlp as perceptrons
from iqlft.nn.initialization import orthogonal, uniform
from iqlft.nn.layers import Layer
from iqlft.nn.stacked_mlp import Dropout, StackedMLP


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


@pytest.fixture(params=["the machine's", "batched"])
def each_layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the layers that suit this machine, and by the batched ones, which a GPU has."""
    if request.param == "batched":
        monkeypatch.setattr(perceptrons, "layer_class", lambda _: Layer)


def plain_forward(
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    inputs: torch.Tensor,
    masks: Sequence[torch.Tensor],
    *,
    layer_norm: bool,
) -> torch.Tensor:
    """What autograd would differentiate."""
    hidden = inputs
    for weight, bias, mask in zip(weights[:-1], biases[:-1], masks, strict=True):
        hidden = hidden @ weight + bias
        if layer_norm:
            hidden = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:])
        hidden = mask * torch.relu(hidden)
    return hidden @ weights[-1] + biases[-1]


def test_the_output_layer_may_begin_otherwise_and_leaves_the_others_as_they_are() -> None:
    small, usual = (
        StackedMLP(
            [4, 8, 3], generators(2), torch.float64, initial_output=partial(orthogonal, gain=gain)
        )
        for gain in (1e-2, 2**0.5)
    )
    torch.testing.assert_close(small.weights[0], usual.weights[0])
    torch.testing.assert_close(small.weights[1] * 2**0.5, usual.weights[1] * 1e-2)


def test_biases_begin_as_drawn() -> None:
    drawn, zero = (
        StackedMLP([4, 8, 3], generators(2), initial=initial) for initial in (uniform, orthogonal)
    )
    assert all((each != 0).all() for each in drawn.biases)
    assert not any(each.any() for each in zero.biases)
    assert not torch.equal(drawn.biases[0][0], drawn.biases[0][1])


@pytest.mark.parametrize("hidden", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("each_layer")
def test_some_perceptrons_compute_what_they_compute_among_all(hidden: torch.dtype) -> None:
    mlp = StackedMLP([4, 20, 18, 1], generators(6), hidden_dtype=hidden, layer_norm=True)
    inputs, chosen = torch.randn(2, 7, 4), torch.tensor([2, 0, 5, 3])
    every, some = mlp.forward(inputs), mlp.chosen(chosen)
    mlp.parameters.zero_()  # The chosen ones stay as they were.
    mlp.round()
    torch.testing.assert_close(some.forward(inputs), every[chosen])


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("outputs", [1, 3, 19])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("each_layer")
def test_forward_and_backward_pass_equal_autograd_s(
    dtype: torch.dtype, outputs: int, dropout: float, layer_norm: bool
) -> None:
    # Wide and narrow layers: their products are different ones.
    mlp = StackedMLP([4, 20, 18, outputs], generators(4), dtype, layer_norm=layer_norm)
    mlp.biases[0].normal_()
    # Two members with two perceptrons each.
    inputs, weight = torch.randn(2, 7, 4, dtype=dtype), torch.randn(4, 7, outputs, dtype=dtype)
    masks = Dropout(dropout, [20, 18], generators(4)).masks(inputs.repeat(2, 1, 1))
    weights, biases = ([each.clone() for each in kind] for kind in (mlp.weights, mlp.biases))
    leaves = [each.requires_grad_() for each in [*weights, *biases]]
    shared = inputs.repeat_interleave(2, 0)
    expected = plain_forward(
        weights, biases, shared, masks or [torch.ones(1)] * 2, layer_norm=layer_norm
    )
    (expected * weight).sum().backward()
    torch.testing.assert_close(mlp.forward(inputs, masks, learn=True), expected)
    mlp.backward(weight)
    for actual, leaf in zip(mlp.named(mlp.gradients).values(), leaves, strict=True):
        torch.testing.assert_close(actual, leaf.grad)


def test_a_backward_pass_replaces_old_gradients_and_belongs_to_the_last_forward_pass() -> None:
    mlp, inputs = StackedMLP([4, 6, 1], generators(1)), torch.randn(1, 8, 4)
    ones = torch.ones(1, 8, 1)
    mlp.forward(inputs, learn=True)
    mlp.backward(ones)
    first = mlp.gradients.clone()
    mlp.forward(inputs[:, :3])
    mlp.forward(inputs, learn=True)
    mlp.backward(ones)
    assert torch.equal(mlp.gradients, first)


def test_parameters_lie_side_by_side_and_have_names() -> None:
    mlp = StackedMLP([4, 6, 1], generators(3))
    named = mlp.named(mlp.parameters)
    assert {name: tuple(each.shape) for name, each in named.items()} == {
        "weights.0": (3, 4, 6), "weights.1": (3, 6, 1),
        "biases.0": (3, 1, 6), "biases.1": (3, 1, 1),
    }  # fmt: skip
    assert sum(each.numel() for each in named.values()) == mlp.parameters.numel()
    mlp.parameters.fill_(2.0)
    assert all((each == 2).all() for each in [*mlp.weights, *mlp.biases])


def test_a_copy_has_parameters_of_its_own() -> None:
    mlp, inputs = StackedMLP([4, 6, 1], generators(1)), torch.randn(1, 8, 4)
    before, twin = mlp.forward(inputs), copy.deepcopy(mlp)
    twin.parameters.add_(1)
    assert torch.equal(mlp.forward(inputs), before)
    assert not torch.equal(twin.forward(inputs), before)
    torch.testing.assert_close(twin.weights[0], mlp.weights[0] + 1)


def test_dropout_drops_its_share_of_units_and_keeps_the_mean_activation() -> None:
    first, second = Dropout(0.2, [300, 100], generators(2)).masks(torch.zeros(2, 500, 4))
    assert first.shape == (2, 500, 300)
    assert second.shape == (2, 500, 100)
    for mask in (first, second):
        assert mask.unique().tolist() == pytest.approx([0, 1 / 0.8])
        # 50,000 units or more per member: the share's standard error is at most 0.0018.
        assert (mask == 0).float().mean((1, 2)).tolist() == pytest.approx([0.2, 0.2], abs=0.01)
        assert mask.mean((1, 2)).tolist() == pytest.approx([1, 1], abs=0.01)


def test_every_forward_pass_and_every_network_has_masks_of_its_own() -> None:
    dropout, inputs = Dropout(0.5, [64], generators(2)), torch.zeros(2, 8, 4)
    (first,), (second,) = dropout.masks(inputs), dropout.masks(inputs)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_masks_do_not_depend_on_the_precision_or_on_the_networks_beside() -> None:
    (alone,) = Dropout(0.5, [64], generators(1, seed=1)).masks(torch.zeros(1, 8, 4))
    (together,) = Dropout(0.5, [64], generators(3)).masks(torch.zeros(3, 8, 4).double())
    assert together.dtype == torch.float64
    assert torch.equal(alone[0], together[1].float())


def test_without_dropout_nothing_is_drawn() -> None:
    (generator,) = generators(1)
    before = generator.get_state()
    assert Dropout(0.0, [64], [generator]).masks(torch.zeros(1, 8, 4)) == []
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.usefixtures("each_layer")
def test_bf16_hidden_layers_keep_a_float32_output_layer(dropout: float) -> None:
    exact = StackedMLP([4, 64, 64, 1], generators(1))
    rough = StackedMLP([4, 64, 64, 1], generators(1), hidden_dtype=torch.bfloat16)
    for mlp in (exact, rough):
        mlp.biases[-1].fill_(-70.3)
        mlp.round()
    inputs = torch.randn(1, 256, 4)
    masks = Dropout(dropout, [64, 64], generators(1)).masks(inputs)
    values = exact.forward(inputs, masks, learn=True)
    approximate = rough.forward(inputs, masks, learn=True)
    assert approximate.dtype == torch.float32
    # A value near -70 in bf16 would lie on steps of 0.5; the float32 output layer keeps the rest.
    assert (approximate * 2 != (approximate * 2).round()).any()
    torch.testing.assert_close(values, approximate, atol=0.3, rtol=0)
    for mlp in (exact, rough):
        mlp.backward(torch.ones_like(values))
    names = mlp.named(exact.gradients), mlp.named(rough.gradients)
    for one, other in zip(*(each.values() for each in names), strict=True):
        assert torch.nn.functional.cosine_similarity(
            one.flatten(), other.flatten(), dim=0
        ) == pytest.approx(1, abs=0.02)


def test_bf16_layers_follow_the_parameters_when_they_are_told() -> None:
    mlp = StackedMLP([4, 8, 1], generators(1), hidden_dtype=torch.bfloat16)
    inputs = torch.randn(1, 5, 4)
    mlp.weights[0].zero_()  # The output layer stays as it was.
    assert (mlp.forward(inputs) != 0).any()
    mlp.round()
    assert (mlp.forward(inputs) == 0).all()
