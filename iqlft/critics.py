"""What the newest checkpoint of a run thinks of transitions: Q, V and the advantage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from iqlft import checkpoint
from iqlft.algorithms.iql import ImplicitQLearning
from iqlft.algorithms.losses import ADVANTAGE_WEIGHT_MAX
from iqlft.learning import hyperparameters
from iqlft.members import pretrain_config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from iqlft.policy import Policy
    from iqlft.runs import Run

CHUNK_ROWS = 16_384
"""Transitions judged at a time, so that their hidden layers fit into memory."""
_PREFIX = "algorithm."


class Critics:
    """The value network and the target critics of a run, on the CPU in float32.

    Args:
        algorithm: with one member, its parameters loaded.
    """

    def __init__(self, algorithm: ImplicitQLearning) -> None:
        self._algorithm = algorithm

    @property
    def updates(self) -> int:
        """Updates behind the networks."""
        return self._algorithm.updates

    @property
    def clipped_from(self) -> float:
        """The advantage from which on a transition's weight is clipped."""
        return math.log(ADVANTAGE_WEIGHT_MAX) / self._algorithm.hyperparameters.inverse_temperature

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
        q, v = self._algorithm.judge(observations.unsqueeze(0), actions.unsqueeze(0))
        return (q - v)[0]


def load_critics(run: Run, policy: Policy) -> Critics:
    """Loads the networks of a run's newest checkpoint.

    Args:
        run: an existing run.
        policy: of the run, which says what networks observe and how it is normalised.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged or does not fit.
        ConfigError: the run's configuration cannot be read.
    """
    config, weights = pretrain_config(run), policy.weights
    algorithm = ImplicitQLearning(
        weights.observation_dim,
        weights.action_dim,
        hyperparameters(config),
        observation_mean=torch.from_numpy(weights.observation_mean),
        observation_std=torch.from_numpy(weights.observation_std),
        num_updates=config.num_updates,
    )
    tensors = checkpoint.load(run.folder / "checkpoints").tensors
    learned = {k.removeprefix(_PREFIX): t for k, t in tensors.items() if k.startswith(_PREFIX)}
    try:
        algorithm.load_state(learned)
    except (KeyError, RuntimeError) as error:
        raise checkpoint.CheckpointError(
            f"The newest checkpoint of {run.folder} does not fit its configuration ({error}); was "
            "config.yaml edited, or is it of another version?"
        ) from error
    return Critics(algorithm)


def _array(parts: list[torch.Tensor]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = torch.cat(parts).numpy()
    return array
