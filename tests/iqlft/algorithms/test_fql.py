"""FQL against a NumPy float64 transcription, and what its flow learns."""

import dataclasses

import numpy as np
import pytest
import torch

from iqlft.algorithms.fql import FQL
from iqlft.config.algorithms import FQLHyperparameters
from iqlft_workers.actor import make_actor
from numpy_networks import (
    ACTION_DIM,
    BATCH,
    SPEC,
    Array,
    NumpyNetworks,
    as_batch,
    figures,
    random_arrays,
    random_batch,
    random_stream,
)

SMALL = FQLHyperparameters(hidden_size=12, hidden_layers=2, batch_size=BATCH)
NETWORKS = ("critic", "flow", "actor", "target_critic")


class Drawn:
    """What the next update draws, in its order, from a copy of the random stream."""

    def __init__(self, algorithm: FQL) -> None:
        stream = random_stream(algorithm)

        def normal() -> Array:
            return torch.randn(BATCH, ACTION_DIM, generator=stream).numpy().astype(float)

        self.next_noise, self.noise, self.line_noise = normal(), normal(), normal()
        drawn = 2 * torch.rand(BATCH, 1, generator=stream) - 1
        self.times = (drawn.numpy().astype(float) + 1) / 2


class NumpyFQL(NumpyNetworks):
    """The authors' losses and one step along them, in float64 and by hand, for one member."""

    settings = SMALL
    returns = -np.inf, np.inf

    def act(self, observations: Array, noise: Array) -> list[Array]:
        """The layers of the one-step policy."""
        return self.forward("actor", np.concatenate([observations, noise], -1)[None])

    def velocity(self, observations: Array, places: Array, times: Array) -> list[Array]:
        """The layers of the flow."""
        return self.forward("flow", np.concatenate([observations, places, times], -1)[None])

    def carried(self, observations: Array, noise: Array) -> Array:
        """The end of the ODE, within the bounds of actions."""
        places, steps = noise, self.settings.flow_steps
        for step in range(steps):
            times = np.full((len(noise), 1), step / steps)
            places = places + self.velocity(observations, places, times)[-1][0] / steps
        return np.clip(places, -1, 1)

    def update(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, drawn: Drawn
    ) -> tuple[float, float, float]:
        """One update; returns the losses of critic, actor and flow."""
        n, h = len(s), self.settings
        next_actions = np.clip(self.act(s2, drawn.next_noise)[-1][0], -1, 1)
        next_qs = self.q("target_critic", s2, next_actions)[-1][..., 0]
        next_q = next_qs.min(0) if h.target_reduction == "min" else next_qs.mean(0)
        y = np.clip(r + 0.99 * (1 - terminated) * next_q, *self.returns)
        cloned = self.carried(s, drawn.noise)

        on_line = (1 - drawn.times) * drawn.line_noise + drawn.times * a
        flow_layers = self.velocity(s, on_line, drawn.times)
        flow_error = flow_layers[-1][0] - (a - drawn.line_noise)

        actor_layers = self.act(s, drawn.noise)
        made = actor_layers[-1][0]
        critic_layers = self.q("critic", s, np.clip(made, -1, 1))
        own = critic_layers[-1][..., 0].mean(0)
        scale = 1 / np.abs(own).mean() if h.normalize_q else 1.0
        to_q = np.full((2, n, 1), -scale / (2 * n))
        to_pairs = self.input_gradient("critic", critic_layers, to_q).sum(0)
        to_action = to_pairs[:, -ACTION_DIM:] * (np.abs(made) <= 1)
        to_action += h.alpha * 2 * (made - cloned) / made.size
        actor_loss = h.alpha * ((made - cloned) ** 2).mean() - scale * own.mean()

        layers = self.q("critic", s, a)
        error = layers[-1][..., 0] - y
        self.descend("flow", flow_layers, (2 * flow_error / flow_error.size)[None])
        self.descend("actor", actor_layers, to_action[None])
        self.descend("critic", layers, (2 * error / n)[..., None])
        self.track("critic")
        return (error**2).mean(-1).sum(), actor_loss, (flow_error**2).mean()


@pytest.mark.parametrize(
    "changes",
    [
        {"critic_layer_norm": False},
        {"clip_targets": True, "target_reduction": "min"},
        {"normalize_q": True, "alpha": 3.0, "flow_steps": 3},
    ],
    ids=", ".join,
)
def test_seven_updates_equal_a_numpy_float64_transcription(changes: dict[str, object]) -> None:
    settings = dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]
    algorithm, rng = FQL(SPEC, settings, (3,), dtype=torch.float64), np.random.default_rng(0)
    normalized = ("critic", "target_critic") if settings.critic_layer_norm else ()
    twin = NumpyFQL(algorithm.state(), *NETWORKS, normalized=normalized)
    twin.settings = settings
    algorithm.set_possible_returns(-0.7, 0.4)
    twin.returns = (-0.7, 0.4) if settings.clip_targets else twin.returns
    for _ in range(7):
        arrays, drawn = random_arrays(rng), Drawn(algorithm)
        found = figures(algorithm.update(as_batch(arrays, torch.float64)))
        critic_loss, actor_loss, flow_loss = twin.update(*arrays, drawn)
        assert found["critic/loss"] == pytest.approx(critic_loss, rel=1e-10)
        assert found["actor/loss"] == pytest.approx(actor_loss, rel=1e-10)
        assert found["flow/loss"] == pytest.approx(flow_loss, rel=1e-10)
    twin.assert_equal(algorithm.state(), 1e-10)
    batch = as_batch(arrays, torch.float64)
    q = algorithm.q_values(batch.observations, batch.actions)[0].numpy()
    both = twin.q("target_critic", *arrays[:2])[-1][..., 0]
    expected = both.min(0) if settings.target_reduction == "min" else both.mean(0)
    np.testing.assert_allclose(q, expected, rtol=1e-10, atol=1e-10)


def test_an_actor_s_update_leaves_the_critics_moments_and_gradients_alone() -> None:
    # Its gradient passes through the critics: what stayed there would join their next step.
    batch, other = (random_batch(np.random.default_rng(seed)) for seed in (2, 3))
    learning, waiting = FQL(SPEC, SMALL), FQL(SPEC, SMALL)
    minimize = waiting.minimize

    def all_but_the_actor(name: str, loss: torch.Tensor, learning_rate: float) -> None:
        if name != "actor":
            minimize(name, loss, learning_rate)

    waiting.minimize = all_but_the_actor  # type: ignore[method-assign]
    for each in (learning, waiting):
        each.update(batch._replace(terminated=torch.ones_like(batch.terminated)))
        each.update(other._replace(terminated=torch.ones_like(batch.terminated)))
    for key, tensor in waiting.state().items():
        if key.startswith(("critic.", "adam.critic.", "flow.", "adam.flow.")):
            assert torch.equal(tensor, learning.state()[key]), key


def test_flow_and_policy_have_both_modes_of_the_data_and_the_better_one_with_q() -> None:
    """Actions are about -0.6 or 0.6, whatever is observed; the reward is the action."""
    rng = np.random.default_rng(0)
    settings = dataclasses.replace(SMALL, hidden_size=64, learning_rate=3e-3)

    def trained(alpha: float) -> FQL:
        algorithm = FQL(SPEC, dataclasses.replace(settings, alpha=alpha), (0,))
        for _ in range(700):
            s, a, r, s2, _ = random_arrays(rng)
            a[:] = 0.6 * rng.choice([-1.0, 1.0], (BATCH, 1)) + 0.05 * rng.normal(size=a.shape)
            arrays = s, a, a[:, 0], s2, np.ones_like(r)
            algorithm.update(as_batch(arrays, torch.float32))
        return algorithm

    cloning, improving = trained(1000.0), trained(0.1)
    observations = torch.tensor(rng.normal(size=(1, 2000, 5)), dtype=torch.float32)
    noise = torch.tensor(rng.normal(size=(1, 2000, ACTION_DIM)), dtype=torch.float32)
    carried = cloning.flow.integrate(observations, noise, 10)[0, :, 0].numpy()
    assert 0.35 < (carried > 0).mean() < 0.65
    assert (np.abs(np.abs(carried) - 0.6) < 0.25).mean() > 0.8

    def sampled(algorithm: FQL) -> Array:
        actor = make_actor(algorithm.actor_weights())
        actions: Array = actor.sample(observations[0].numpy(), np.random.default_rng(1))[:, 0]
        return actions

    assert 0.35 < (sampled(cloning) > 0).mean() < 0.65
    assert (sampled(improving) > 0.5).mean() > 0.9
