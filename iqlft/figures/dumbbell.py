"""The dumbbell panel: before -> after of each task, its change and interval beside it."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from matplotlib.patches import FancyArrowPatch
from matplotlib.transforms import ScaledTranslation

from iqlft.analysis.names import without_after
from iqlft.analysis.quantities import estimate_text, with_minus
from iqlft.figures.style import BLUE, DARK, ORANGE, label
from iqlft.runs.scores import METRIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from iqlft.analysis.statistics import Estimate
    from iqlft.analysis.summary import Summary


_SHORT = 3.5
"""Distance of an arrow's ends from the centres of the markers, in points."""
_HEAD = 2.8
"""Length of an arrow's head, in points."""


def draw_dumbbell(axes: Axes, rows: Sequence[tuple[str, Summary]], *, narrow: bool) -> None:
    """Draws before -> after of each row, with its change and interval beside it.

    Args:
        axes: empty axes.
        rows: names and summaries of one metric, from the top down.
        narrow: whether there is room for only a few ticks.
    """
    metric = rows[0][1].metric
    for y, (_, summary) in zip(itertools.count(0, -1), rows, strict=False):
        _draw_row(axes, y, summary)
    axes.annotate("change [95 % CI]", (1, 1), xytext=(8, 2), xycoords="axes fraction",
                  textcoords="offset points", color="0.4", fontsize="small",
                  va="bottom")  # fmt: skip
    axes.set_yticks(range(0, -len(rows), -1), [label(name) for name, _ in rows])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    if metric == "success":
        axes.set_xlim(0, 100)
        axes.set_xticks(range(0, 101, 50 if narrow else 25))
    axes.set_xlabel(METRIC_NAMES[metric])
    axes.grid(visible=True, axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2, frameon=False,
                borderaxespad=1.6, handletextpad=0.1, columnspacing=1)  # fmt: skip


def _draw_row(axes: Axes, y: int, summary: Summary) -> None:
    """Draws two markers, their intervals (before's above after's), an arrow, and the change."""
    for estimate, colour, marker, name, points in (
        (summary.before, ORANGE, "o", "before", 1.8),
        (summary.after, BLUE, "s", "after", -1.8),
    ):
        if estimate is None:
            continue
        if estimate.has_interval:
            inches = axes.figure.dpi_scale_trans
            beside = axes.transData + ScaledTranslation(0, points / 72, inches)
            axes.plot([estimate.lower, estimate.upper], [y, y], color=colour, alpha=0.4,
                      linewidth=3, solid_capstyle="butt", clip_on=False, zorder=1.5,
                      transform=beside, gid=f"{name} interval")  # fmt: skip
            # The shift takes the line out of data coordinates, so the limits do not include it.
            axes.update_datalim([(estimate.lower, y), (estimate.upper, y)])
        named = name in axes.get_legend_handles_labels()[1]
        axes.plot([estimate.value], [y], color=colour, marker=marker, markersize=5.5,
                  markeredgecolor="white", markeredgewidth=0.6, linestyle="none", clip_on=False,
                  zorder=4, gid=name, label=None if named else name)  # fmt: skip
    if (
        summary.before
        and summary.after
        and math.isfinite(summary.after.value - summary.before.value)
    ):
        axes.add_patch(_Arrow(y, summary.before.value, summary.after.value))
    words = change_text(summary.change, fine_tuned=summary.fine_tuned)
    axes.annotate(words, (1, y), xytext=(8, 0), va="center",
                  xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  fontsize="small", annotation_clip=False)  # fmt: skip


class _Arrow(FancyArrowPatch):
    """The arrow of a row from before to after, short of both markers; none where they touch."""

    def __init__(self, y: int, before: float, after: float) -> None:
        super().__init__((before, y), (after, y), arrowstyle="-|>", mutation_scale=7,
                         shrinkA=_SHORT, shrinkB=_SHORT, color=DARK, linewidth=0.9,
                         zorder=3)  # fmt: skip
        self._ends = ((before, y), (after, y))

    def get_visible(self) -> bool:
        """Whether its head fits between the markers; the axes must have their final scale."""
        if self.axes is None or self.figure is None:
            return False
        (start, _), (end, _) = self.axes.transData.transform(self._ends)
        points = abs(end - start) * 72 / self.figure.dpi
        return bool(super().get_visible() and points > 2 * _SHORT + _HEAD)


def change_text(change: Estimate | None, *, fine_tuned: bool = False) -> str:
    """`+23 [20, 26]`, with a true minus sign; words where there is no change yet.

    Args:
        change: of a row; None for none yet.
        fine_tuned: whether fine-tuning has begun, which matters only without a change.
    """
    if change is None:
        return without_after(fine_tuned=fine_tuned)
    if not math.isfinite(change.value):
        return "no number"
    ends = (change.lower, change.upper) if change.has_interval else ()
    size = max(map(abs, (change.value, *ends)))
    digits = 0 if size >= 10 or not size else 1
    return with_minus(estimate_text(change, digits=digits, bound_digits=digits, signed=True))
