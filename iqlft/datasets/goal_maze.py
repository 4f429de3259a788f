"""The maze of an environment or a dataset: its walls, its cells, its evaluation goal.

Two kinds of maze are read through their common attributes: D4RL's, where y grows with the row, and
those of Gymnasium-Robotics, where y falls with it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from iqlft.datasets.recorded import goal_in, recorded_environment, success_radius
from iqlft_workers import environment as environments
from iqlft_workers.episode import PLACE_DIM

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gymnasium
    import minari
    from numpy.typing import NDArray

    from iqlft.datasets.recorded import Goal
    from iqlft_workers.environment import Environment, EnvironmentSpec


@dataclass(frozen=True)
class GoalMaze:
    """A maze as a grid of cells, in metres.

    Attributes:
        walls: `(R, C)` bool: which cells are walls.
        first: `(2,)`: x and y of the centre of the cell in row 0 and column 0.
        pitch: `(2,)`: change of x per column and of y per row; either sign.
        height: height of the walls.
        radius: success radius around a goal.
        goal: the single evaluation goal, or None if there are several or none.
    """

    walls: NDArray[np.bool_]
    first: NDArray[np.float64]
    pitch: NDArray[np.float64]
    height: float
    radius: float
    goal: Goal | None

    @property
    def num_free(self) -> int:
        """Number of cells that are not walls."""
        return int(np.count_nonzero(~self.walls))

    def count(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of positions `(N, 2)` in each cell, `(R, C)`; non-finite ones are ignored."""
        positions = positions[np.isfinite(positions).all(-1)]
        indices = np.floor((positions - self.first) / self.pitch + 0.5).astype(np.int64)
        rows, columns = self.walls.shape
        column, row = np.clip(indices, 0, (columns - 1, rows - 1)).T
        counts = np.bincount(row * columns + column, minlength=rows * columns)
        return counts.reshape(rows, columns)

    def centre(self, row: float, column: float) -> NDArray[np.float64]:
        """Centre `(2,)` of a cell."""
        centre: NDArray[np.float64] = self.first + self.pitch * (column, row)
        return centre

    @property
    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges of the columns in x, `(C+1,)`, and of the rows in y, `(R+1,)`, in metres."""
        rows, columns = (np.arange(length + 1) - 0.5 for length in self.walls.shape)
        return self.first[0] + self.pitch[0] * columns, self.first[1] + self.pitch[1] * rows

    @property
    def limits(self) -> NDArray[np.float64]:
        """Least and greatest x, and y, of the maze including half of its outer wall, `(2, 2)`."""
        half = np.abs(self.pitch) / 2
        return np.array([(e.min() + h, e.max() - h) for e, h in zip(self.edges, half, strict=True)])

    def refined(self, factor: int) -> GoalMaze:
        """The same maze with each cell divided into `factor` x `factor` smaller ones."""
        return dataclasses.replace(
            self,
            walls=self.walls.repeat(factor, 0).repeat(factor, 1),
            first=self.first + self.pitch * (1 / factor - 1) / 2,
            pitch=self.pitch / factor,
        )


def is_goal_conditioned(space: spaces.Space[Any]) -> bool:
    """Whether observations include the agent's position and its desired goal, each as x and y."""
    if not isinstance(space, spaces.Dict) or "observation" not in space.spaces:
        return False
    return all(
        key in space.spaces and space[key].shape == (2,)
        for key in ("achieved_goal", "desired_goal")
    )


def distance_to_goal(environment: Environment, place: Sequence[float]) -> float | None:
    """Metres from a place to the goal of the current episode.

    Args:
        environment: reset to the episode.
        place: leading values of an observation.

    Returns:
        The distance; None if observations do not begin with a place, or goals are not places.
    """
    begins_with_place = environment.columns("achieved_goal") == slice(0, PLACE_DIM)
    if not (begins_with_place and is_goal_conditioned(environment.gym.observation_space)):
        return None
    goal = getattr(environment.gym.unwrapped, "goal", None)
    return None if goal is None else math.dist(place[:PLACE_DIM], goal)


def recorded_maze(dataset: minari.MinariDataset, *, trust: bool = False) -> GoalMaze | None:
    """The maze of a dataset; None if its environment is not a maze.

    Args:
        dataset: an opened one.
        trust: whether code that no installed package registers may be run.

    Raises:
        DatasetError: the dataset records no environment.
        EnvironmentMismatchError: the environment cannot be made here.
        UntrustedError: the environment names code that is neither registered nor trusted.
    """
    if not is_goal_conditioned(dataset.observation_space):
        return None
    return maze_of(recorded_environment(dataset, trust=trust))


def maze_of(spec: EnvironmentSpec) -> GoalMaze | None:
    """The maze of an environment; None if it is not a maze.

    Raises:
        EnvironmentMismatchError: the environment cannot be made here.
    """
    environment = environments.make(spec)
    environment.close()
    return maze_in(environment)


def maze_in(environment: gymnasium.Env[Any, Any]) -> GoalMaze | None:
    """The maze of a made environment; None if it is not one, or has no known success radius."""
    maze: Any = getattr(environment.unwrapped, "maze", None)
    radius = success_radius(environment)
    if maze is None or radius is None or not is_goal_conditioned(environment.observation_space):
        return None
    goal = goal_in(environment)
    first = np.asarray(maze.cell_rowcol_to_xy((0, 0)), np.float64)
    return GoalMaze(
        walls=np.array([[cell == 1 for cell in row] for row in maze.maze_map]),
        first=first,
        pitch=np.asarray(maze.cell_rowcol_to_xy((1, 1)), np.float64) - first,
        height=maze.maze_height * maze.maze_size_scaling,
        radius=radius,
        goal=goal,
    )
