"""What a run's networks estimate for transitions: Q, V and the advantage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from iqlft.runs.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from iqlft.algorithms.base import Algorithm

CHUNK_ROWS = 16_384
"""Transitions evaluated at a time, so that their hidden activations fit into memory."""


class Critics:
    """The value network and the critics of a run, on the CPU in float32.

    Args:
        algorithm: with one member, such as `restored` gives.
    """

    def __init__(self, algorithm: Algorithm[Any]) -> None:
        self._algorithm = algorithm

    @property
    def updates(self) -> int:
        """Updates behind the networks."""
        return self._algorithm.updates

    @property
    def clipped_from(self) -> float:
        """The advantage above which a transition's weight is clipped.

        Raises:
            RunError: weights are never clipped.
        """
        found = self._algorithm.clipped_advantage
        if found is None:
            raise RunError("No transition's weight grows with its advantage, so none is clipped.")
        return found

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """V of observations `(N, O)`, `(N,)`.

        Raises:
            RunError: the algorithm has no value network.
        """
        return _array([self._values(part.unsqueeze(0)) for part in _chunks(observations)])

    def advantages(
        self, observations: NDArray[np.float32], actions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Q - V of transitions, as in the actor's update.

        Args:
            observations: `(N, O)`.
            actions: `(N, A)`.

        Returns:
            `(N,)`.

        Raises:
            RunError: the algorithm has no value network, or no critics.
        """
        parts = zip(_chunks(observations), _chunks(actions), strict=True)
        return _array([self._advantages(o.unsqueeze(0), a.unsqueeze(0)) for o, a in parts])

    def _advantages(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        q = self._algorithm.q_values(observations, actions)
        if q is None:
            raise RunError("The algorithm has no critics.")
        return q[0] - self._values(observations)

    def _values(self, observations: torch.Tensor) -> torch.Tensor:
        v = self._algorithm.values(observations)
        if v is None:
            raise RunError("The algorithm has no value network.")
        return v[0]


def _chunks(array: NDArray[np.float32]) -> tuple[torch.Tensor, ...]:
    return torch.split(torch.from_numpy(array), CHUNK_ROWS)


def _array(parts: list[torch.Tensor]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = torch.cat(parts).numpy()
    return array
