"""How an ant fares in one episode: falls, getting up, and being stuck.

These affect learning from the data as much as the ant's speed does: D4RL's ant never gets up once
it lies on its back, and sometimes keeps rubbing along a wall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STUCK_STEPS, STUCK_METRES = 50, 0.7
"""An ant on its feet that moves less than this distance in this many steps is stuck."""


class AntWalk(NamedTuple):
    """Measurements of one episode. Its *way* is the part before it first reaches its goal.

    Attributes:
        steps: length of the way.
        fallen: whether the ant lies on its back at some point of the way.
        upside_down: whether it lies on its back at the end of the episode.
        falls: number of falls in the whole episode.
        rises: number of times that it gets up in the whole episode.
        on_feet: number of states of the whole episode in which it is on its feet.
        stuck: number of steps of the way at which it is stuck.
    """

    steps: int
    fallen: bool
    upside_down: bool
    falls: int
    rises: int
    on_feet: int
    stuck: int


def follow_ant(
    positions: NDArray[np.float64], quaternions: NDArray[np.float64], first_hit: int | None
) -> AntWalk:
    """Measures an episode of T steps.

    Args:
        positions: `(T+1, 2)`, in metres.
        quaternions: `(T+1, 4)` of the torso.
        first_hit: index of the first state within the goal's radius; None if there is none.
    """
    down = upside_down(quaternions)
    way = len(positions) - 1 if first_hit is None else first_hit
    ahead = positions[STUCK_STEPS : way + 1] - positions[: max(0, way + 1 - STUCK_STEPS)]
    slow = np.hypot(*ahead.T) < STUCK_METRES
    return AntWalk(
        steps=way,
        fallen=bool(down[:way].any()),
        upside_down=bool(down[-1]),
        falls=int((down[1:] & ~down[:-1]).sum()),
        rises=int((~down[1:] & down[:-1]).sum()),
        on_feet=int((~down).sum()),
        stuck=int((slow & ~down[: len(slow)]).sum()),
    )


def upside_down(quaternions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the torso's z axis points down, `(T,)`, from the torso's quaternions `(T, 4)`.

    For unit quaternions this is 1 - 2 (qx^2 + qy^2) < 0.
    """
    squares = np.square(quaternions)
    down: NDArray[np.bool_] = squares[:, 1:3].sum(-1) > squares.sum(-1) / 2
    return down
