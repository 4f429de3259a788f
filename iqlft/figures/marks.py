"""Published results in the before/after figure: marks where their protocol ends.

The number before fine-tuning stands at the switch, or at the protocol's updates where nothing was
fine-tuned; the one after it at the protocol's environment steps. Where the runs are shorter the
axis reaches that far; where that would squeeze them, what lies between is drawn together.
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
"""Markers of published results, none of which stands for a series; a tenth begins again.

They are of one place, and often of almost one number: each stays visible on the ones before.
"""
REACH = 4
"""An axis reaches evenly to the end of a protocol at most so many times as long as its runs."""


class Mark(NamedTuple):
    """One published result.

    Attributes:
        label: whose it is, of which algorithm and data, after how much training.
        marker: how it is drawn.
        points: for each panel, places on its axis and numbers.
    """

    label: str
    marker: str
    points: tuple[list[tuple[float, float]], ...]

    @property
    def look(self) -> dict[str, Any]:
        """A small sign in dark lines."""
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
    """The published results that have a place in some panel.

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
    """`1M + 1M`; or what there is of them, by its name."""
    updates, steps = map(short_count, (row.offline_updates, row.env_steps))
    if row.offline_updates and row.env_steps:
        return f"{updates} + {steps}"
    return f"{updates} updates" if row.offline_updates else f"{steps} steps"


def _comparable(panel: Panel) -> set[PublishedRow]:
    """Published rows that stand beside a panel's groups."""
    # Published AntMaze numbers are success rates: beside another metric they would mislead.
    groups = [group for group in panel.groups if group.metric == "success"]
    tuned = {group.series.algorithm for group in groups if group.tuned}
    names = {group.series.algorithm for group in groups}
    return {row for name in names for row in comparable_rows(panel.task, name, tuned=name in tuned)}


def _points(panel: Panel, rows: Iterable[PublishedRow]) -> list[tuple[float, float]]:
    """Before and after fine-tuning, each at its place on the panel's axis."""
    online = timeline_of(panel.all_groups).online > 0
    points: list[tuple[float, float]] = []
    for row in rows:
        if row.offline_updates:
            points.append((0 if online else row.offline_updates, row.before))
        if online and row.after is not None:
            points.append((row.env_steps, row.after))
    return points


def reaching(timeline: Timeline, marks: Iterable[Mark], panel: int) -> Timeline:
    """The axis of a panel, as far as its marks; beyond `REACH` drawn together."""
    end = int(max((x for mark in marks for x, _ in mark.points[panel]), default=0))
    if end > REACH * timeline.length:
        return dataclasses.replace(timeline, reach=end)
    phase = "online" if timeline.online else "offline"
    return dataclasses.replace(timeline, **{phase: max(getattr(timeline, phase), end)})
