from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from iqlft.nn.initialization import orthogonal
from iqlft.nn.networks import (
    Actor,
    Critic,
    DeterministicActor,
    GaussianActor,
    OneStepFlowActor,
    Scalar,
    SquashedGaussianActor,
    VelocityField,
    squashed_log_prob,
)
from iqlft.nn.stacked_mlp import StackedMLP
from iqlft_workers.actor import make_actor


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(index) for index in range(count)]


MAKERS: dict[str, Callable[[StackedMLP], Actor]] = {
    "gaussian": GaussianActor,
    "gaussian, mean as it is": lambda mlp: GaussianActor(mlp, tanh_mean=False),
    "deterministic": lambda mlp: DeterministicActor(mlp, 0.1),
    "squashed_gaussian": SquashedGaussianActor,
    "squashed_gaussian, normalised": SquashedGaussianActor,
    "one_step_flow": OneStepFlowActor,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_numpy_actor_equals_the_torch_actor(name: str) -> None:
    layer_norm = name.endswith("normalised")
    inputs = 29 + 8 * (name == "one_step_flow")
    mlp = StackedMLP([inputs, 256, 256, 8], generators(3), layer_norm=layer_norm)
    actor = MAKERS[name](mlp)
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


def actor_of(name: str, seed: int, hidden: int = 16) -> Actor:
    outputs = 6 if name.startswith("squashed") else 3
    streams = [torch.Generator().manual_seed(seed + index) for index in range(2)]
    normalised = name.endswith("normalised")
    return MAKERS[name](StackedMLP([5, hidden, hidden, outputs], streams, layer_norm=normalised))


def means(actor: Actor, observations: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        made = actor(observations)
    mean: torch.Tensor = made[0] if isinstance(made, tuple) else made
    return mean


TANH = "gaussian", "deterministic", "squashed_gaussian"


@pytest.mark.parametrize("name", TANH)
@pytest.mark.parametrize("other", TANH)
def test_an_actor_takes_over_the_mean_of_one_of_any_kind_that_squashes_it(
    name: str, other: str
) -> None:
    mine, theirs = actor_of(name, 0), actor_of(other, 10)
    observations = torch.randn(2, 50, 5)
    assert not torch.allclose(means(mine, observations), means(theirs, observations))
    assert mine.take_mean(theirs)
    torch.testing.assert_close(means(mine, observations), means(theirs, observations))


def test_a_squashed_gaussian_takes_over_the_spread_of_a_gaussian_too() -> None:
    mine, theirs = (
        SquashedGaussianActor(actor_of("squashed_gaussian", 0).mlp),
        actor_of("gaussian", 9),
    )
    assert isinstance(theirs, GaussianActor)
    with torch.no_grad():
        theirs.log_std.copy_(torch.tensor([[[-1.0, -2.0, 0.5]], [[-25.0, 0.0, 3.0]]]))
    assert mine.take_mean(theirs)
    with torch.no_grad():
        log_std = mine.distribution(torch.randn(2, 4, 5))[1]
    expected = torch.tensor([[[-1.0, -2.0, 0.5]], [[-20.0, 0.0, 2.0]]]).expand(2, 4, 3)
    torch.testing.assert_close(log_std, expected)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("gaussian", 32), ("gaussian, mean as it is", 16), ("squashed_gaussian, normalised", 16)],
)
def test_an_actor_that_computes_otherwise_gives_nothing(name: str, hidden: int) -> None:
    mine = actor_of("squashed_gaussian", 0)
    before = [each.clone() for each in mine.parameters]
    assert not mine.take_mean(actor_of(name, 10, hidden))
    assert all(map(torch.equal, mine.parameters, before))


def test_a_flow_s_sample_in_numpy_equals_the_torch_one_of_the_same_noise() -> None:
    actor = OneStepFlowActor(StackedMLP([29 + 8, 256, 256, 8], generators(2)))
    observations = torch.randn(2, 50, 29)
    noise = np.random.default_rng(3).standard_normal((50, 8), np.float32)
    with torch.no_grad():
        actions = actor(observations, torch.from_numpy(noise).expand(2, 50, 8)).clamp(-1, 1)
    assert 0.05 < (actions.abs() == 1).float().mean() < 0.95
    for member in range(2):
        twin = make_actor(actor.export(member, torch.zeros(29), torch.ones(29), 0))
        ours = twin.sample(observations[member].numpy(), np.random.default_rng(3))
        np.testing.assert_allclose(ours, actions[member].numpy(), atol=1e-5)


def test_a_velocity_that_leads_straight_to_an_action_arrives_there_in_any_number_of_steps() -> None:
    class ToOnes(VelocityField):
        def __call__(
            self, observations: torch.Tensor, places: torch.Tensor, times: torch.Tensor
        ) -> torch.Tensor:
            del observations
            return (1 - places) / (1 - times)

    field = ToOnes(StackedMLP([7, 4, 3], generators(2)))
    for steps in (1, 2, 10):
        ends = field.integrate(torch.zeros(2, 5, 3), torch.randn(2, 5, 3), steps)
        torch.testing.assert_close(ends, torch.ones(2, 5, 3))


def test_a_squashed_sample_in_numpy_equals_the_torch_one_of_the_same_noise() -> None:
    mlp = StackedMLP([29, 256, 256, 8], generators(2), layer_norm=True)
    actor = SquashedGaussianActor(mlp, log_std_min=-3.0, log_std_max=0.5, initial_log_std=-1.0)
    observations = torch.randn(2, 50, 29)
    noise = np.random.default_rng(3).standard_normal((50, 4), np.float32)
    with torch.no_grad():
        shared = torch.from_numpy(noise)[None, :, None].expand(2, 50, 1, 4)
        actions, _ = actor.sample(observations, shared)
    for member in range(2):
        twin = make_actor(actor.export(member, torch.zeros(29), torch.ones(29), 0))
        ours = twin.sample(observations[member].numpy(), np.random.default_rng(3))
        np.testing.assert_allclose(ours, actions[member, :, 0].numpy(), atol=1e-5)


def test_several_actions_of_a_state_are_those_of_the_state_repeated() -> None:
    mlp = StackedMLP([3, 8, 4], generators(2), torch.float64)
    actor, observations = SquashedGaussianActor(mlp), torch.randn(2, 5, 3, dtype=torch.float64)
    noise = torch.randn(2, 5, 6, 2, dtype=torch.float64)
    actions, log_probs = actor.sample(observations, noise)
    assert (actions.shape, log_probs.shape) == ((2, 5, 6, 2), (2, 5, 6))
    for index in range(6):
        one, log_prob = actor.sample(observations, noise[:, :, index : index + 1])
        torch.testing.assert_close(one[:, :, 0], actions[:, :, index])
        torch.testing.assert_close(log_prob[:, :, 0], log_probs[:, :, index])


def test_the_log_density_of_a_squashed_sample_is_torch_s_and_its_gradient_too() -> None:
    # Small ones: torch takes the logarithm of 1 - a^2, which is 0 where a rounds to 1.
    mean, log_std, noise = (0.5 * torch.randn(7, 3, dtype=torch.float64) for _ in range(3))
    mean.requires_grad_()
    log_std.requires_grad_()
    ours = squashed_log_prob(mean + log_std.exp() * noise, noise, log_std)
    one = torch.autograd.grad(ours.sum(), (mean, log_std))
    normal = torch.distributions.Normal(mean, log_std.exp())
    squashing = torch.distributions.TanhTransform(cache_size=1)
    distribution = torch.distributions.TransformedDistribution(normal, squashing)
    theirs = distribution.log_prob(torch.tanh(mean + log_std.exp() * noise)).sum(-1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(one, torch.autograd.grad(theirs.sum(), (mean, log_std)))


def test_the_log_density_is_finite_and_exact_where_the_action_rounds_to_its_bound() -> None:
    before = torch.tensor([[-40.0], [-12.0], [12.0], [40.0]], requires_grad=True)
    assert torch.tanh(before[-1]).item() == 1.0
    noise, log_std = torch.zeros(4, 1), torch.zeros(4, 1)
    found = squashed_log_prob(before, noise, log_std)
    # log(1 - tanh(u)^2) tends to log 4 - 2 |u|.
    expected = -0.5 * np.log(2 * np.pi) - np.log(4) + 2 * before.detach().abs().squeeze(-1)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert before.grad is not None
    torch.testing.assert_close(before.grad.squeeze(-1), torch.tensor([-2.0, -2.0, 2.0, 2.0]))


def test_a_squashed_gaussian_begins_at_its_initial_log_std_and_is_bounded() -> None:
    mlp = StackedMLP([3, 8, 4], generators(2), initial_output=partial(orthogonal, gain=1e-2))
    actor = SquashedGaussianActor(mlp, initial_log_std=-1.0, log_std_max=-0.5)
    mean, log_std = actor.distribution(torch.randn(2, 5, 3))
    assert mean.abs().max() < 0.1
    assert (log_std + 1).abs().max() < 0.1
    mlp.biases[-1].fill_(3)
    assert (actor.distribution(torch.randn(2, 5, 3))[1] == -0.5).all()


def test_a_learned_number_accumulates_its_gradient_until_it_has_changed() -> None:
    scalar = Scalar(torch.tensor([1.0, 2.0]))
    for _ in range(2):
        (scalar() * torch.tensor([3.0, 4.0])).sum().backward()
    assert scalar.gradients[0].tolist() == [6.0, 8.0]
    scalar.changed()
    assert scalar.gradients[0].tolist() == [0.0, 0.0]
    assert scalar.named(scalar.parameters)["value"].tolist() == [1.0, 2.0]


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
