"""What the networks of a run think of transitions: Q, V and the advantage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from iqlft.algorithms.losses import ADVANTAGE_WEIGHT_MAX
from iqlft.runs.folder import RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from iqlft.algorithms.iql import ImplicitQLearning

CHUNK_ROWS = 16_384
"""Transitions judged at a time, so that their hidden layers fit into memory."""


class Critics:
    """The value network and the target critics of a run, on the CPU in float32.

    Args:
        algorithm: with one member, such as `restored` gives.
    """

    def __init__(self, algorithm: ImplicitQLearning) -> None:
        self._algorithm = algorithm

    @property
    def updates(self) -> int:
        """Updates behind the networks."""
        return self._algorithm.updates

    @property
    def clipped_from(self) -> float:
        """The advantage from which on a transition's weight is clipped.

        Raises:
            RunError: no advantage is.
        """
        inverse_temperature = self._algorithm.hyperparameters.inverse_temperature
        if inverse_temperature <= 0:
            raise RunError(
                "The weights do not grow with the advantage, so none is clipped "
                f"(inverse_temperature is {inverse_temperature:g})."
            )
        return math.log(ADVANTAGE_WEIGHT_MAX) / inverse_temperature

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """V of observations `(N, O)`, `(N,)`."""
        parts = torch.split(torch.from_numpy(observations), CHUNK_ROWS)
        normalize, value = self._algorithm.normalize, self._algorithm.value
        return _array([value(normalize(part.unsqueeze(0)))[0] for part in parts])

    def advantages(
        self, observations: NDArray[np.float32], actions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The minimum of both target critics - V of transitions, as the actor's update has it.

        Args:
            observations: `(N, O)`.
            actions: `(N, A)`.

        Returns:
            `(N,)`.
        """
        tensors = (torch.from_numpy(each) for each in (observations, actions))
        parts = zip(*(torch.split(each, CHUNK_ROWS) for each in tensors), strict=True)
        return _array([self._advantages(*part) for part in parts])

    def _advantages(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        q, v = self._algorithm.q_and_v(observations.unsqueeze(0), actions.unsqueeze(0))
        return (q - v)[0]


def _array(parts: list[torch.Tensor]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = torch.cat(parts).numpy()
    return array
