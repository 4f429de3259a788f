"""D4RL's behaviour: breadth-first search over cells, and a gait that walks to the next one."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqlft.datasets.gait import Gait
    from workers.antmaze import Cell, D4RLMaze

_SIDES = ((0, 1), (0, -1), (-1, 0), (1, 0))
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


class Planner:
    """The next cell on a shortest path, from a table that is filled once per goal cell.

    Args:
        maze: where the ant walks.
    """

    def __init__(self, maze: D4RLMaze) -> None:
        self._maze = maze
        self._free = set(maze.free_cells)
        self._tables: dict[Cell, dict[Cell, Cell]] = {}

    def next_cell(self, cell: Cell, goal: Cell) -> Cell:
        """The cell after `cell` on the way to `goal`; the goal itself when it is reached.

        A torso that leans over the edge of a wall is in no free cell; it is led to the
        neighbouring free cell that is nearest to the goal.
        """
        if goal not in self._tables:
            self._tables[goal] = self._fill(goal)
        return self._tables[goal][cell]

    def _fill(self, goal: Cell) -> dict[Cell, Cell]:
        table, distance, frontier = {goal: goal}, {goal: 0}, deque([goal])
        while frontier:
            cell = frontier.popleft()
            for row, column in _SIDES:
                neighbour = (cell[0] + row, cell[1] + column)
                if neighbour in self._free and neighbour not in table:
                    table[neighbour], distance[neighbour] = cell, distance[cell] + 1
                    frontier.append(neighbour)
        for wall in self._walls():
            around = [(wall[0] + row, wall[1] + column) for row, column in (*_SIDES, *_CORNERS)]
            reachable = [cell for cell in around if cell in distance]
            table[wall] = min(reachable, key=distance.__getitem__, default=goal)
        return table

    def _walls(self) -> list[Cell]:
        rows = self._maze.layout.rows
        cells = [(i, j) for i in range(len(rows)) for j in range(len(rows[0]))]
        return [cell for cell in cells if cell not in self._free]


class Behaviour:
    """Chooses the actions of one episode.

    Args:
        planner: finds the next cell.
        maze: where the ant walks.
        gait: walks in a given direction.
        noise: deviation of the Gaussian noise added to the gait's actions.
        goal: the commanded goal (x, y).
        steps: length T of the episode.
        rng: source of all randomness; everything is drawn at once, which is faster.
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
        self._goal_cell = maze.cell_xy_to_rowcol(goal)
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
        """The next cell's centre + U(0, 1)^2, drawn anew at every step; the goal in its cell."""
        cell = self._planner.next_cell(self._maze.cell_xy_to_rowcol(position), self._goal_cell)
        if cell == self._goal_cell:
            return self._goal
        x, y = self._maze.cell_rowcol_to_xy(cell).tolist()
        offset_x, offset_y = self._offsets[step]
        return x + offset_x, y + offset_y
