"""Published results in the before/after figure: marks where their protocol ends.

The number before fine-tuning stands at the switch, or at the protocol's updates where nothing was
fine-tuned; the one after it at the protocol's environment steps. Where the runs are shorter the
axis reaches that far; where that would squeeze them, what lies between is drawn together.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.lines import Line2D

from iqlft.analysis.summary import short_count
from iqlft.figures.panels import timeline_of
from iqlft.figures.style import DARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from iqlft.analysis.published import PublishedRow
    from iqlft.analysis.summary import Group
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
        algorithm: of which algorithm, as its source spells it.
        marker: how it is drawn.
        points: by task, places on the panel's axis and numbers.
    """

    label: str
    algorithm: str
    marker: str
    points: dict[str, list[tuple[float, float]]]

    @property
    def look(self) -> dict[str, Any]:
        """A small sign in dark lines."""
        size = 5.0 if self.marker == "D" else 5.5
        return {"linestyle": "none", "marker": self.marker, "markersize": size, "color": "white",
                "markeredgecolor": DARK, "markeredgewidth": 0.9}  # fmt: skip

    def handle(self) -> Line2D:
        """Its line in a legend."""
        return Line2D([], [], label=self.label, **self.look)

    def draw(self, axes: Axes, task: str) -> None:
        """Draws it in one task's panel, whose axis is set."""
        for x, y in self.points[task]:
            axes.plot([x], [y], **self.look, clip_on=False, zorder=4, gid="published")


def place_marks(
    panels: Mapping[str, Sequence[Group]], results: Sequence[Sequence[PublishedRow]]
) -> list[Mark]:
    """The published results that have a place in some panel.

    Args:
        panels: the series of each task.
        results: published rows, one list per result.
    """
    marks: list[Mark] = []
    for result in results:
        points = {task: _points(groups, result) for task, groups in panels.items()}
        if any(points.values()):
            first = result[0]
            phases = first.offline_updates, first.env_steps
            lengths = " + ".join(short_count(length) for length in phases if length)
            label = f"{first.label}, {first.algorithm}, {first.dataset_version}, {lengths}"
            marker = MARKERS[len(marks) % len(MARKERS)]
            marks.append(Mark(label, first.algorithm, marker, points))
    return marks


def _points(groups: Sequence[Group], result: Sequence[PublishedRow]) -> list[tuple[float, float]]:
    """Before and after fine-tuning, each at its place on the panel's axis."""
    # Published AntMaze numbers are success rates: beside another metric they would mislead.
    rows = [row for row in result if row.is_of(groups[0].task) and groups[0].metric == "success"]
    online = timeline_of(groups).online > 0
    points: list[tuple[float, float]] = []
    for row in rows:
        if row.offline_updates:
            points.append((0 if online else row.offline_updates, row.before))
        if online and row.after is not None:
            points.append((row.env_steps, row.after))
    return points


def reaching(timeline: Timeline, marks: Iterable[Mark], task: str) -> Timeline:
    """The axis of a task, as far as its marks; beyond `REACH` drawn together."""
    end = int(max((x for mark in marks for x, _ in mark.points[task]), default=0))
    if end > REACH * timeline.length:
        return dataclasses.replace(timeline, reach=end)
    phase = "online" if timeline.online else "offline"
    return dataclasses.replace(timeline, **{phase: max(getattr(timeline, phase), end)})
