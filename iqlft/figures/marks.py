"""Published results in the before/after figure: marks where their protocol ends.

The number before fine-tuning stands at the switch, or at the protocol's updates in a panel without
an online phase; the number after it stands at the protocol's environment steps. Where the runs are
shorter, the axis extends that far; where that would squeeze the runs, it is compressed beyond them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.lines import Line2D

from iqlft.analysis.published import comparable_rows, published_results
from iqlft.analysis.summary import short_count
from iqlft.figures.panels import timeline_of
from iqlft.figures.style import DARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from iqlft.analysis.published import Marked, PublishedRow
    from iqlft.figures.facets import Panel
    from iqlft.figures.panels import Timeline

MARKERS = ("D", "x", "+", "1", "2", "3", "4", "*", "P")
"""Markers of published results; a tenth result has the first one again.

Results share places, and often almost a number: each marker stays visible on the previous ones.
"""
REACH = 4
"""An axis extends to a protocol's end at its own scale up to this many times the runs' length."""


class Mark(NamedTuple):
    """One published result.

    Attributes:
        label: source, algorithm, data and length of training.
        marker: how it is drawn.
        points: for each panel, x and y of its numbers.
    """

    label: str
    marker: str
    points: tuple[list[tuple[float, float]], ...]

    @property
    def look(self) -> dict[str, Any]:
        """Matplotlib's settings of the marker."""
        size = 5.0 if self.marker == "D" else 5.5
        return {"linestyle": "none", "marker": self.marker, "markersize": size, "color": "white",
                "markeredgecolor": DARK, "markeredgewidth": 0.9}  # fmt: skip

    def handle(self) -> Line2D:
        """Its line in a legend."""
        return Line2D([], [], label=self.label, **self.look)

    def draw(self, axes: Axes, panel: int) -> None:
        """Draws it in one panel, whose axis is set."""
        for x, y in self.points[panel]:
            axes.plot([x], [y], **self.look, clip_on=False, zorder=4, gid="published")


def place_marks(panels: Sequence[Panel], published: Marked) -> list[Mark]:
    """The published results that are marked in some panel.

    Those of a panel are comparable with one of its groups (`comparable_rows`).

    Args:
        panels: of the figure.
        published: which results.
    """
    names = {group.series.algorithm for panel in panels for group in panel.groups}
    results = [
        result
        for fine_tuned in (True, False)
        for result in published_results(published, names, fine_tuned=fine_tuned)
    ]
    comparable = [_comparable(panel) for panel in panels]
    marks: list[Mark] = []
    for result in results:
        points = tuple(
            _points(panel, [row for row in result if row in rows])
            for panel, rows in zip(panels, comparable, strict=True)
        )
        if any(points):
            first = result[0]
            label = f"{first.label}, {first.algorithm}, {first.dataset_version}, {_lengths(first)}"
            marks.append(Mark(label, MARKERS[len(marks) % len(MARKERS)], points))
    return marks


def _lengths(row: PublishedRow) -> str:
    """`1M + 1M` for updates and environment steps, or `1M updates` or `1M steps` for one alone."""
    updates, steps = map(short_count, (row.offline_updates, row.env_steps))
    if row.offline_updates and row.env_steps:
        return f"{updates} + {steps}"
    return f"{updates} updates" if row.offline_updates else f"{steps} steps"


def _comparable(panel: Panel) -> set[PublishedRow]:
    """Published rows comparable with a panel's groups."""
    # Published AntMaze numbers are success rates: beside another metric they would mislead.
    groups = [group for group in panel.groups if group.metric == "success"]
    tuned = {group.series.algorithm for group in groups if group.tuned}
    names = {group.series.algorithm for group in groups}
    return {row for name in names for row in comparable_rows(panel.task, name, tuned=name in tuned)}


def _points(panel: Panel, rows: Iterable[PublishedRow]) -> list[tuple[float, float]]:
    """Places on the panel's axis and numbers, before and after fine-tuning."""
    online = timeline_of(panel.all_groups).online > 0
    points: list[tuple[float, float]] = []
    for row in rows:
        if row.offline_updates:
            points.append((0 if online else row.offline_updates, row.before))
        if online and row.after is not None:
            points.append((row.env_steps, row.after))
    return points


def reaching(timeline: Timeline, marks: Iterable[Mark], panel: int) -> Timeline:
    """The axis of a panel, extended to its marks; compressed if they are beyond `REACH`."""
    end = int(max((x for mark in marks for x, _ in mark.points[panel]), default=0))
    if end > REACH * timeline.length:
        return dataclasses.replace(timeline, reach=end)
    phase = "online" if timeline.online else "offline"
    return dataclasses.replace(timeline, **{phase: max(getattr(timeline, phase), end)})
