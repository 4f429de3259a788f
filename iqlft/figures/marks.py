"""Published results in the before/after figure: marks where their protocol ends.

The number before fine-tuning stands at the switch, or at the protocol's updates where nothing was
fine-tuned; the one after it at the protocol's environment steps. Where the runs are shorter the
axis reaches that far, or, where that would squeeze them, the mark stands right of the panel above
the words `at 1M`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from iqlft.analysis.summary import short_count
from iqlft.figures.panels import timeline_of
from iqlft.figures.style import DARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from iqlft.analysis.published import PublishedRow
    from iqlft.analysis.summary import Group
    from iqlft.figures.panels import Timeline

MARKERS = ("D", "x", "+", "1")
"""Markers of published results, none of which stands for a series; a fifth begins again.

They are of one place, and often of almost one number: each stays visible on the ones before.
"""
REACH = 4
"""An axis reaches to the end of a protocol that is at most so many times as long as its runs."""
MARGIN = 22
"""Points right of a panel at which results stand that its axis does not reach."""


class Mark(NamedTuple):
    """One published result.

    Attributes:
        label: whose it is, of which algorithm and data, after how much training.
        marker: how it is drawn.
        points: by task, places on the panel's axis and numbers.
    """

    label: str
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

    def draw(self, axes: Axes, task: str, taken: float = 0) -> None:
        """Draws it in one task's panel, whose axis is set.

        Args:
            axes: of the panel.
            task: whose it is.
            taken: points right of the panel that something else takes.
        """
        end = axes.get_xlim()[1]
        beyond = axes.transAxes + ScaledTranslation(
            (MARGIN + taken) / 72, 0, axes.figure.dpi_scale_trans
        )
        for x, y in self.points[task]:
            out = x > end
            place = blended_transform_factory(beyond, axes.transData) if out else axes.transData
            axes.plot([1 if out else x], [y], **self.look, transform=place, clip_on=False,
                      zorder=4, gid="published beyond" if out else "published")  # fmt: skip


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
            lengths = " + ".join(
                short_count(length)
                for phase in ("offline", "online")
                for length in first.phase_length(phase)
            )
            label = f"{first.result}, {first.dataset_version}, {lengths}"
            marks.append(Mark(label, MARKERS[len(marks) % len(MARKERS)], points))
    return marks


def _points(groups: Sequence[Group], result: Sequence[PublishedRow]) -> list[tuple[float, float]]:
    """Before and after fine-tuning, each at its place on the panel's axis."""
    # Published AntMaze numbers are success rates: beside another metric they would mislead.
    rows = [row for row in result if row.task == groups[0].task and groups[0].metric == "success"]
    online = timeline_of(groups).online > 0
    points: list[tuple[float, float]] = []
    for row in rows:
        updates, steps = row.phase_length("offline"), row.phase_length("online")
        points += [(0 if online else length, row.before) for length in updates]
        if online and row.after is not None:
            points += [(length, row.after) for length in steps]
    return points


def reaching(timeline: Timeline, marks: Iterable[Mark], task: str) -> Timeline:
    """The axis of a task, as far as the marks that it can hold without squeezing its runs."""
    phase = "online" if timeline.online else "offline"
    length = getattr(timeline, phase)
    places = (x for mark in marks for x, _ in mark.points[task])
    end = max((int(x) for x in places if x <= REACH * length), default=0)
    return dataclasses.replace(timeline, **{phase: max(length, end)})


def name_margin(axes: Axes, marks: Iterable[Mark], task: str, taken: float = 0) -> None:
    """Says where the marks right of a panel stand: an arrow along its axis, and `at 1M` below.

    Args:
        axes: of the panel, whose axis is set.
        marks: all of the figure.
        task: of the panel.
        taken: points right of the panel that something else takes.
    """
    end = axes.get_xlim()[1]
    beyond = sorted({x for mark in marks for x, _ in mark.points[task] if x > end})
    if not beyond:
        return
    words = "at " + ", ".join(map(short_count, beyond))
    axes.annotate(words, (1, 0), xytext=(MARGIN + taken, -6.5), xycoords="axes fraction",
                  textcoords="offset points", ha="center", va="top",
                  fontsize=axes.xaxis.get_ticklabels()[0].get_fontsize())  # fmt: skip
    axes.annotate("", (1, 0), xytext=(MARGIN + taken + 8, 0), xycoords="axes fraction",
                  textcoords="offset points", annotation_clip=False,
                  arrowprops={"arrowstyle": "<|-", "mutation_scale": 6, "linewidth": 0.7,
                              "linestyle": (0, (2, 1.5)), "color": DARK, "shrinkA": 0,
                              "shrinkB": 0})  # fmt: skip
