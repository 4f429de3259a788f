"""D4RL's behaviour policy: breadth-first search over cells, and a gait that walks to the next."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from iqlft_workers.mazes import CELL_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqlft.datasets.antmaze.gait import Gait
    from iqlft_workers.mazes import Cell, D4RLMaze

_SIDES = ((0, -1), (0, 1), (1, 0), (-1, 0))
"""Steps to the left, right, down and up; D4RL's order decides among equally short paths."""


class Planner:
    """Finds the next cell on a shortest path, in a table that is filled once per goal cell.

    D4RL assigns a position to the cell whose centre is up and left of it, so its cells are shifted
    by half a cell against the walls. This is kept, because it shapes the data: the ant swings wide
    around corners and so crosses the boxes of goals on its way, which is where the rewards of the
    play and diverse datasets come from; and now and then it is sent against a wall, which is why it
    misses some of its goals.

    Args:
        maze: where the ant walks.
    """

    def __init__(self, maze: D4RLMaze) -> None:
        self._start = maze.start
        self._free = set(maze.free_cells)
        self._tables: dict[Cell, dict[Cell, Cell]] = {}

    def cell(self, x: float, y: float) -> Cell:
        """The cell (row, column) that D4RL assigns a position to."""
        return (
            self._start[0] + int(max(y, 0.0) / CELL_SIZE),
            self._start[1] + int(max(x, 0.0) / CELL_SIZE),
        )

    def next_cell(self, cell: Cell, goal: Cell) -> Cell:
        """The cell after `cell` on the way to `goal`; the goal itself when it is reached.

        From a wall the way leads to the neighbour nearest to the goal, or straight to the goal
        where a wall has no free neighbour.
        """
        if goal not in self._tables:
            self._tables[goal] = self._fill(goal)
        return self._tables[goal].get(cell, goal)

    def _fill(self, goal: Cell) -> dict[Cell, Cell]:
        table, frontier = {goal: goal}, deque([goal])
        while frontier:
            cell = frontier.popleft()
            for row, column in _SIDES:
                neighbour = (cell[0] + row, cell[1] + column)
                if neighbour not in table:
                    table[neighbour] = cell
                    if neighbour in self._free:
                        frontier.append(neighbour)
        return table


class Behaviour:
    """Chooses the actions of one episode.

    Args:
        planner: finds the next cell.
        maze: where the ant walks.
        gait: the ant's policy, which walks in a given direction.
        noise: standard deviation of the Gaussian noise added to the gait's actions.
        goal: the commanded goal (x, y).
        steps: length T of the episode.
        rng: source of all randomness; everything is drawn in advance, which is faster.
    """

    def __init__(
        self,
        planner: Planner,
        maze: D4RLMaze,
        gait: Gait,
        noise: float,
        goal: NDArray[np.float64],
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        self._planner, self._maze, self._gait = planner, maze, gait
        self._goal = (float(goal[0]), float(goal[1]))
        self._goal_cell = planner.cell(*self._goal)
        self._offsets = rng.random((steps, 2)).tolist()
        self._normals = rng.standard_normal((steps, 8), np.float32)
        self._noise = np.float32(noise) * rng.standard_normal((steps, 8), np.float32)
        self._input = np.empty(29, np.float32)

    def act(self, observation: dict[str, NDArray[np.float64]], step: int) -> NDArray[np.float32]:
        """The action `(8,)` float32 in [-1, 1] of the given step.

        Args:
            observation: the maze environment's.
            step: index in [0, T).
        """
        x, y = observation["achieved_goal"].tolist()
        goal_x, goal_y = self._waypoint((x, y), step)
        dx, dy = goal_x - x, goal_y - y
        scale = self._gait.direction_scale / max(math.hypot(dx, dy), 1e-6)
        self._input[:27] = observation["observation"]
        self._input[27:] = dx * scale, dy * scale
        action = self._gait.sample(self._input, self._normals[step]) + self._noise[step]
        clipped: NDArray[np.float32] = np.minimum(np.maximum(action, -1), 1)
        return clipped

    def _waypoint(self, position: tuple[float, float], step: int) -> tuple[float, float]:
        """The next cell's centre + U(0, 1)^2, drawn at every step; in the goal's cell, the goal."""
        cell = self._planner.next_cell(self._planner.cell(*position), self._goal_cell)
        if cell == self._goal_cell:
            return self._goal
        x, y = self._maze.cell_rowcol_to_xy(cell).tolist()
        offset_x, offset_y = self._offsets[step]
        return x + offset_x, y + offset_y
