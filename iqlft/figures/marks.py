"""Published results in the before/after figure: marks where their protocol ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from iqlft.figures.panels import timeline_of
from iqlft.figures.style import DARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from iqlft.analysis.published import PublishedRow
    from iqlft.analysis.summary import Group

MARKERS = ("D", "X", "p", "*")
"""Markers of published results, none of which stands for a series; a fifth begins again."""
BESIDE = 5.5
"""Points between two results' marks, which are often of one number; half as many to the end."""


class Mark(NamedTuple):
    """One published result.

    Attributes:
        label: whose it is, of which algorithm and data.
        marker: how it is drawn.
        shift: by how many points to the left of its place.
        points: by task, places on the panel's axis and numbers.
    """

    label: str
    marker: str
    shift: float
    points: dict[str, list[tuple[float, float]]]

    @property
    def look(self) -> dict[str, Any]:
        """Hollow, so that what lies below stays visible."""
        return {"linestyle": "none", "marker": self.marker, "markersize": 4.5, "color": "none",
                "markeredgecolor": DARK, "markeredgewidth": 0.8}  # fmt: skip

    def handle(self) -> Line2D:
        """Its line in a legend."""
        return Line2D([], [], label=self.label, **self.look)

    def draw(self, axes: Axes, task: str) -> None:
        """Draws it in one task's panel."""
        beside = ScaledTranslation(-self.shift / 72, 0, axes.figure.dpi_scale_trans)
        for point in self.points[task]:
            axes.plot(*point, **self.look, transform=axes.transData + beside, clip_on=False,
                      zorder=4, gid="published")  # fmt: skip


def place_marks(
    panels: Mapping[str, Sequence[Group]], results: Sequence[Sequence[PublishedRow]]
) -> list[Mark]:
    """The published results that have a place in some panel.

    Args:
        panels: the series of each task.
        results: published rows, one list per result.
    """
    places = []
    for result in results:
        points = {task: _points(groups, result) for task, groups in panels.items()}
        if any(points.values()):
            places.append((f"{result[0].result}, {result[0].dataset_version}", points))
    # A number belongs to the end of a phase, and so stands left of it, where the phase is.
    return [
        Mark(label, MARKERS[index % len(MARKERS)], (len(places) - index - 0.5) * BESIDE, points)
        for index, (label, points) in enumerate(places)
    ]


def _points(groups: Sequence[Group], result: Sequence[PublishedRow]) -> list[tuple[float, float]]:
    """Before and after fine-tuning, where the runs are as long as the result's protocol.

    Beside runs that were pretrained for another time neither could be compared; an online phase
    that is longer passes the place.
    """
    # Published AntMaze numbers are success rates: beside another metric they would mislead.
    rows = [row for row in result if row.task == groups[0].task and groups[0].metric == "success"]
    timeline = timeline_of(groups)
    runs = [run for group in groups for run in group.runs]
    tuned = {run.offline[-1].updates for run in runs if run.offline and run.online}
    points: list[tuple[float, float]] = []
    for row in rows:
        if {timeline.offline, *tuned} != set(row.phase_length("offline")):
            continue
        points.append((0 if timeline.online else timeline.offline, row.before))
        steps = row.phase_length("online")
        if row.after is not None and steps and steps[0] <= timeline.online:
            points.append((steps[0], row.after))
    return points
