"""The maze map: visits of dataset and of new transitions, and the paths of evaluation episodes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iqlft.analysis.survey import FINENESS
from iqlft.figures.maze_axes import (
    STAR,
    draw_colour_bar,
    draw_goal,
    draw_visits,
    draw_walls,
    legend_key,
    scale,
    wall_key,
)
from iqlft.figures.style import BLUE, DARK, VERMILION, WIDE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from iqlft.analysis.evaluation_paths import EvaluationPath
    from iqlft.analysis.survey import Survey
    from iqlft.datasets.goal_maze import GoalMaze

_LOOKS: dict[bool | None, dict[str, Any]] = {
    True: {"color": BLUE, "linestyle": "-"},
    False: {"color": VERMILION, "linestyle": (0, (3, 1.5))},
    None: {"color": DARK, "linestyle": ":"},
}
"""Lines of paths that reach their goal, that do not, and whose success is not reported."""
_NAMES = {True: "success", False: "failure", None: "success not reported"}
_START: dict[str, Any] = {"marker": "o", "color": "black", "markersize": 4}
"""Marker of a path's start."""


def maze_figure(
    maze: GoalMaze, surveys: Mapping[str, Survey], paths: Sequence[EvaluationPath]
) -> Figure:
    """The figure, not yet saved: a panel for each survey, and one for the paths.

    Args:
        maze: the maze of surveys and paths.
        surveys: with visits, by the name of their transitions.
        paths: at least one.
    """
    width, height = np.ptp(maze.limits, axis=1)
    columns = 1 + len(surveys)
    panel = min(2.3, (WIDE - 1.1) / columns)
    figure = Figure(figsize=(WIDE, panel * height / width + 0.9), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # type: ignore[union-attr,call-arg]
    *coverage, last = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    _draw_coverage(coverage, maze, surveys)
    for path in paths:
        last.plot(*path.positions.T, **_LOOKS[path.success], linewidth=0.8, alpha=0.75, zorder=2,
                  gid=_NAMES[path.success])  # fmt: skip
        last.plot(*path.positions[0], **_START, zorder=3)
    last.set_title(f"{len(paths)} evaluation episodes")
    for axes in (*coverage, last):
        draw_walls(axes, maze)
        scale(axes, *maze.limits)
        axes.set_xlabel("x (m)")
        if maze.goal is not None:
            draw_goal(axes, maze.goal)
    (*coverage, last)[0].set_ylabel("y (m)")
    figure.legend(handles=_legend(maze, paths), loc="outside lower center", frameon=False,
                  ncols=5, handlelength=1.8)  # fmt: skip
    return figure


def _draw_coverage(axes: Sequence[Axes], maze: GoalMaze, surveys: Mapping[str, Survey]) -> None:
    """Draws visits on one colour scale, so that panels can be compared."""
    if not surveys:
        return
    visits = {name: each.visits for name, each in surveys.items() if each.visits is not None}
    norm = LogNorm(1, max(10, *(each.max() for each in visits.values())))
    for each, (name, counts) in zip(axes, visits.items(), strict=True):
        mesh = draw_visits(each, maze, counts, norm)
        each.set_title(f"{surveys[name].num_transitions:,} {name}")
    square = abs(maze.pitch[0]) / FINENESS
    draw_colour_bar(axes[-1], mesh, f"visits of each square of {square:g} m")


def _legend(maze: GoalMaze, paths: Sequence[EvaluationPath]) -> list[Artist]:
    counts = Counter(path.success for path in paths)
    kinds = [k for k in _LOOKS if k in counts or (k is not None and counts.keys() != {None})]
    handles: list[Artist] = [
        Line2D([], [], **_LOOKS[kind], label=f"{_NAMES[kind]} ({counts[kind]})") for kind in kinds
    ]
    handles.append(legend_key(_START, "start"))
    if maze.goal is not None:
        handles.append(legend_key(STAR, "evaluation goal"))
    return [*handles, wall_key()]
