"""Any metric over updates, environment steps or time: `iqlft plot --metric critic/q`.

Scores come from the evaluations in `curves.csv`, everything else from `metrics.jsonl`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from iqlft.analysis.names import series_name
from iqlft.analysis.summary import group_runs, short_count
from iqlft.config.errors import nearest
from iqlft.figures.facets import is_named, looks_of, named_directly, panels_of, write_names
from iqlft.figures.legend import legend_of
from iqlft.figures.panels import ALONE, checked_smoothing, smooth
from iqlft.figures.style import (
    DARK,
    FAINT,
    FORMATS,
    WIDE,
    columns_of,
    headline,
    marker_of,
    save_figure,
    style,
)
from iqlft.runs.errors import RunError
from iqlft.runs.growing_files import METRICS
from iqlft.runs.metrics_log import present_name, read_history
from iqlft.runs.scores import METRIC_NAMES, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from iqlft.analysis.summary import Group, Series
    from iqlft.figures.facets import Panel
    from iqlft.figures.panels import Look
    from iqlft.runs.curves import RunCurve

    End = tuple[Series, tuple[float, float], Look]
    """A series, and where its line ends."""

X = Literal["updates", "env_steps", "seconds"]
"""What an axis may count: updates of both phases, environment steps, time of training."""
X_NAMES: dict[X, str] = {
    "updates": "updates, offline and online",
    "env_steps": "environment steps",
    "seconds": "seconds of training",
}
"""Labels of the axis."""


class Value(NamedTuple):
    """A metric's value at a moment of one run.

    Attributes:
        phase: `offline` or `online`.
        place: updates, or environment steps of an online evaluation: values of different seeds at
            one place are averaged.
        updates: of both phases.
        env_steps: so far.
        seconds: of training so far.
        y: the value.
    """

    phase: str
    place: int
    updates: int
    env_steps: int
    seconds: float
    y: float


class Point(NamedTuple):
    """A value where it is drawn; `place` as in `Value`."""

    place: int
    x: float
    y: float


Line = list[Point]
"""The points of one phase of a run."""


def plot_metric(
    runs: Sequence[RunCurve],
    out_folder: Path,
    *,
    metric: str | None = None,
    x: X = "updates",
    smoothing: int | None = None,
    title: str | None = None,
    name: str = "",
    kinds: Sequence[str] = FORMATS,
) -> list[Path]:
    """Draws a metric of the runs and saves it.

    Args:
        runs: at least one.
        out_folder: where the files go; made if missing.
        metric: `success`, `return`, `normalized_score`, or a key of `metrics.jsonl`, including the
            names of version 0.1; None: the score that the runs report.
        x: what the axis counts.
        smoothing: odd number of values to average over; None for none.
        title: above the figure.
        name: of the files, without their ending; empty: made from metric and axis.
        kinds: endings of the files.

    Returns:
        The files.

    Raises:
        RunError: no run has the metric, or an even smoothing.
    """
    name = name or f"{(metric or 'score').replace('/', '_')}_over_{x}"
    with mpl.rc_context(style(WIDE)):
        figure = metric_figure(runs, metric=metric, x=x, smoothing=smoothing, title=title)
        return save_figure(figure, out_folder, name, kinds)


def metric_figure(
    runs: Sequence[RunCurve],
    *,
    metric: str | None = None,
    x: X = "updates",
    smoothing: int | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of `plot_metric`, not yet saved."""
    smoothing = checked_smoothing(smoothing)
    groups = group_runs(runs)
    lines = {
        run.folder: _lines(run, metric or group.metric, x) for group in groups for run in group.runs
    }
    first = groups[0].metric
    groups = [each for each in groups if any(any(lines[run.folder]) for run in each.runs)]
    if not groups:
        raise RunError(_absent(runs, metric or first, x))
    series = list(dict.fromkeys(group.series for group in groups))
    panels = panels_of(groups)
    columns = columns_of(len(panels))
    named = named_directly(series, WIDE / columns)
    # Here only lines of one or two values have markers, whatever their look.
    looks = {
        one: look if look == ALONE else look._replace(marker="")
        for one, look in looks_of(series).items()
    }
    legend = legend_of(groups, looks, [], named=named, banded=False, compared=[], means=[],
                       smoothing=smoothing)  # fmt: skip
    rows = -(-len(panels) // columns)
    task = panels[0].task if len({panel.task for panel in panels}) == 1 < len(panels) else ""
    shown, room = headline(title or task)
    height = rows * (2.3 if columns < 3 else 1.9) + 0.3 + room * bool(title)
    figure = Figure(figsize=(WIDE, height + 0.14 * legend.num_lines), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    names = {one: series_name(one, series) for one in series}
    metrics = [metric or panel.groups[0].metric for panel in panels]
    for index, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False)):
        ends = _draw_panel(axes, panel, lines, x, smoothing)
        axes.set_title(panel.title)
        axes.set_xlabel(X_NAMES[x])
        if x != "seconds":
            axes.xaxis.set_major_formatter(lambda count, _: short_count(count))
        if is_named(index, metrics, columns):
            axes.set_ylabel(_axis_name(metrics[index]))
        if named:
            edge = axes.get_xlim()[1]
            write_names(axes, [(*end, names[one], look.colour) for one, end, look in ends], edge)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    if shown:
        figure.suptitle(shown)
    legend.draw(figure)
    return figure


def _axis_name(metric: str) -> str:
    return METRIC_NAMES.get(cast("Metric", metric), present_name(metric))


def _values(run: RunCurve, metric: str) -> list[Value]:
    """A run's values, without those that are not finite."""
    if metric in get_args(Metric):
        found = [
            Value(row.phase, row.env_steps if row.phase == "online" else row.updates, row.updates,
                  row.env_steps, row.seconds, row.score(cast("Metric", metric)))
            for row in run.rows
        ]  # fmt: skip
    else:
        found = [
            Value(row["phase"], row["updates"], row["updates"], row["env_steps"], row["seconds"], y)
            for row in _history(run)
            if isinstance(y := row.get(present_name(metric)), int | float)
        ]
    return [each for each in found if np.isfinite(each.y)]


def _history(run: RunCurve) -> Sequence[Mapping[str, Any]]:
    """A run's rows of metrics; empty for kept runs without them."""
    return read_history(run.folder).rows if (run.folder / METRICS).exists() else ()


def _lines(run: RunCurve, metric: str, x: X) -> list[Line]:
    """A run's lines, offline and online; over environment steps only the online one."""
    values = _values(run, metric)
    return [
        [Point(each.place, getattr(each, x), each.y) for each in values if each.phase == phase]
        for phase in (("online",) if x == "env_steps" else ("offline", "online"))
    ]


def _absent(runs: Sequence[RunCurve], metric: str, x: X) -> str:
    """Why there is nothing to draw."""
    known = {*get_args(Metric)} | {
        key
        for run in runs
        for row in _history(run)
        for key, each in row.items()
        if isinstance(each, int | float)
    }
    if present_name(metric) in known:
        return f"No run has values of {metric} over {X_NAMES[x]}; choose another --x."
    near = nearest(metric, sorted(known))
    return f"No run has a metric {metric!r}.{near} There are {', '.join(sorted(known))}."


def _mean(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Mean x and y over seeds, only at places where every seed has a value: no interpolation."""
    tables = [{point.place: point for point in line} for line in lines]
    shared = sorted(set.intersection(*map(set, tables)))
    return [
        (
            float(np.mean([table[place].x for table in tables])),
            float(np.mean([table[place].y for table in tables])),
        )
        for place in shared
    ]


def _draw_panel(
    axes: Axes, panel: Panel, lines: dict[Path, list[Line]], x: X, smoothing: int | None
) -> list[End]:
    """Draws a panel's series; returns where the mean of each ends."""
    ends: list[End] = []
    for group in panel.behind:
        for phase in _phases(group, lines, smoothing):
            axes.plot(*_columns(_mean(phase)), color=FAINT, linewidth=0.7, gid="behind")
    for group, look in zip(panel.groups, panel.looks, strict=True):
        for phase in _phases(group, lines, smoothing):
            for line in phase if len(phase) > 1 else []:
                axes.plot(*_columns([point[1:] for point in line]), color=look.colour, alpha=0.6,
                          linestyle=look.linestyle, linewidth=0.6, gid="seed")  # fmt: skip
            mean = _mean(phase)
            axes.plot(*_columns(mean), color=look.colour, linestyle=look.linestyle, linewidth=1.4,
                      marker=marker_of(len(mean)), markersize=3, gid="mean")  # fmt: skip
            if mean:
                ends = [each for each in ends if each[0] != group.series]
                ends.append((group.series, mean[-1], look))
    _draw_switch(axes, panel, lines, x)
    axes.grid(visible=True, color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0)
    return ends


def _draw_switch(axes: Axes, panel: Panel, lines: dict[Path, list[Line]], x: X) -> None:
    """Draws a dashed line at the switch, if that is at one place for all runs."""
    runs = [run for group in panel.all_groups for run in group.runs]
    both = [run for run in runs if len(phases := lines[run.folder]) == 2 and all(phases)]
    places = {_switch(run, lines[run.folder], x) for run in both}
    if len(places) == 1:
        axes.axvline(places.pop(), color=DARK, linestyle=(0, (4, 2)), linewidth=0.9, gid="switch")


def _switch(run: RunCurve, phases: Sequence[Line], x: X) -> float:
    """Where a run's offline phase ends, of which the end may have no value of its own."""
    first = run.at_switch
    return phases[0][-1].x if first is None else getattr(first, x)


def _phases(group: Group, lines: dict[Path, list[Line]], smoothing: int | None) -> list[list[Line]]:
    """For each phase the smoothed lines of all seeds."""
    by_seed = [[_smoothed(line, smoothing) for line in lines[run.folder]] for run in group.runs]
    return [list(phase) for phase in zip(*by_seed, strict=True)]


def _smoothed(line: Line, window: int | None) -> Line:
    values = smooth([point.y for point in line], window)
    return [point._replace(y=y) for point, y in zip(line, values, strict=True)]


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]
