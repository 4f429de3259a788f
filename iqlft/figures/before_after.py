"""The before/after figure: curves per task, then the change of each task and of their mean.

Each task has a panel, or one per series where those are many (`iqlft.figures.facets`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from iqlft.analysis.names import series_name, short_task
from iqlft.analysis.summary import (
    Group,
    Series,
    Summary,
    count_range,
    group_runs,
    interquartile,
    over_tasks,
    summarise,
    total,
)
from iqlft.figures.dumbbell import draw_dumbbell
from iqlft.figures.facets import is_named, looks_of, name_lines, named_directly, panels_of
from iqlft.figures.legend import legend_of
from iqlft.figures.marks import place_marks, reaching
from iqlft.figures.panels import BANDED, checked_smoothing, draw_curves, timeline_of
from iqlft.figures.style import (
    FORMATS,
    LETTERS,
    WIDE,
    columns_of,
    headline,
    save_figure,
    style,
    wrapped,
)
from iqlft.runs.scores import METRIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from iqlft.analysis.published import Marked
    from iqlft.runs.curves import RunCurve
    from iqlft.runs.scores import Metric

DUMBBELL_WIDTHS = {1: 2.5, 2: 3.0}
"""Inches for a dumbbell (names, a short axis, changes) beside curves, by number of panels."""


def plot_before_after(
    runs: Sequence[RunCurve],
    out_folder: Path,
    *,
    smoothing: int | None = None,
    published: Marked = "same",
    title: str | None = None,
    name: str = "before_after",
    kinds: Sequence[str] = FORMATS,
) -> list[Path]:
    """Draws the before/after figure of the runs and saves it.

    Args:
        runs: at least one.
        out_folder: where the files go; made if missing.
        smoothing: odd number of evaluations to average over; None (or 1) draws them as they are.
            The dumbbell is never smoothed.
        published: which published results to mark in the curves, where their protocol ends.
        title: above the figure.
        name: of the files, without their ending.
        kinds: endings of the files.

    Returns:
        The files.

    Raises:
        RunError: no runs, two of the same task, algorithm, variant, data and seed, or an even
            smoothing.
    """
    with mpl.rc_context(style(WIDE)):
        figure = before_after_figure(runs, smoothing=smoothing, published=published)
        if title:
            lines, height = headline(title)
            figure.set_figheight(figure.get_figheight() + height)
            figure.suptitle(lines)
        return save_figure(figure, out_folder, name, kinds)


def before_after_figure(
    runs: Sequence[RunCurve],
    *,
    smoothing: int | None = None,
    published: Marked = "same",
) -> Figure:
    """The figure of `plot_before_after`, not yet saved."""
    smoothing = checked_smoothing(smoothing)
    groups = group_runs(runs)
    tasks = list(dict.fromkeys(group.task for group in groups))
    series = list(dict.fromkeys(group.series for group in groups))
    panels = panels_of(groups)
    marks = place_marks(panels, published)
    columns = columns_of(len(panels))
    direct = named_directly(series, WIDE / columns)
    banded = len(series) <= BANDED and smoothing is None
    rows, means, iqms = _dumbbell_rows(groups, series)
    legend = legend_of(groups, looks_of(series), marks, named=direct, banded=banded,
                       compared=[row for _, row in rows],
                       means=[mean for _, mean in means], iqm=bool(iqms),
                       smoothing=smoothing)  # fmt: skip
    rows += means + iqms
    # The names of several series are long, so their dumbbell is below the curves.
    beside = len(tasks) <= 2 and len(series) == 1
    titles = [wrapped(one.title, WIDE / columns * 0.9 * LETTERS) for one in panels]
    title_lines = 1 + max(each.count("\n") for each in titles)
    curves_part, dumbbell_part, figure = _layout(
        len(panels), len(rows), legend.num_lines, title_lines, beside=beside
    )
    if len(tasks) == 1 < len(panels):
        curves_part.suptitle(tasks[0])
    grid = curves_part.subplots(-(-len(panels) // columns), columns, squeeze=False)
    timelines = [
        reaching(timeline_of(one.all_groups), marks, index) for index, one in enumerate(panels)
    ]
    for panel, panel_title, timeline, axes in zip(
        panels, titles, timelines, grid.flat, strict=False
    ):
        draw_curves(axes, panel.groups, panel.looks, timeline, behind=panel.behind,
                    banded=banded,
                    smoothing=smoothing, narrow=WIDE / columns < 2)  # fmt: skip
        axes.set_title(panel_title, pad=13)
    used = list(grid.flat[: len(panels)])
    _share_scales(used, [panel.groups[0].metric for panel in panels], columns)
    names = {one: series_name(one, series) for one in series}
    for index, (panel, timeline, axes) in enumerate(zip(panels, timelines, used, strict=True)):
        if direct:
            name_lines(axes, panel, names, timeline)
        for mark in marks:
            mark.draw(axes, index)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    if dumbbell_part is not None:
        draw_dumbbell(dumbbell_part.subplots(), rows, narrow=beside)
    legend.draw(figure)
    return figure


def _layout(
    num_panels: int,
    num_rows: int,
    num_lines: int,
    title_lines: int,
    *,
    beside: bool,
) -> tuple[SubFigure, SubFigure | None, Figure]:
    """A figure of the right size, its part for the curves and, with rows, for the dumbbell.

    The legend below them has `num_lines` lines, including its title, and a panel's title has at
    most `title_lines`.
    """
    columns = columns_of(num_panels)
    panel_rows = -(-num_panels // columns)
    panels = panel_rows * (2.05 if beside else 1.85 if columns < 3 else 1.75)
    panels += panel_rows * 0.16 * (title_lines - 1)
    legend = 0.3 + 0.14 * max(0, num_lines - 3)
    foot = 0.0 if beside or not num_rows else 0.7 + 0.24 * num_rows
    figure = Figure(figsize=(WIDE, panels + foot + legend), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)  # type: ignore[union-attr,call-arg]
    if not num_rows:
        return figure.add_subfigure(figure.add_gridspec(1, 1)[0]), None, figure
    if beside:
        grid = figure.add_gridspec(
            1, 2, width_ratios=(WIDE - DUMBBELL_WIDTHS[num_panels], DUMBBELL_WIDTHS[num_panels])
        )
    else:
        grid = figure.add_gridspec(2, 1, height_ratios=(panels, foot))
    return figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1]), figure


def _share_scales(panels: Sequence[Axes], metrics: Sequence[Metric], columns: int) -> None:
    """Gives panels of one metric one scale, except returns, and names it where `is_named`."""
    for metric in set(metrics) - {"return"}:
        alike = [axes for axes, each in zip(panels, metrics, strict=True) if each == metric]
        low = min(axes.get_ylim()[0] for axes in alike)
        high = max(axes.get_ylim()[1] for axes in alike)
        for axes in alike:
            axes.set_ylim(low, high)
    for index, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
        if is_named(index, metrics, columns):
            axes.set_ylabel(METRIC_NAMES[metric])
        elif metric != "return":
            axes.tick_params(labelleft=False)


Rows = list[tuple[str, Summary]]
"""Names and summaries of the dumbbell's rows, from the top down."""


def _dumbbell_rows(groups: Sequence[Group], series: Sequence[Series]) -> tuple[Rows, Rows, Rows]:
    """Rows of the tasks, of the means over them, and of the interquartile means of all runs.

    Empty if no run has been fine-tuned, or if metrics differ, so that there is no common axis.
    """
    summaries = [summarise(group) for group in groups]
    if len({s.metric for s in summaries}) > 1 or not any(s.change for s in summaries):
        return [], [], []
    tasks = list(dict.fromkeys(group.task for group in groups))
    longest = max(s.env_steps for s in summaries)

    def label(text: str, one: Series) -> str:
        name = series_name(one, series)
        return text if len(series) == 1 else name if len(tasks) == 1 else f"{text}, {name}"

    rows: Rows = []
    for group, summary in zip(groups, summaries, strict=True):
        if summary.before is None:
            continue
        # The panel's title already names a single group's task.
        name = label(short_task(group.task, tasks), group.series) if len(groups) > 1 else ""
        behind = []
        if 0 < len(group.tuned) < len(group.runs):
            behind.append(f"{len(group.tuned)} of {len(group.runs)} seeds")
        if summary.env_steps and summary.env_steps < longest:
            behind.append(f"{count_range(summary.env_steps)} steps")
        rows.append((f"{name} ({', '.join(behind)})".lstrip() if behind else name, summary))
    means, iqms = _means(series, summaries)
    if iqms and len(rows) == 1:
        rows = [(rows[0][0] or "mean", rows[0][1])]
    return rows, means, iqms


def _means(series: Sequence[Series], summaries: Sequence[Summary]) -> tuple[Rows, Rows]:
    """Rows of means over tasks, and of interquartile means, of the series that have all tasks."""
    means: Rows = []
    iqms: Rows = []
    for parts in over_tasks(summaries):
        of = "" if len(series) == 1 else f", {series_name(parts[0].series, series)}"
        over = f" of {len(parts)} tasks" if len(parts) > 1 else ""
        summed, iqm = total(parts), interquartile(parts)
        if summed is not None and summed.change is not None:
            mean = dataclasses.replace(
                summed,
                before=summed.before and summed.before.scaled(1 / len(parts)),
                after=summed.after and summed.after.scaled(1 / len(parts)),
                change=summed.change.scaled(1 / len(parts)),
            )
            means.append((f"mean{over}{of}", mean))
        if iqm is not None and iqm.change is not None:
            iqms.append((f"IQM{over}{of}", iqm))
    return means, iqms
