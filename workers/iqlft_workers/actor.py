"""The Gaussian actor in NumPy, and the weights that travel from the learner to the workers.

A worker needs one action at a time, for which NumPy is three times faster than torch and starts
ten times lighter; so the rollout side never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
"""Bounds of the log standard deviation (IQL's configuration; see `docs/algorithm.md`)."""


class ActorWeights(NamedTuple):
    """Everything that an actor needs to act, as float32 arrays.

    Attributes:
        weights: one `(in, out)` matrix per layer, the first with `in = O`, the last with `out = A`.
        biases: one `(out,)` vector per layer.
        log_std: `(A,)` log standard deviation, the same in every state.
        observation_mean: `(O,)` subtracted from an observation (zeros: not normalised).
        observation_std: `(O,)` that divides it (ones: not normalised).
        version: number of updates behind these weights.
    """

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    log_std: NDArray[np.float32]
    observation_mean: NDArray[np.float32]
    observation_std: NDArray[np.float32]
    version: int

    @property
    def observation_dim(self) -> int:
        """O, the width of an observation."""
        return int(self.weights[0].shape[0])

    @property
    def action_dim(self) -> int:
        """A, the width of an action."""
        return int(self.weights[-1].shape[1])


class GaussianActor:
    """A diagonal Gaussian policy with mean `tanh(MLP(s))` and a state-independent deviation.

    Args:
        weights: the actor's weights; replace them with `load` as newer ones arrive.
    """

    def __init__(self, weights: ActorWeights) -> None:
        self.load(weights)

    def load(self, weights: ActorWeights) -> None:
        """Acts with `weights` from now on."""
        self._weights = weights
        self._std = np.exp(np.clip(weights.log_std, LOG_STD_MIN, LOG_STD_MAX))

    @property
    def version(self) -> int:
        """Version of the weights in use."""
        return self._weights.version

    def mean(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The policy's mean action.

        Args:
            observation: `(O,)` or `(B, O)` float32.

        Returns:
            `(A,)` or `(B, A)` float32 in (-1, 1).
        """
        w = self._weights
        hidden = (observation - w.observation_mean) / w.observation_std
        for matrix, bias in zip(w.weights[:-1], w.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ matrix + bias, 0)
        mean: NDArray[np.float32] = np.tanh(hidden @ w.weights[-1] + w.biases[-1])
        return mean

    def sample(
        self, observation: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """An action from the Gaussian at its full deviation, clipped to [-1, 1].

        Args:
            observation: `(O,)` or `(B, O)` float32.
            rng: source of the noise; draws as many normals as the action has values.

        Returns:
            `(A,)` or `(B, A)` float32 in [-1, 1]: the action as executed.
        """
        mean = self.mean(observation)
        noise = rng.standard_normal(mean.shape, np.float32)
        return np.clip(mean + self._std * noise, -1, 1)
