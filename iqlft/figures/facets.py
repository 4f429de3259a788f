"""How the curves of the before/after figure are distributed among panels, and named in them.

Few lines can be told apart: up to `TOLD_APART` series share their task's panel, each named where
its line ends. With more, each series has a panel of its own, with the others in the background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matplotlib.patheffects import withStroke

from iqlft.analysis.names import series_name, short_task
from iqlft.figures.panels import ALONE, LOOKS, phase_points, shared_points

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from iqlft.analysis.summary import Group, Series
    from iqlft.figures.panels import Look, Timeline

TOLD_APART = len(LOOKS)
"""Most series that share a panel."""
MARGIN = 0.9
"""A line that ends beyond this share of the axis is named to the right of the panel."""
LETTER = 4.5
"""Approximate width of a letter of a name, in points."""


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes:
        task: the task whose scores it shows.
        title: above it.
        groups: the task's series that have a look of their own.
        looks: one per group.
        behind: the task's other series, thin and grey.
    """

    task: str
    title: str
    groups: tuple[Group, ...]
    looks: tuple[Look, ...]
    behind: tuple[Group, ...] = ()

    @property
    def all_groups(self) -> tuple[Group, ...]:
        """All that is drawn."""
        return self.groups + self.behind


def looks_of(series: Sequence[Series]) -> dict[Series, Look]:
    """How each series is drawn: as `ALONE` where it has a panel of its own."""
    alone = len(series) == 1 or len(series) > TOLD_APART
    return dict.fromkeys(series, ALONE) if alone else dict(zip(series, LOOKS, strict=False))


def panels_of(groups: Sequence[Group]) -> list[Panel]:
    """The panels of a figure: one per task, or one per task and series where those are many.

    Args:
        groups: task by task.
    """
    tasks = list(dict.fromkeys(group.task for group in groups))
    series = list(dict.fromkeys(group.series for group in groups))
    looks = looks_of(series)
    panels = []
    for task in tasks:
        mine = tuple(group for group in groups if group.task == task)
        title = _title(mine, groups, tasks, roomy=len(series) <= TOLD_APART)
        whole = Panel(task, title, mine, tuple(looks[group.series] for group in mine))
        if len(series) <= TOLD_APART:
            panels.append(whole)
            continue
        panels += [
            replace(
                whole,
                title=", ".join([title] * (len(tasks) > 1) + [series_name(one.series, series)]),
                groups=(one,),
                looks=(ALONE,),
                behind=tuple(other for other in mine if other is not one),
            )
            for one in mine
        ]
    return panels


def _title(
    mine: Sequence[Group], groups: Sequence[Group], tasks: Sequence[str], *, roomy: bool
) -> str:
    """The task's name, with `(1 seed)` where other groups have several."""
    task = mine[0].task
    name = task if roomy and len(tasks) <= 2 else short_task(task, tasks)
    sizes = {len(group.runs) for group in groups}
    alone = len(sizes) > 1 and all(len(group.runs) == 1 for group in mine)
    return f"{name} (1 seed)" if alone else name


def is_named(index: int, metrics: Sequence[str], columns: int) -> bool:
    """Whether a panel's scale is named: the first of a row, or after one of another metric.

    Args:
        index: of the panel.
        metrics: of all panels.
        columns: of the figure.
    """
    return index % columns == 0 or metrics[index] != metrics[index - 1]


def named_directly(series: Sequence[Series], panel_width: float) -> bool:
    """Whether names stand at the ends of lines: where there are several, and room for them.

    Args:
        series: of the whole figure.
        panel_width: in inches.
    """
    longest = max(len(series_name(one, series)) for one in series)
    return 1 < len(series) <= TOLD_APART and LETTER / 72 * longest < 0.35 * panel_width


def name_lines(axes: Axes, panel: Panel, names: Mapping[Series, str], timeline: Timeline) -> None:
    """Writes each series' name where its line ends, the names moved apart where they would touch.

    Args:
        axes: with curves and scales.
        panel: what they show.
        names: of every series, as they are written.
        timeline: the axis.
    """
    ends = []
    for group, look in zip(panel.groups, panel.looks, strict=True):
        for phase in ("online", "offline"):
            lines = [phase_points(run, phase, timeline) for run in group.runs]
            if points := shared_points(lines, group.metric):
                ends.append((*points[-1], names[group.series], look.colour))
                break
    write_names(axes, ends, timeline.length)


def write_names(axes: Axes, ends: Sequence[tuple[float, float, str, str]], edge: float) -> None:
    """Writes names where lines end, moved apart where they would touch.

    Args:
        axes: with curves and scales.
        ends: x and y of each line's end, its name and its colour.
        edge: where the longest line ends; lines that end near it are named right of the panel.
    """
    low, high = axes.get_ylim()
    right = MARGIN * edge
    heights = apart([y for _, y, *_ in ends], 0.11 * (high - low), low, high)
    for (x, _, name, colour), height in zip(ends, heights, strict=True):
        inside = x < right
        axes.annotate(
            name,
            (x, height) if inside else (1, height),
            xycoords="data" if inside else axes.get_yaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize="small",
            annotation_clip=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=5,
            gid="name",
        )


def apart(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The values, moved down from `high` and then up from `low` until they are a gap apart.

    Args:
        values: in any order.
        gap: least distance between two.
        low: lower end; there must be room for all.
        high: upper end.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    moved = [*values]
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    floor = low
    for i in order:
        moved[i] = max(moved[i], floor)
        floor = moved[i] + gap
    return moved
