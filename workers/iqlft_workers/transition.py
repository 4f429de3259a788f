"""Transitions: the one record that datasets, workers, the wire and the replay share.

Two forms of the same data. `Transitions` is a NamedTuple of arrays, convenient to make and to
check. A *row* is one transition flattened to float32, so that a million of them are one contiguous
block that is sampled by one gather, appended to a file by one write and sent by one copy.
`RowLayout` maps between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Transitions(NamedTuple):
    """N transitions as arrays that share their first axis.

    Attributes:
        observations: `(N, O)` float32.
        actions: `(N, A)` float32, as executed: clipped to the action space's bounds.
        rewards: `(N,)` float32, after the task's reward transform.
        next_observations: `(N, O)` float32.
        terminated: `(N,)` bool; the task is over, which cuts the bootstrap.
        truncated: `(N,)` bool; a time limit ended the episode, which does not cut it.
        versions: `(N,)` uint32; version of the actor weights that chose the action (0: dataset).
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    versions: NDArray[np.uint32]

    @property
    def num_transitions(self) -> int:
        """Number of transitions N."""
        return int(self.observations.shape[0])


@dataclass(frozen=True)
class RowLayout:
    """Where each field of a transition stands in a float32 row.

    The order is observation, action, next observation, reward, terminated, truncated, version.
    A version is exact up to 2**24 updates in float32, eight times the longest published run.

    Attributes:
        observation_dim: O, width of a flat observation.
        action_dim: A, width of an action.
    """

    observation_dim: int
    action_dim: int

    @property
    def width(self) -> int:
        """Number of float32 values in a row."""
        return 2 * self.observation_dim + self.action_dim + 4

    def unpack(self, rows: Any) -> tuple[Any, Any, Any, Any, Any, Any, Any]:  # noqa: ANN401
        """Views of `rows` in the field order of `Transitions`.

        Args:
            rows: `(..., width)`, a NumPy array or a torch tensor; only slicing is used.

        Returns:
            Observations `(..., O)`, actions `(..., A)`, rewards `(...)`, next observations
            `(..., O)`, terminated, truncated and versions `(...)`, all float32.
        """
        after_actions = self.observation_dim + self.action_dim
        scalars = after_actions + self.observation_dim
        return (
            rows[..., : self.observation_dim],
            rows[..., self.observation_dim : after_actions],
            rows[..., scalars],
            rows[..., after_actions:scalars],
            rows[..., scalars + 1],
            rows[..., scalars + 2],
            rows[..., scalars + 3],
        )

    def pack(self, transitions: Transitions) -> NDArray[np.float32]:
        """Flattens transitions to rows.

        Args:
            transitions: N transitions of this layout's dimensions.

        Returns:
            `(N, width)` float32.

        Raises:
            ValueError: a field's shape does not fit the layout.
        """
        rows = np.empty((transitions.num_transitions, self.width), np.float32)
        for name, target, source in zip(
            Transitions._fields, self.unpack(rows), transitions, strict=True
        ):
            if target.shape != source.shape:
                raise ValueError(
                    f"Transitions.{name} has shape {source.shape}, but {target.shape} fits "
                    f"{self.observation_dim} observation and {self.action_dim} action dimensions."
                )
            target[...] = source
        return rows

    def transitions(self, rows: NDArray[np.float32]) -> Transitions:
        """The rows as `Transitions`, flags and versions cast back to their dtypes."""
        observations, actions, rewards, next_observations, terminated, truncated, versions = (
            self.unpack(rows)
        )
        return Transitions(
            observations,
            actions,
            rewards,
            next_observations,
            terminated.astype(np.bool_),
            truncated.astype(np.bool_),
            versions.astype(np.uint32),
        )
