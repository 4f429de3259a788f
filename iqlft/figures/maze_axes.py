"""A maze on axes that the caller owns: its walls, where the agent was, the evaluation goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from iqlft.analysis.survey import FINENESS
from iqlft.figures.style import ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize
    from numpy.typing import NDArray

    from iqlft.datasets.goal_maze import GoalMaze
    from iqlft.datasets.recorded import Goal

STAR: dict[str, Any] = {"marker": "*", "color": ORANGE, "markersize": 8, "markeredgecolor": "k",
                        "markeredgewidth": 0.6}  # fmt: skip
"""Marker of the evaluation goal."""
_WALL = "0.55"
"""Colour of walls."""


def scale(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Sets limits and one scale for both axes, with ticks that suit 4 m cells, or a single one."""
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.spines[["top", "right"]].set_visible(True)
    steps = [1, 2, 4, 8, 10] if np.ptp(x) > 10 else [1, 2, 5, 10]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=steps))


def draw_walls(axes: Axes, maze: GoalMaze) -> None:
    """Fills the cells that are walls."""
    axes.pcolormesh(
        *maze.edges, np.ma.masked_equal(maze.walls, False), cmap=ListedColormap([_WALL]),
        rasterized=True, zorder=1,
    )  # fmt: skip


def draw_visits(axes: Axes, maze: GoalMaze, visits: NDArray[np.int64], norm: Normalize) -> QuadMesh:
    """Colours small squares by how often they were visited, and leaves unvisited ones blank.

    Args:
        axes: of a maze.
        maze: the maze, not refined.
        visits: `(R * FINENESS, C * FINENESS)`.
        norm: from visits to colours.

    Returns:
        The mesh, for `draw_colour_bar`.
    """
    return axes.pcolormesh(
        *maze.refined(FINENESS).edges, np.ma.masked_equal(visits, 0), cmap="viridis", norm=norm,
        rasterized=True, zorder=2,
    )  # fmt: skip


def draw_colour_bar(axes: Axes, mesh: QuadMesh, label: str = "") -> None:
    """Draws the colour bar of a mesh at the right of its axes."""
    bar = axes.inset_axes((1.03, 0, 0.035, 1))
    axes.figure.colorbar(mesh, cax=bar, label=label)
    bar.minorticks_off()


def draw_goal(axes: Axes, goal: Goal) -> None:
    """Marks the evaluation goal with a star."""
    axes.plot(*goal.position, **STAR, linestyle="", zorder=4)


def legend_key(look: dict[str, Any], label: str) -> Line2D:
    """A legend's entry for a kind of point."""
    return Line2D([], [], **look, linestyle="", label=label)


def wall_key() -> Patch:
    """A legend's entry for walls."""
    return Patch(color=_WALL, linewidth=0, label="wall")
