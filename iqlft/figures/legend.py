"""The legend of the before/after figure: its lines, bands and marks, and the data behind them."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from iqlft.analysis.names import series_name
from iqlft.analysis.summary import count_range
from iqlft.figures.panels import ALONE
from iqlft.figures.style import FAINT, GREY, LETTERS, WIDE, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    from iqlft.analysis.summary import Group, Series, Summary
    from iqlft.figures.marks import Mark
    from iqlft.figures.panels import Look
    from iqlft.runs.scores import Metric


_SIGN = 6
"""Width of an entry's symbol, in letters."""


class Legend(NamedTuple):
    """What a legend holds.

    Attributes:
        title: the data, in lines that fit the figure.
        handles: lines, bands and marks with their names.
        columns: number of columns of handles.
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
    named: bool,
    banded: bool,
    compared: Sequence[Summary],
    means: Sequence[Summary],
    iqm: bool = False,
    smoothing: int | None,
) -> Legend:
    """The legend of some groups.

    Args:
        groups: what is drawn.
        looks: of every series.
        marks: published results that are drawn.
        named: whether lines carry the names of their series.
        banded: whether means have the band of their interval.
        compared: the tasks' rows of the dumbbell; empty without one.
        means: means over tasks in the dumbbell.
        iqm: whether the dumbbell has interquartile means too.
        smoothing: number of evaluations averaged over; None for none.
    """
    handles = _lines(groups, looks, smoothing, named=named)
    handles += _intervals(groups, compared, looks, banded=banded)
    if means:
        paired = all(min(mean.num_seeds) > 1 for mean in means)
        kind = "bootstrap paired by seed" if paired else "combined from theirs"
        handles.append(_words(f"mean of tasks: {kind}"))
    if iqm:
        handles.append(_words("IQM, interquartile mean of all runs: stratified bootstrap"))
    handles += [mark.handle() for mark in marks]
    labels = dict.fromkeys(group.label for group in groups)
    origins = dict.fromkeys(group.series.origin for group in groups)
    data = "data: " + "; ".join(labels if len(labels) <= len(origins) else origins)
    return Legend(wrapped(data, WIDE * LETTERS), handles, _columns(handles))


def _columns(handles: Sequence[Artist]) -> int:
    """The number of columns in which the entries fit into the figure."""
    lengths = [len(str(each.get_label())) for each in handles]
    for columns in (3, 2) if len(handles) == 3 else (2,):
        rows = -(-len(handles) // columns)
        longest = sum(max(lengths[i : i + rows]) for i in range(0, len(handles), rows))
        if longest + columns * _SIGN <= WIDE * LETTERS:
            return columns
    return 1


def _lines(
    groups: Sequence[Group],
    looks: Mapping[Series, Look],
    smoothing: int | None,
    *,
    named: bool,
) -> list[Artist]:
    """Entries for the mean of every series, its seeds, and other series in the background.

    Lines of several colours have no common symbol, so what holds for all of them is only text.
    """
    several = any(len(group.runs) > 1 for group in groups)
    tail = f", smoothed over {smoothing} evaluations" if smoothing else ""
    faceted = len(looks) > 1 and set(looks.values()) == {ALONE}
    if len(looks) == 1 or faceted:
        handles: list[Artist] = [_line(ALONE, _seeds(groups) + tail)]
        if several:
            colour = ALONE.colour if faceted else GREY
            handles.append(Line2D([], [], color=colour, linewidth=0.8, label="each seed"))
        if faceted and any(one.task == other.task for one, other in combinations(groups, 2)):
            handles.append(Line2D([], [], color=FAINT, linewidth=0.8, label="the others"))
        return handles
    if named:
        return [_words(("bold: " if several else "each line: ") + _seeds(groups) + tail
                       + "; thin: each seed" * several)]  # fmt: skip
    handles = []
    for one, look in looks.items():
        label = _seeds([group for group in groups if group.series == one])
        handles.append(_line(look, f"{series_name(one, [*looks])}: {label}{tail}"))
    return handles + [_words("thin: each seed")] * several


def _seeds(groups: Sequence[Group]) -> str:
    sizes = sorted({len(group.runs) for group in groups})
    return "1 seed" if sizes == [1] else f"mean ({count_range(sizes)} seeds)"


def _line(look: Look, label: str) -> Line2D:
    return Line2D([], [], color=look.colour, linestyle=look.linestyle, linewidth=1.6,
                  marker="" if look == ALONE else look.marker, markersize=2.6,
                  label=label)  # fmt: skip


def _words(label: str) -> Line2D:
    """An entry without a symbol."""
    return Line2D([], [], linestyle="none", label=label)


class _Shown(NamedTuple):
    """Something with an interval: a group's band, or a row of the dumbbell."""

    metric: Metric
    num_seeds: int
    episodes: set[int]
    changed: bool


def _shown(groups: Sequence[Group], compared: Sequence[Summary], *, banded: bool) -> list[_Shown]:
    """All that has intervals; the dumbbell may have fewer seeds and evaluations than the bands."""
    bands = [
        _Shown(each.metric, len(each.runs), {row.episodes for run in each.runs for row in run.rows},
               changed=False)
        for each in groups if banded
    ]  # fmt: skip
    return bands + [
        _Shown(each.metric, each.num_seeds[0], {*each.episodes}, each.change is not None)
        for each in compared
    ]


def _intervals(
    groups: Sequence[Group],
    compared: Sequence[Summary],
    looks: Mapping[Series, Look],
    *,
    banded: bool,
) -> list[Artist]:
    """Entries that say what intervals are of: seeds, or the episodes of one seed.

    Their symbol is a band if all bands look the same; otherwise they are only text.
    """
    shown = _shown(groups, compared, banded=banded)
    several = [each for each in shown if each.num_seeds > 1]
    single = [each for each in shown if each.num_seeds == 1 and each.metric == "success"]
    labels = []
    if several:
        rates = any(each.metric == "success" for each in several)
        least = ", at least Wilson's" if rates else ""
        labels.append(f"95 % Student-t interval over seeds{least}")
    if single:
        episodes = count_range(sorted(set.union(*(each.episodes for each in single))))
        where = "where one seed" if len(single) < len(shown) else "one seed"
        if any(each.changed for each in single):
            where += "; change: Newcombe"
        labels.append(f"95 % Wilson interval of {episodes} episodes ({where})")
    if banded and len(looks) == 1:
        return [
            Patch(facecolor=ALONE.colour, alpha=0.25, linewidth=0, label=label) for label in labels
        ]
    return [_words(f"{'bands' if banded else 'pale bars'}: {label}") for label in labels]
