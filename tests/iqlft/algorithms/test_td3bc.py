"""TD3+BC against a NumPy float64 transcription."""

import dataclasses

import numpy as np
import pytest
import torch

from iqlft.algorithms.td3bc import TD3BC
from iqlft.config.algorithms import TD3BCHyperparameters
from numpy_networks import (
    ACTION_DIM,
    BATCH,
    SPEC,
    Array,
    NumpyNetworks,
    as_batch,
    figures,
    noise_of_one_update,
    random_arrays,
    random_batch,
)

SMALL = TD3BCHyperparameters(hidden_size=12, batch_size=BATCH)
NETWORKS = ("critic", "actor", "target_critic", "target_actor")


class NumpyTD3BC(NumpyNetworks):
    """The authors' update in float64, with a backward pass derived by hand for one member."""

    updates = 0
    returns = -np.inf, np.inf

    def targets(self, r: Array, s2: Array, terminated: Array, noise: Array) -> Array:
        """Y, at a smoothed action of the target actor."""
        smoothing = np.clip(0.2 * noise, -0.5, 0.5)
        action = np.clip(np.tanh(self.forward("target_actor", s2[None])[-1][0]) + smoothing, -1, 1)
        next_q = self.q("target_critic", s2, action)[-1].min(0)[:, 0]
        return np.clip(r + 0.99 * (1 - terminated) * next_q, *self.returns)

    def update_actor(self, s: Array, a: Array) -> float:
        """A step along lambda mean Q_1(s, pi(s)) - mean (pi(s) - a)^2, and of the targets."""
        n = len(s)
        layers = self.forward("actor", s[None])
        action = np.tanh(layers[-1][0])
        critic_layers = self.q("critic", s, action)
        q = critic_layers[-1][0, :, 0]
        scale = 2.5 / np.abs(q).mean()  # Held constant in the gradient.
        only_first = np.zeros((2, n, 1))
        only_first[0] = -scale / n
        to_inputs = self.input_gradient("critic", critic_layers, only_first)[0]
        to_action = to_inputs[:, -ACTION_DIM:] + 2 * (action - a) / a.size
        self.descend("actor", layers, (to_action * (1 - action**2))[None])
        self.track("critic")
        self.track("actor")
        return ((action - a) ** 2).mean() - scale * q.mean()

    def update(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, noise: Array
    ) -> tuple[float, float | None]:
        y = self.targets(r, s2, terminated, noise)
        layers = self.q("critic", s, a)
        error = layers[-1][..., 0] - y
        self.descend("critic", layers, (2 * error / len(s))[..., None])
        self.updates += 1
        actor_loss = self.update_actor(s, a) if self.updates % 2 == 0 else None
        return (error**2).mean(-1).sum(), actor_loss


@pytest.mark.parametrize("remedied", [False, True])
def test_seven_updates_equal_a_numpy_float64_transcription(remedied: bool) -> None:
    settings = dataclasses.replace(SMALL, clip_targets=remedied, critic_layer_norm=remedied)
    algorithm, rng = TD3BC(SPEC, settings, (3,), dtype=torch.float64), np.random.default_rng(0)
    normalized = ("critic", "target_critic") if remedied else ()
    twin = NumpyTD3BC(algorithm.state(), *NETWORKS, normalized=normalized)
    algorithm.set_possible_returns(-0.7, 0.4)
    twin.returns = (-0.7, 0.4) if remedied else twin.returns
    last_loss, wide = 0.0, 0
    for _ in range(7):
        arrays, (noise,) = random_arrays(rng), noise_of_one_update(algorithm, 1)
        found = figures(algorithm.update(as_batch(arrays, torch.float64)))
        critic_loss, actor_loss = twin.update(*arrays, noise)
        # Between its updates the actor's last loss is told.
        last_loss = last_loss if actor_loss is None else actor_loss
        assert found["critic/loss"] == pytest.approx(critic_loss, rel=1e-10)
        assert found["actor/loss"] == pytest.approx(last_loss, rel=1e-10)
        wide += (np.abs(0.2 * noise) > 0.5).sum()
    assert wide > 0  # The bound of the noise was tried.
    twin.assert_equal(algorithm.state(), 1e-10)
    batch = as_batch(arrays, torch.float64)
    q = algorithm.q_values(batch.observations, batch.actions)[0].numpy()
    np.testing.assert_allclose(q, twin.target_q(*arrays[:2]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_actor_and_targets_move_at_every_policy_delay_th_update_alone(delay: int) -> None:
    algorithm = TD3BC(SPEC, dataclasses.replace(SMALL, policy_delay=delay))
    rng = np.random.default_rng(1)
    for number in range(1, 7):
        before = {name: algorithm.state()[f"{name}.weights.0"] for name in NETWORKS}
        algorithm.update(random_batch(rng))
        after = algorithm.state()
        moved = {name for name in NETWORKS if not before[name].equal(after[f"{name}.weights.0"])}
        assert moved == (set(NETWORKS) if number % delay == 0 else {"critic"})


def test_an_actor_s_update_leaves_the_critics_moments_and_gradients_alone() -> None:
    # Its gradient passes through the critics: what stayed there would join their next step.
    rng = np.random.default_rng(2)
    learning = TD3BC(SPEC, dataclasses.replace(SMALL, policy_delay=1, target_update_rate=0.0))
    waiting = TD3BC(SPEC, dataclasses.replace(SMALL, policy_delay=9, target_update_rate=0.0))
    for _ in range(3):
        batch = random_batch(rng)
        learning.update(batch)
        waiting.update(batch)
    for key, tensor in waiting.state().items():
        if key.startswith(("critic.", "adam.critic.")):
            assert torch.equal(tensor, learning.state()[key]), key


def test_the_critic_s_part_of_the_actor_s_loss_is_alpha_at_any_scale_of_rewards() -> None:
    # alpha * mean Q / mean |Q| is alpha where Q is positive, however large it is.
    losses = []
    for scale in (1e3, 1e5):
        algorithm = TD3BC(SPEC, dataclasses.replace(SMALL, policy_delay=1))
        algorithm.critic.mlp.biases[-1].fill_(scale)
        algorithm.critic.changed()
        batch = random_batch(np.random.default_rng(3))
        with torch.no_grad():
            cloning = (algorithm.actor(batch.observations) - batch.actions).square().mean()
        losses.append(figures(algorithm.update(batch))["actor/loss"] - cloning.item())
    assert losses == pytest.approx([-2.5, -2.5], abs=1e-4)


def test_with_other_settings_it_goes_on_as_it_was() -> None:
    one, rng = TD3BC(SPEC, SMALL), np.random.default_rng(3)
    for _ in range(3):
        one.update(as_batch(random_arrays(rng), torch.float32))
    other = TD3BC(SPEC, dataclasses.replace(SMALL, learning_rate=1e-3))
    other.carry_over(one)
    before, after = one.state(), other.state()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
