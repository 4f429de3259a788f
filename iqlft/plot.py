"""The before/after figure: one panel per task, then the change of each task and of their mean."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from iqlft.curves import METRIC_NAMES
from iqlft.dumbbell import draw_dumbbell
from iqlft.figures import GREY, WIDE, save_figure, style
from iqlft.panels import (
    ALONE,
    BANDED,
    LOOKS,
    PUBLISHED,
    Look,
    draw_curves,
    published_look,
    published_points,
)
from iqlft.published import fine_tuning_results
from iqlft.runs import RunError
from iqlft.summary import Group, Series, Summary, count_range, group_runs, summarise, total

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.figure import SubFigure

    from iqlft.curves import RunCurve
    from iqlft.published import Marked, PublishedRow

DUMBBELL_WIDTHS = {1: 2.5, 2: 3.0}
"""Inches for the dumbbell beside the curves of so many tasks: names, a short axis, changes."""


def plot_before_after(
    runs: Sequence[RunCurve],
    out_folder: Path,
    *,
    smoothing: int | None = None,
    published: Marked = "same",
    width: float = WIDE,
    name: str = "before_after",
) -> list[Path]:
    """Draws the before/after figure of the runs and saves it as PNG and as PDF.

    Args:
        runs: at least one.
        out_folder: where the files go; made if missing.
        smoothing: odd number of evaluations to average over; None (or 1) draws them as they are.
            The dumbbell is never smoothed.
        published: which published results to mark in the curves, where their protocol ends: only
            in panels whose runs are as long.
        width: of the figure, in inches: `WIDE` or `NARROW`.
        name: of the files, without their ending.

    Returns:
        The PNG (300 dots per inch) and the PDF.

    Raises:
        RunError: no runs, two of the same task, algorithm, variant, data and seed, or an even
            smoothing.
    """
    with mpl.rc_context(style(width)):
        figure = before_after_figure(runs, smoothing=smoothing, published=published, width=width)
        return save_figure(figure, out_folder, name)


def before_after_figure(
    runs: Sequence[RunCurve],
    *,
    smoothing: int | None = None,
    published: Marked = "same",
    width: float = WIDE,
) -> Figure:
    """The figure of `plot_before_after`, not yet saved."""
    if smoothing is not None and (smoothing < 1 or smoothing % 2 == 0):
        raise RunError(f"Smoothing averages over an odd number of evaluations, not {smoothing}.")
    smoothing = None if smoothing == 1 else smoothing
    groups = group_runs(runs)
    tasks = list(dict.fromkeys(group.task for group in groups))
    series = list(dict.fromkeys(group.series for group in groups))
    looks = dict(zip(series, itertools.cycle(LOOKS), strict=False))
    if len(series) == 1:
        looks = {series[0]: ALONE}
    rows = _dumbbell_rows(groups, series)
    # Names of series are long: with several of them the dumbbell has the foot of the figure.
    beside = width > 5 and len(tasks) <= 2 and len(series) == 1
    marks = _marks(groups, fine_tuning_results(published, {one.algorithm for one in series}))
    handles = _handles(groups, looks, marks, smoothing)
    legend_columns = 1 if width <= 5 else 3 if len(handles) == 3 else 2
    lines = -(-len(handles) // legend_columns)
    curves_part, dumbbell_part, figure = _layout(len(tasks), len(rows), lines, width, beside=beside)
    columns = _columns(len(tasks), width)
    grid = curves_part.subplots(-(-len(tasks) // columns), columns, squeeze=False)
    all_axes = list(grid.flat)
    for index, (axes, task) in enumerate(zip(all_axes, tasks, strict=False)):
        mine = [group for group in groups if group.task == task]
        mine_looks = [looks[group.series] for group in mine]
        narrow = width / columns < 2
        draw_curves(axes, mine, mine_looks, smoothing=smoothing, narrow=narrow)
        for result, marker in marks:
            for point in published_points(mine, result):
                axes.plot(*point, **published_look(marker), clip_on=False, zorder=4,
                          gid="published")  # fmt: skip
        axes.set_title(_title(mine, groups, width), pad=13)
        if index % columns == 0 or mine[0].metric != groups[0].metric:
            axes.set_ylabel(METRIC_NAMES[mine[0].metric])
        elif mine[0].metric != "return":
            axes.tick_params(labelleft=False)
    for axes in all_axes[len(tasks) :]:
        axes.remove()
    if dumbbell_part is not None:
        draw_dumbbell(dumbbell_part.subplots(), rows, narrow=width <= 5 or beside)
    data = "; ".join(dict.fromkeys(group.series.label for group in groups))
    figure.legend(handles=handles, loc="outside lower center", frameon=False, ncol=legend_columns,
                  handlelength=1.8, title=f"data: {data}", title_fontsize="small")  # fmt: skip
    return figure


def _columns(num_tasks: int, width: float) -> int:
    if width <= 5:
        return min(num_tasks, 2)
    return 2 if num_tasks == 4 else min(num_tasks, 3)


def _layout(
    num_tasks: int, num_rows: int, num_lines: int, width: float, *, beside: bool
) -> tuple[SubFigure, SubFigure | None, Figure]:
    """A figure of the right size, its part for the curves and, with rows, for the dumbbell.

    The legend below them has `num_lines`.
    """
    columns = _columns(num_tasks, width)
    panel_rows = -(-num_tasks // columns)
    panels = panel_rows * (2.05 if beside else 1.85 if columns < 3 else 1.75)
    legend = 0.3 + 0.14 * max(0, num_lines - 2)
    foot = 0.0 if beside or not num_rows else 0.7 + 0.24 * num_rows
    figure = Figure(figsize=(width, panels + foot + legend), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)  # type: ignore[union-attr,call-arg]
    if not num_rows:
        return figure.add_subfigure(figure.add_gridspec(1, 1)[0]), None, figure
    if beside:
        grid = figure.add_gridspec(
            1, 2, width_ratios=(width - DUMBBELL_WIDTHS[num_tasks], DUMBBELL_WIDTHS[num_tasks])
        )
    else:
        grid = figure.add_gridspec(2, 1, height_ratios=(panels, foot))
    return figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1]), figure


def _dumbbell_rows(groups: Sequence[Group], series: Sequence[Series]) -> list[tuple[str, Summary]]:
    """Names and summaries from the top down; empty where no run has been fine-tuned."""
    summaries = [summarise(group) for group in groups]
    if len({s.metric for s in summaries}) > 1 or not any(s.change for s in summaries):
        return []
    tasks = list(dict.fromkeys(group.task for group in groups))

    def label(text: str, one: Series) -> str:
        name = _series_name(one, series)
        return text if len(series) == 1 else name if len(tasks) == 1 else f"{text}, {name}"

    rows = [(label(_short(s.task, tasks), s.series), s) for s in summaries if s.before]
    if len(groups) == 1:
        rows = [("", rows[0][1])]  # the panel's title names the only task
    for one in series:
        parts = [s for s in summaries if s.series == one]
        summed = total(parts) if len(parts) == len(tasks) else None
        if summed is not None and summed.change is not None:
            mean = dataclasses.replace(
                summed,
                before=summed.before and summed.before.scaled(1 / len(parts)),
                after=summed.after and summed.after.scaled(1 / len(parts)),
                change=summed.change.scaled(1 / len(parts)),
            )
            rows.append((label(f"mean of {len(parts)} tasks", one), mean))
    return rows


def _short(task: str, tasks: Sequence[str]) -> str:
    """A task's name without the part that all tasks share: `medium-play` among AntMaze tasks."""
    family = task.partition("-")[0] + "-"
    shared = len(tasks) > 1 and all(one.startswith(family) for one in tasks)
    return task.removeprefix(family) if shared else task


def _title(mine: Sequence[Group], groups: Sequence[Group], width: float) -> str:
    """The task, and that it has one seed where others have several."""
    tasks = list(dict.fromkeys(group.task for group in groups))
    name = _short(mine[0].task, tasks) if len(tasks) > 2 or width <= 5 else mine[0].task
    sizes = {len(group.runs) for group in groups}
    alone = len(sizes) > 1 and all(len(group.runs) == 1 for group in mine)
    return f"{name} (1 seed)" if alone else name


def _series_name(one: Series, series: Sequence[Series]) -> str:
    """What tells one series from the others: a variant alone, where all are one algorithm's."""
    same_algorithm = len({each.algorithm for each in series}) == 1
    name = one.variant if same_algorithm and one.variant else one.name
    alike = [each for each in series if each.name == one.name]
    return name if len(alike) == 1 else f"{name}, {one.label}"


def _marks(
    groups: Sequence[Group], results: Sequence[Sequence[PublishedRow]]
) -> list[tuple[Sequence[PublishedRow], str]]:
    """The published results that have a place in some panel, with their markers."""
    tasks = [[group for group in groups if group.task == each.task] for each in groups]
    shown = [each for each in results if any(published_points(mine, each) for mine in tasks)]
    return list(zip(shown, itertools.cycle(PUBLISHED), strict=False))


def _handles(
    groups: Sequence[Group],
    looks: dict[Series, Look],
    marks: Sequence[tuple[Sequence[PublishedRow], str]],
    smoothing: int | None,
) -> list[Artist]:
    """What lines, bands and marks are; a band of one seed's episodes is named as what it is."""
    several = sorted({len(group.runs) for group in groups} - {1})
    single = [group for group in groups if len(group.runs) == 1]
    handles: list[Artist] = []
    for one, look in looks.items():
        mine = [group for group in groups if group.series == one]
        sizes = sorted({len(group.runs) for group in mine})
        seeds = "1 seed" if sizes == [1] else f"mean ({count_range(sizes)} seeds)"
        if smoothing:
            seeds += f", smoothed over {smoothing} evaluations"
        label = seeds if len(looks) == 1 else f"{_series_name(one, [*looks])}: {seeds}"
        handles.append(Line2D([], [], color=look.colour, linestyle=look.linestyle, linewidth=1.6,
                              marker="" if look == ALONE else look.marker, markersize=2.6,
                              label=label))  # fmt: skip
    colour = ALONE.colour if len(looks) == 1 else GREY
    if several:
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="each seed"))
    panels = Counter(group.task for group in groups).values()
    banded = not smoothing and min(panels) <= BANDED
    if several and banded:
        handles.append(_band_patch(colour, "95 % Student-t interval over seeds"))
    if banded and any(group.metric == "success" for group in single):
        rows = (row for group in single for row in group.runs[0].rows)
        episodes = count_range(sorted({row.episodes for row in rows}))
        where = "one seed" if not several else "where one seed"
        handles.append(
            _band_patch(colour, f"95 % Wilson interval of {episodes} episodes ({where})")
        )
    for (row, *_), marker in marks:
        label = f"{row.result}, {row.dataset_version}"
        handles.append(Line2D([], [], label=label, **published_look(marker)))
    return handles


def _band_patch(colour: str, label: str) -> Patch:
    return Patch(facecolor=colour, alpha=0.25, linewidth=0, label=label)
