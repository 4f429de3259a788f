"""The value map: V at every place in a maze."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from iqlft.analysis.survey import FINENESS
from iqlft.figures.maze_axes import (
    STAR,
    draw_colour_bar,
    draw_goal,
    draw_walls,
    legend_key,
    scale,
    wall_key,
)
from iqlft.figures.style import NARROW

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.artist import Artist
    from numpy.typing import NDArray

    from iqlft.analysis.survey import MazeTask
    from iqlft.datasets.goal_maze import GoalMaze

    Values = Callable[[NDArray[np.float32]], NDArray[np.float32]]

POSTURES = 64
"""Observations whose V is averaged at every place."""


def place_values(
    values: Values, task: MazeTask, observations: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean V over postures at the centre of every small square.

    Args:
        values: V of observations `(N, O)`.
        task: the maze, and which columns of an observation are positions in it.
        observations: `(n, O)` typical ones, whose x and y are replaced; an observed goal is
            replaced by the evaluation goal, if the maze has one.

    Returns:
        `(R * FINENESS, C * FINENESS)`, NaN in walls.
    """
    fine = task.maze.refined(FINENESS)
    rows, columns = np.nonzero(~fine.walls)
    places = fine.first + fine.pitch * np.stack([columns, rows], axis=1)
    found = np.full(fine.walls.shape, np.nan)
    found[rows, columns] = 0
    for posture in observations:
        moved = np.tile(posture, (len(places), 1))
        moved[:, task.position] = places
        if task.goal is not None and task.maze.goal is not None:
            moved[:, task.goal] = task.maze.goal.position
        found[rows, columns] += values(moved) / len(observations)
    return found


def value_figure(maze: GoalMaze, values: NDArray[np.float64], visits: NDArray[np.int64]) -> Figure:
    """The figure, not yet saved.

    Args:
        maze: the maze.
        values: see `place_values`.
        visits: of the same shape; squares without any stay blank: V has learned nothing there.
    """
    width, height = np.ptp(maze.limits, axis=1)
    figure = Figure(figsize=(NARROW, 2.35 * height / width + 0.9), layout="constrained")
    axes = figure.subplots()
    seen = np.ma.masked_array(values, np.isnan(values) | (visits == 0))
    mesh = axes.pcolormesh(
        *maze.refined(FINENESS).edges, seen, cmap="viridis", rasterized=True, zorder=2
    )
    draw_colour_bar(axes, mesh, "mean V")
    draw_walls(axes, maze)
    scale(axes, *maze.limits)
    axes.set(xlabel="x (m)", ylabel="y (m)")
    handles: list[Artist] = [wall_key()]
    if maze.goal is not None:
        draw_goal(axes, maze.goal)
        handles.insert(0, legend_key(STAR, "evaluation goal"))
    figure.legend(handles=handles, loc="outside lower center", frameon=False, ncols=2)
    return figure
