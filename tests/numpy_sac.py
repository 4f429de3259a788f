"""Soft actor-critic in NumPy float64, for one member: what the family's tests compare with."""

import math
from typing import Any

import numpy as np
import torch

from iqlft.algorithms.sac import SAC
from numpy_networks import ACTION_DIM, Array, NumpyNetworks, random_stream

NETWORKS = ("critic", "actor", "target_critic")


class NumpySAC(NumpyNetworks):
    """The update in float64, with a backward pass derived by hand for one member."""

    returns = -np.inf, np.inf

    def __init__(self, algorithm: SAC[Any]) -> None:
        h = self.h = algorithm.hyperparameters
        names = [each for each in ("critic", "target_critic") if h.critic_layer_norm]
        names += ["actor"] * h.actor_layer_norm
        super().__init__(algorithm.state(), *NETWORKS, normalized=names)
        self.rates = {"actor": h.actor_learning_rate, "temperature": h.actor_learning_rate}
        self.log_temperature = np.full(1, math.log(h.entropy_temperature))

    @property
    def alpha(self) -> float:
        """The temperature."""
        return float(np.exp(self.log_temperature[0]))

    def policy(self, observations: Array, noise: Array) -> tuple[list[Array], Array, Array]:
        """The actor's layers, and actions `(B, N, A)` and log-densities `(B, N)`."""
        layers = self.forward("actor", observations[None])
        mean, log_std = np.split(layers[-1][0][:, None], 2, -1)
        std = np.exp(np.clip(log_std, -20, 2))
        action = np.tanh(mean + std * noise)
        density = np.exp(-0.5 * noise**2) / np.sqrt(2 * np.pi) / std / (1 - action**2)
        return layers, action, np.log(density).sum(-1)

    def targets(self, r: Array, s2: Array, terminated: Array, noise: Array, chosen: Array) -> Array:
        n, count = noise.shape[:2]
        _, action, log_prob = self.policy(s2, noise)
        values = self.q("target_critic", np.repeat(s2, count, 0), action.reshape(n * count, -1))
        values = values[-1][chosen, :, 0].reshape(len(chosen), n, count)
        best = values.min(0) if self.h.target_reduction == "min" else values.mean(0)
        if self.h.entropy_backup:
            best = best - self.alpha * log_prob
        return np.clip(r + 0.99 * (1 - terminated) * best.max(-1), *self.returns)

    def update_critic(
        self, s: Array, a: Array, r: Array, s2: Array, terminated: Array, draw: "Draws"
    ) -> dict[str, float]:
        y = self.targets(
            r, s2, terminated, draw.noise(len(s), self.h.target_actions), draw.critics()
        )
        layers = self.q("critic", s, a)
        error = layers[-1][..., 0] - y
        self.descend("critic", layers, (2 * error / len(s))[..., None])
        return {"critic/loss": (error**2).mean(-1).sum(), "critic/q": layers[-1].mean()}

    def update_actor(self, s: Array, noise: Array) -> dict[str, float]:
        n = len(s)
        layers, action, log_prob = self.policy(s, noise)
        action, log_prob, noise = action[:, 0], log_prob[:, 0], noise[:, 0]
        critic_layers = self.q("critic", s, action)
        values = critic_layers[-1][..., 0]
        share = np.full(values.shape, 1 / len(values))
        if self.h.actor_reduction == "min":
            share = (values == values.min(0)).astype(float)
        by_critic = self.input_gradient("critic", critic_layers, (-share / n)[..., None])
        # d log pi / d u = 2 tanh(u), d log pi / d log_std = -1 beside that through u.
        to_before = (
            by_critic.sum(0)[:, -ACTION_DIM:] * (1 - action**2) + self.alpha / n * 2 * action
        )
        _, log_std = np.split(layers[-1][0], 2, -1)
        to_log_std = to_before * np.exp(np.clip(log_std, -20, 2)) * noise - self.alpha / n
        to_log_std *= (log_std >= -20) & (log_std <= 2)
        self.descend("actor", layers, np.concatenate([to_before, to_log_std], -1)[None])
        loss = (self.alpha * log_prob - (share * values).sum(0)).mean()
        figures = {
            "actor/loss": loss,
            "actor/entropy": -log_prob.mean(),
            "temperature/value": self.alpha,
        }
        if self.h.learn_temperature:
            gap = -log_prob.mean() - self.h.target_entropy * ACTION_DIM
            figures["temperature/loss"] = self.alpha * gap
            gradient = np.array([self.alpha * gap])
            self.log_temperature = self.adam("temperature", self.log_temperature, gradient)
        return figures

    def update(self, arrays: tuple[Array, ...], draw: "Draws") -> dict[str, float]:
        count = self.h.critic_updates
        for index in range(count):
            part = [each[index::count] for each in arrays]
            figures = self.update_critic(*part, draw)
            self.track("critic")
        return figures | self.update_actor(part[0], draw.noise(len(part[0]), 1))


class Draws:
    """What the next update will draw, from a copy of the only member's random stream."""

    def __init__(self, algorithm: SAC[Any]) -> None:
        self._stream, self._h = random_stream(algorithm), algorithm.hyperparameters

    def noise(self, size: int, count: int) -> Array:
        """Standard normals `(B, N, A)`."""
        drawn = torch.randn(size, count, ACTION_DIM, generator=self._stream)
        return drawn.numpy().astype(float)

    def critics(self) -> Array:
        """Which critics a target asks."""
        total, count = self._h.num_critics, self._h.num_target_critics
        if count in (0, total):
            return np.arange(total)
        return torch.randperm(total, generator=self._stream)[:count].numpy()

    def uniform(self, size: int, count: int) -> Array:
        """Uniform actions `(B, N, A)`."""
        drawn = torch.rand(size, count, ACTION_DIM, generator=self._stream)
        return (2 * drawn - 1).numpy().astype(float)
