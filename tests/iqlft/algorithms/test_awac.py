"""AWAC against a NumPy float64 transcription."""

import dataclasses

import numpy as np
import pytest
import torch

from iqlft.algorithms.awac import AWAC
from iqlft.config.algorithms import AWACHyperparameters
from numpy_networks import (
    BATCH,
    SPEC,
    Array,
    NumpyNetworks,
    as_batch,
    figures,
    log_prob_and_gradients,
    noise_of_one_update,
    random_arrays,
    random_batch,
)

INVERSE_TEMPERATURE = 200.0
"""So high that some weights reach their bound."""
SMALL = AWACHyperparameters(
    hidden_size=12, batch_size=BATCH, inverse_temperature=INVERSE_TEMPERATURE
)


class NumpyAWAC(NumpyNetworks):
    """CORL's update in float64, for one member; the actor's mean is not squashed."""

    returns = -np.inf, np.inf

    def sample(self, observations: Array, noise: Array) -> Array:
        """Actions `(B, A)` of the actor."""
        mean, std = self.forward("actor", observations[None])[-1][0], np.exp(self.log_std[0, 0])
        return np.clip(mean + std * noise, -1, 1)

    def update(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, noise: list[Array]
    ) -> dict[str, float]:
        next_q = self.q("target_critic", s2, self.sample(s2, noise[0]))[-1].min(0)[:, 0]
        y = np.clip(r + 0.99 * (1 - terminated) * next_q, *self.returns)
        layers = self.q("critic", s, a)
        error = layers[-1][..., 0] - y
        self.descend("critic", layers, (2 * error / len(s))[..., None])

        q = self.q("critic", s, a)[-1].min(0)[:, 0]
        own = self.q("critic", s, self.sample(s, noise[1]))[-1].min(0)[:, 0]
        weight = np.minimum(np.exp(INVERSE_TEMPERATURE * (q - own)), 100)
        layers, log_std = self.forward("actor", s[None]), np.clip(self.log_std[0, 0], -20, 2)
        log_prob, to_mean, to_log_std = log_prob_and_gradients(layers[-1][0], log_std, a, weight)
        self.descend("actor", layers, to_mean[None])
        self.descend_log_std(to_log_std)

        self.track("critic")
        return {
            "critic/loss": (error**2).mean(-1).sum(),
            "actor/loss": -(weight * log_prob).mean(),
            "critic/q": q.mean(),
            "actor/advantage": (q - own).mean(),
            "actor/advantage_weight": weight.mean(),
            "actor/clipped_share": (weight >= 100).mean(),
        }


@pytest.mark.parametrize("remedied", [False, True])
def test_six_updates_equal_a_numpy_float64_transcription(remedied: bool) -> None:
    settings = dataclasses.replace(SMALL, clip_targets=remedied, critic_layer_norm=remedied)
    algorithm, rng = AWAC(SPEC, settings, (3,), dtype=torch.float64), np.random.default_rng(0)
    normalized = ("critic", "target_critic") if remedied else ()
    names = ("critic", "actor", "target_critic")
    twin = NumpyAWAC(algorithm.state(), *names, normalized=normalized)
    algorithm.set_possible_returns(-0.7, 0.4)
    twin.returns = (-0.7, 0.4) if remedied else twin.returns
    assert len(twin.networks["actor"]) == 4
    clipped = 0.0
    for _ in range(6):
        arrays, noise = random_arrays(rng), noise_of_one_update(algorithm, 2)
        found = figures(algorithm.update(as_batch(arrays, torch.float64)))
        expected = twin.update(*arrays, noise)
        for name, figure in expected.items():
            assert found[name] == pytest.approx(figure, rel=1e-10), name
        clipped += found["actor/clipped_share"]
    assert 0 < clipped < 6  # Both sides of the bound were tried.
    twin.assert_equal(algorithm.state(), 1e-10)
    batch = as_batch(arrays, torch.float64)
    q = algorithm.q_values(batch.observations, batch.actions)[0].numpy()
    np.testing.assert_allclose(q, twin.target_q(*arrays[:2]), rtol=1e-10, atol=1e-10)


def test_a_wide_log_std_is_bounded_and_does_not_learn() -> None:
    algorithm, rng = AWAC(SPEC, SMALL), np.random.default_rng(1)
    with torch.no_grad():
        algorithm.actor.log_std.copy_(torch.tensor([[[3.0, -3.0]]]))
    _, log_std = algorithm.actor(torch.zeros(1, 1, SPEC.observation_dim))
    assert log_std.tolist() == [[[2.0, -3.0]]]
    algorithm.update(random_batch(rng))
    wide, narrow = algorithm.actor.log_std[0, 0].tolist()
    assert wide == 3.0
    assert narrow != -3.0


def test_critics_ask_for_actions_within_the_bounds_of_workers() -> None:
    # A mean far outside gives the same targets as any other that is clipped to the same action.
    one, other = AWAC(SPEC, SMALL), AWAC(SPEC, SMALL)
    for algorithm, bias in ((one, 50.0), (other, 500.0)):
        algorithm.actor.mlp.biases[-1].fill_(bias)
        algorithm.actor.changed()
    batch = random_batch(np.random.default_rng(2))
    first, second = figures(one.update(batch)), figures(other.update(batch))
    assert first["critic/loss"] == second["critic/loss"]
    assert first["actor/advantage"] == second["actor/advantage"]


def test_a_lambda_of_a_tenth_clips_weights_from_an_advantage_of_046_on() -> None:
    assert AWAC(
        SPEC, dataclasses.replace(SMALL, inverse_temperature=10.0)
    ).clipped_advantage == pytest.approx(0.1 * np.log(100))
