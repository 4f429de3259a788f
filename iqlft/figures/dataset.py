"""A dataset at a glance: where the agent of a maze goes, or how long and how good episodes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from iqlft.analysis.statistics import ROUNDING
from iqlft.analysis.survey import FINENESS
from iqlft.datasets.audit.findings import show
from iqlft.datasets.goal_maze import recorded_maze
from iqlft.datasets.reading import read_column, read_episodes
from iqlft.datasets.recorded import open_dataset, records_environment
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
from iqlft.figures.style import (
    BLUE,
    DARK,
    FORMATS,
    GREEN,
    GREY,
    VERMILION,
    WIDE,
    save_figure,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import minari
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from iqlft.datasets.goal_maze import GoalMaze
    from iqlft.datasets.recorded import Goal

MOST_POINTS = 1000
"""Most points of one kind in a panel: more would merge into a blot."""
_START: dict[str, Any] = {"marker": "o", "color": BLUE, "markersize": 2.4}
"""Marker of an episode's start."""
_GOAL: dict[str, Any] = {"marker": "x", "color": VERMILION, "markersize": 2.6}
"""Marker of a commanded goal."""
_REWARDED: dict[str, Any] = {"marker": "+", "color": GREEN, "markersize": 3.4}
"""Marker of a rewarded position."""
_ELSEWHERE: dict[str, Any] = {"marker": ".", "color": GREY, "markersize": 1.6}
"""Marker of a position near the goal that is not rewarded."""


class Coverage(NamedTuple):
    """Where the agent of a maze dataset was.

    Attributes:
        visits: `(R * FINENESS, C * FINENESS)`: number of positions in each small square.
        starts: `(E, 2)`: start of every episode.
        goals: `(E, 2)`: commanded at the start of every episode.
        near: `(K, 2)`: next positions within a cell of the evaluation goal.
        transitions: number of transitions.
    """

    visits: NDArray[np.int64]
    starts: NDArray[np.float64]
    goals: NDArray[np.float64]
    near: NDArray[np.float64]
    transitions: int


def plot_dataset(
    dataset_id: str,
    out_folder: Path,
    name: str,
    kinds: Sequence[str] = FORMATS,
    *,
    trust: bool = False,
) -> list[Path]:
    """Draws a dataset and saves the figure.

    Args:
        dataset_id: Minari id of a local dataset.
        out_folder: where the files go; made if missing.
        name: of the files, without their ending.
        kinds: endings of the files.
        trust: whether its environment may be run though no installed package registers it.

    Returns:
        The files.

    Raises:
        DatasetError: the dataset is absent, or cannot be opened.
        EnvironmentMismatchError: the recorded maze cannot be made here.
    """
    with mpl.rc_context(style(WIDE)):
        figure = dataset_figure(open_dataset(dataset_id), trust=trust)
        return save_figure(figure, out_folder, name, kinds)


def dataset_figure(dataset: minari.MinariDataset, *, trust: bool = False) -> Figure:
    """The figure of `plot_dataset`, not yet saved."""
    maze = recorded_maze(dataset, trust=trust) if records_environment(dataset) else None
    figure = _episodes_figure(dataset) if maze is None else _maze_figure(dataset, maze)
    figure.suptitle(
        f"{dataset.id}: {int(dataset.total_steps):,} transitions in "
        f"{int(dataset.total_episodes):,} episodes",
        fontsize="large",
    )
    return figure


# -- mazes --------------------------------------------------------------------------------------


def read_coverage(dataset: minari.MinariDataset, maze: GoalMaze) -> Coverage:
    """Reads a dataset's positions, one episode at a time."""
    fine, goal = maze.refined(FINENESS), maze.goal
    visits = np.zeros(fine.walls.shape, np.int64)
    starts, goals, near = [], [], [np.empty((0, 2))]
    for episode in read_episodes(dataset, ("achieved_goal", "desired_goal")):
        positions = episode.observations["achieved_goal"]
        visits += fine.count(positions)
        starts.append(positions[0])
        goals.append(episode.observations["desired_goal"][0])
        if goal is not None:
            arrived = positions[1:]
            near.append(arrived[(np.abs(arrived - goal.position) < np.abs(maze.pitch)).all(-1)])
    transitions = int(dataset.total_steps)
    return Coverage(visits, np.array(starts), np.array(goals), np.concatenate(near), transitions)


def _maze_figure(dataset: minari.MinariDataset, maze: GoalMaze) -> Figure:
    coverage = read_coverage(dataset, maze)
    width, height = np.ptp(maze.limits, axis=1)
    figure = Figure(figsize=(WIDE, 1.9 + 5.7 * height / width), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    (visits, starts), (goals, near) = figure.subplots(2, 2)
    norm = LogNorm(1, max(10, coverage.visits.max()))
    draw_colour_bar(visits, draw_visits(visits, maze, coverage.visits, norm))
    visits.set_title(f"visits of each square of {abs(maze.pitch[0]) / FINENESS:g} m")
    _draw_cells(starts, maze, coverage.starts, _START, "starts: % of episodes by cell")
    _draw_cells(goals, maze, coverage.goals, _GOAL, "commanded goals: % of episodes by cell")
    for axes in (visits, starts, goals):
        draw_walls(axes, maze)
        scale(axes, *maze.limits)
    if maze.goal is None:
        near.remove()
    else:
        draw_goal(visits, maze.goal)
        _draw_rewarded(near, maze, maze.goal, coverage)
    for axes in (visits, goals):
        axes.set_ylabel("y (m)")
    for axes in (goals, near if maze.goal is not None else starts):
        axes.set_xlabel("x (m)")
    figure.legend(
        handles=_legend(maze), loc="outside lower center", frameon=False, ncols=4, handlelength=1.4
    )
    return figure


def _draw_cells(
    axes: Axes, maze: GoalMaze, points: NDArray[np.float64], look: dict[str, Any], title: str
) -> None:
    """Draws points and, at the lower edge of each cell that has any, the share of them in it."""
    axes.plot(*_thin(points).T, **look, linestyle="", markeredgewidth=0.5, alpha=0.6, zorder=2)
    counts = maze.count(points)
    for row, column in np.argwhere(counts).tolist():
        x, y = maze.centre(row, column) - (0, 0.46 * abs(maze.pitch[1]))
        percent = 100 * counts[row, column] / len(points)
        axes.text(x, y, f"{percent:.3g}" if percent >= 9.95 else f"{percent:.1f}", ha="center",
                  va="bottom", fontsize=5, zorder=3)  # fmt: skip
    axes.set_title(title)


def _draw_rewarded(axes: Axes, maze: GoalMaze, goal: Goal, coverage: Coverage) -> None:
    """Draws the surroundings of the evaluation goal, in the proportions of the maze."""
    reached = goal.reached(coverage.near)
    for points, look in (
        (coverage.near[~reached], _ELSEWHERE),
        (coverage.near[reached], _REWARDED),
    ):
        axes.plot(*_thin(points).T, **look, linestyle="", markeredgewidth=0.5, zorder=2)
    axes.add_patch(Circle((goal.position[0], goal.position[1]), goal.radius, fill=False,
                          edgecolor=DARK, linewidth=0.9, linestyle="--", zorder=3))  # fmt: skip
    draw_goal(axes, goal)
    draw_walls(axes, maze)
    # One cell high, and of the maze's proportions, so that all panels are of one size.
    whole = np.ptp(maze.limits, axis=1)
    half = np.abs(maze.pitch[1]) / 2 * whole / whole[1]
    scale(axes, *np.stack([goal.position - half, goal.position + half], axis=1))
    share = np.count_nonzero(reached) / coverage.transitions
    axes.set_title(f"around the evaluation goal: {100 * share:.2g} % rewarded")


def _thin(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `MOST_POINTS` of the points `(N, 2)`, the same ones each time."""
    if len(points) <= MOST_POINTS:
        return points
    chosen = np.random.default_rng(0).choice(len(points), MOST_POINTS, replace=False)
    return points[chosen]


def _legend(maze: GoalMaze) -> list[Artist]:
    handles = [legend_key(_START, "start of an episode"), legend_key(_GOAL, "commanded goal")]
    if maze.goal is not None:
        circle = Line2D([], [], color=DARK, linewidth=0.9, linestyle="--")
        circle.set_label(f"within {maze.radius:g} m of it")
        handles += [legend_key(STAR, "evaluation goal"), circle]
        handles += [
            legend_key(_REWARDED, "rewarded state"),
            legend_key(_ELSEWHERE, "other state nearby"),
        ]
    return [*handles, wall_key()]


# -- other environments -------------------------------------------------------------------------


def _episodes_figure(dataset: minari.MinariDataset) -> Figure:
    rewards, lengths = [], []
    for each in read_column(dataset, "rewards"):
        rewards.append(each.sum(dtype=np.float64))
        lengths.append(len(each))
    figure = Figure(figsize=(WIDE, 2.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    left, right = figure.subplots(1, 2)
    _draw_histogram(left, rewards, "return of an episode")
    _draw_histogram(right, lengths, "length of an episode (steps)")
    left.set_ylabel("episodes")
    median = Line2D([], [], color=DARK, linestyle="--", linewidth=0.9, label="median")
    figure.legend(handles=[median], loc="outside lower center", frameon=False)
    return figure


def _draw_histogram(axes: Axes, values: Sequence[float], label: str) -> None:
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if high - low <= ROUNDING * abs(high):
        # One bar: of values that agree up to rounding, bins would be too narrow to be numbers.
        finite, margin = np.full_like(finite, low), max(0.5, abs(low) / 1000)
        low, high = low - margin, high + margin
    axes.hist(finite, bins=40, range=(low, high), color=BLUE, alpha=0.6)
    median = float(np.median(finite)) if len(finite) else 0.0
    axes.axvline(median, color=DARK, linestyle="--", linewidth=0.9)
    axes.set_title(f"median {show(median)}")
    axes.set_xlabel(label)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=True, axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
