"""The legend of the before/after figure: what its lines, bands and marks are, and of which data."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from iqlft.analysis.names import series_name
from iqlft.analysis.summary import count_range
from iqlft.figures.panels import ALONE, BANDED
from iqlft.figures.style import DARK, GREY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    from iqlft.analysis.summary import Group, Series, Summary
    from iqlft.figures.marks import Mark
    from iqlft.figures.panels import Look


class Legend(NamedTuple):
    """What a legend holds.

    Attributes:
        title: the data, in lines that fit the figure.
        handles: lines, bands and marks with their names.
        columns: in how many columns they stand.
    """

    title: str
    handles: list[Artist]
    columns: int

    @property
    def num_lines(self) -> int:
        """Lines of text that it takes."""
        return self.title.count("\n") + 1 - (-len(self.handles) // self.columns)

    def draw(self, figure: Figure) -> None:
        """Draws it below everything else."""
        figure.legend(handles=self.handles, loc="outside lower center", frameon=False,
                      ncol=self.columns, handlelength=1.8, title=self.title,
                      title_fontsize="small", alignment="center")  # fmt: skip


def legend_of(
    groups: Sequence[Group],
    looks: Mapping[Series, Look],
    marks: Sequence[Mark],
    *,
    means: Sequence[Summary],
    smoothing: int | None,
    width: float,
) -> Legend:
    """The legend of some groups.

    Args:
        groups: what is drawn.
        looks: of every series.
        marks: published results that have a place.
        means: means over tasks that stand in the dumbbell.
        smoothing: evaluations that were averaged over; None for none.
        width: of the figure, in inches.
    """
    handles = [*_lines(groups, looks, smoothing)]
    if not smoothing:
        handles += _bands(groups, looks)
    if means:
        paired = all(min(mean.num_seeds) > 1 for mean in means)
        kind = "bootstrap paired by seed" if paired else "combined from theirs"
        handles.append(Line2D([], [], linestyle="none", label=f"mean of tasks: {kind}"))
    handles += [mark.handle() for mark in marks]
    labels = dict.fromkeys(group.label for group in groups)
    origins = dict.fromkeys(group.series.origin for group in groups)
    data = "data: " + "; ".join(labels if len(labels) <= len(origins) else origins)
    title = textwrap.fill(data, int(width * 15), break_long_words=False, break_on_hyphens=False)
    return Legend(title, handles, 1 if width <= 5 else 3 if len(handles) == 3 else 2)


def _lines(
    groups: Sequence[Group], looks: Mapping[Series, Look], smoothing: int | None
) -> list[Artist]:
    """The mean of every series, and the seeds behind it."""
    handles: list[Artist] = []
    for one, look in looks.items():
        sizes = sorted({len(group.runs) for group in groups if group.series == one})
        label = "1 seed" if sizes == [1] else f"mean ({count_range(sizes)} seeds)"
        if smoothing:
            label += f", smoothed over {smoothing} evaluations"
        if len(looks) > 1:
            label = f"{series_name(one, [*looks])}: {label}"
        handles.append(Line2D([], [], color=look.colour, linestyle=look.linestyle, linewidth=1.6,
                              marker="" if look == ALONE else look.marker, markersize=2.6,
                              label=label))  # fmt: skip
    if any(len(group.runs) > 1 for group in groups):
        colour, label = (GREY, "each seed") if len(looks) == 1 else (DARK, "thin: each seed")
        handles.append(Line2D([], [], color=colour, linewidth=0.8, label=label))
    return handles


def _bands(groups: Sequence[Group], looks: Mapping[Series, Look]) -> list[Artist]:
    """Intervals, as what they are: of seeds, or of one seed's episodes."""
    crowded = min(Counter(group.task for group in groups).values()) > BANDED
    if crowded and not any(group.tuned for group in groups):
        return []  # Neither bands nor a dumbbell.
    colour = ALONE.colour if len(looks) == 1 else GREY
    single = [group for group in groups if len(group.runs) == 1]
    handles: list[Artist] = []
    if len(single) < len(groups):
        handles.append(_band(colour, "95 % Student-t interval over seeds"))
    if any(group.metric == "success" for group in single):
        rows = (row for group in single for row in group.runs[0].rows)
        episodes = count_range(sorted({row.episodes for row in rows}))
        where = "one seed" if len(single) == len(groups) else "where one seed"
        if any(group.tuned for group in single):
            where += "; change: Newcombe"
        handles.append(_band(colour, f"95 % Wilson interval of {episodes} episodes ({where})"))
    return handles


def _band(colour: str, label: str) -> Patch:
    return Patch(facecolor=colour, alpha=0.25, linewidth=0, label=label)
