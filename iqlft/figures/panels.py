"""A panel of the before/after figure: one task's curves, on axes that the caller owns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from iqlft.analysis.quantities import with_minus
from iqlft.analysis.summary import estimate_scores, short_count
from iqlft.figures.style import (
    BLUE,
    DARK,
    FAINT,
    GREEN,
    GREY,
    PURPLE,
    SHADE,
    VERMILION,
)
from iqlft.runs.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from iqlft.analysis.summary import Group
    from iqlft.runs.curves import RunCurve
    from iqlft.runs.scores import Metric, Score


class Look(NamedTuple):
    """How a series is drawn; looks differ in more than colour."""

    colour: str
    linestyle: Literal["-", "--", "-.", ":"]
    marker: str


ALONE = Look(BLUE, "-", "o")
"""How the only series is drawn."""
LOOKS = (
    Look(VERMILION, "-", "o"),
    Look(GREEN, "--", "s"),
    Look(PURPLE, "-.", "^"),
    Look("black", ":", "v"),
)
"""How several series of one panel are drawn; they leave blue and orange to before and after."""
BANDED = 2
"""Bands of more series than this would cover each other and the lines."""
BEYOND = 0.2
"""Width of the compressed stretch at an axis's end, as a share of all phases' before it."""


class Point(NamedTuple):
    """One evaluation of one run at its place on the axis."""

    x: float
    row: Score


@dataclass(frozen=True)
class Timeline:
    """The axis of a panel: offline updates left of 0, environment steps right of it.

    Attributes:
        offline: most offline updates of any run; 0 without an offline phase.
        online: most environment steps of any run; 0 without an online phase.
        reach: where the last phase's axis ends, if beyond the runs' end; the stretch between is
            compressed. Otherwise, as with 0, the axis ends with the runs.
    """

    offline: int
    online: int
    reach: int = 0

    @property
    def both(self) -> bool:
        """Whether there is a switch from offline to online."""
        return self.offline > 0 and self.online > 0

    @property
    def length(self) -> int:
        """Length of the last phase, up to the runs' end; at least 1."""
        return max(self.online or self.offline, 1)

    @property
    def broken(self) -> bool:
        """Whether the axis continues beyond the runs' end, compressed."""
        return self.reach > self.length

    @property
    def beyond(self) -> float:
        """Width of the compressed stretch, where each phase has width 1."""
        return BEYOND * (1 + self.both) if self.broken else 0.0

    def forward(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps updates and steps to the panel: each phase has width 1, whatever its length."""
        x = np.asarray(x, np.float64)
        right = x / self.length
        if self.broken:
            beyond = 1 + self.beyond * (x - self.length) / (self.reach - self.length)
            right = np.where(x > self.length, beyond, right)
        return np.where(x < 0, x / max(self.offline, 1), right)

    def inverse(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps the panel back to updates and steps."""
        u = np.asarray(u, np.float64)
        right = u * self.length
        if self.broken:
            beyond = self.length + (u - 1) / self.beyond * (self.reach - self.length)
            right = np.where(u > 1, beyond, right)
        return np.where(u < 0, u * max(self.offline, 1), right)


def timeline_of(groups: Iterable[Group]) -> Timeline:
    """The axis that holds all runs of one task."""
    runs = [run for group in groups for run in group.runs]
    offline = max((run.offline_updates for run in runs if run.offline), default=0)
    return Timeline(offline, max(run.rows[-1].env_steps for run in runs))


def phase_points(run: RunCurve, phase: str, timeline: Timeline) -> list[Point]:
    """A run's evaluations of one phase.

    Offline, x counts back from the run's switch, or from the longest run's if this one has not
    reached it; in a panel without an online side it counts up from 0. Online it is the environment
    steps, starting with the last offline evaluation where none was made at 0 steps.
    """
    if not timeline.online:
        return [Point(row.updates, row) for row in run.offline] if phase == "offline" else []
    if phase == "offline":
        switch = run.offline_updates if run.offline and run.online else timeline.offline
        return [Point(row.updates - switch, row) for row in run.offline]
    online = run.online
    if run.offline and online and run.at_switch is None:
        online = (run.offline[-1], *online)
    return [Point(row.env_steps, row) for row in online]


def checked_smoothing(window: int | None) -> int | None:
    """The number of values to average over; None where that is one, which changes nothing.

    Raises:
        RunError: the number is even or below 1.
    """
    if window is not None and (window < 1 or window % 2 == 0):
        raise RunError(f"Smoothing averages over an odd number of evaluations, not {window}.")
    return None if window == 1 else window


def smooth(values: Sequence[float], window: int | None) -> list[float]:
    """Centred running mean over `window` values, narrower at the ends; unchanged for None."""
    half = (window or 1) // 2
    ends = [min(half, i, len(values) - 1 - i) for i in range(len(values))]
    return [float(np.mean(values[i - k : i + k + 1])) for i, k in enumerate(ends)]


def shared_points(
    lines: Sequence[Sequence[Point]], metric: Metric, window: int | None = None
) -> list[tuple[float, float]]:
    """The mean over seeds, only where every seed was evaluated: nothing is interpolated.

    Args:
        lines: of one phase, one per seed.
        metric: what to read.
        window: see `smooth`.
    """
    values = [
        dict(zip([p.x for p in line], smooth([p.row.score(metric) for p in line], window),
                 strict=True))
        for line in lines
    ]  # fmt: skip
    grid = sorted(set.intersection(*map(set, values)))
    return [(x, float(np.mean([each[x] for each in values]))) for x in grid]


def draw_curves(
    axes: Axes,
    groups: Sequence[Group],
    looks: Sequence[Look],
    timeline: Timeline,
    *,
    behind: Sequence[Group] = (),
    banded: bool,
    smoothing: int | None,
    narrow: bool,
) -> None:
    """Draws one task: thin line per seed, bold mean, band, dashed line at the switch.

    Args:
        axes: empty axes.
        groups: the task's series.
        looks: one per group.
        timeline: the axis, at least as long as all runs.
        behind: other series of the task, of which only the means are drawn, thin and grey.
        banded: whether means have the band of their interval.
        smoothing: see `smooth`; per seed and phase, before the mean.
        narrow: whether there is room for only a few short words.
    """
    metric = groups[0].metric
    for group in behind:
        for phase in ("offline", "online"):
            lines = [phase_points(run, phase, timeline) for run in group.runs]
            points = shared_points(lines, metric, smoothing)
            axes.plot([x for x, _ in points], [y for _, y in points], color=FAINT, linewidth=0.7,
                      marker=_dot(points), markersize=2.6, clip_on=False, zorder=1.8,
                      gid="behind")  # fmt: skip
    for group, look in zip(groups, looks, strict=True):
        phases = [
            [phase_points(run, phase, timeline) for run in group.runs]
            for phase in ("offline", "online")
        ]
        # Markers show the evaluations where those are few, and distinguish several series.
        few = all(len(line) <= 12 for lines in phases for line in lines)
        for lines in phases:
            thin = GREY if look == ALONE and not behind else look.colour
            _draw_phase(axes, lines, metric, look, smoothing, thin=thin, few=few, banded=banded)
    if metric == "success":
        axes.set_ylim(0, 100)
        axes.set_yticks(range(0, 101, 25))
    axes.grid(visible=True, color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    format_axis(axes, timeline, narrow=narrow)


def _dot(values: Sequence[object]) -> str:
    """The marker of a thin line: of a single value there would be nothing to see without one."""
    return "." if len(values) == 1 else ""


def _draw_phase(
    axes: Axes,
    lines: Sequence[Sequence[Point]],
    metric: Metric,
    look: Look,
    window: int | None,
    *,
    thin: str,
    few: bool,
    banded: bool,
) -> None:
    """Draws one phase of one series; the line of a seed that has not reached it is empty."""
    alone = look == ALONE
    smoothed = [smooth([p.row.score(metric) for p in line], window) for line in lines]
    if len(lines) > 1:
        for line, values in zip(lines, smoothed, strict=True):
            if not line:
                continue
            xs = [point.x for point in line]
            axes.plot(xs, values, color=thin, linestyle=look.linestyle, linewidth=0.6, alpha=0.8,
                      marker=_dot(xs), markersize=2.6, clip_on=False, zorder=2,
                      gid="seed")  # fmt: skip
    points = shared_points(lines, metric, window)
    if not points:
        return
    places = [x for x, _ in points]
    axes.plot(places, [mean for _, mean in points], color=look.colour, linestyle=look.linestyle,
              linewidth=1.6, marker=look.marker if few or not alone else "", markersize=2.6,
              markevery=1 if few else -(-len(points) // 6), clip_on=False, zorder=3,
              gid="mean")  # fmt: skip
    if not banded:
        return
    rows = [{point.x: point.row for point in line} for line in lines]
    bands = [estimate_scores([each[x] for each in rows], metric) for x in places]
    if any(band.has_interval for band in bands):
        axes.fill_between(places, [band.lower for band in bands], [band.upper for band in bands],
                          color=look.colour, alpha=0.2, zorder=1.5,
                          linewidth=2 if len(bands) == 1 else 0)  # fmt: skip


def format_axis(axes: Axes, timeline: Timeline, *, narrow: bool) -> None:
    """Sets scale, ticks, shading and labels of the horizontal axis."""
    count = 1 if narrow else 2
    left = [-x for x in ticks(timeline.offline, count)]
    right = ticks(timeline.online, count)
    end = max(timeline.length, timeline.reach)
    if timeline.both or timeline.broken:
        axes.set_xscale("function", functions=(timeline.forward, timeline.inverse))
    if timeline.both:
        axes.axvspan(-timeline.offline, 0, color=SHADE, linewidth=0, zorder=0)
        axes.axvline(0, color=DARK, linestyle=(0, (4, 2)), linewidth=0.9, zorder=2.5, gid="switch")
        axes.set_xlim(-timeline.offline, end)
    elif timeline.online:
        axes.set_xlim(0, end)
    else:
        axes.axvspan(0, end, color=SHADE, linewidth=0, zorder=0)
        axes.set_xlim(0, end)
        left, right = [], [-x for x in left]
    if timeline.broken:
        right.append(timeline.reach)
        _break(axes, (timeline.length + timeline.reach) / 2)
    places = [*sorted(left), 0, *right]
    axes.set_xticks(places, [with_minus(short_count(x)) for x in places])
    axes.minorticks_off()
    _label_phases(axes, timeline, narrow=narrow)


def _break(axes: Axes, x: float) -> None:
    """Marks the axis as compressed at `x`."""
    axes.annotate("//", (x, 0), xycoords=("data", "axes fraction"), ha="center", va="center",
                  annotation_clip=False, gid="break", zorder=6,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3})  # fmt: skip


def _label_phases(axes: Axes, timeline: Timeline, *, narrow: bool) -> None:
    """Writes `offline` and `online` above their phases, the units below."""
    updates = "updates" if narrow and timeline.both else "offline updates"
    if timeline.both:
        share = 1 / (2 + timeline.beyond)
        words = [(share / 2, "offline", updates), (1.5 * share, "online", "env. steps")]
    elif timeline.online:
        words = [(0.5, "online", "env. steps")]
    else:
        words = [(0.5, "offline", updates)]
    for x, above, below in words:
        for y, text, offset, align in ((1, above, 2, "bottom"), (0, below, -15.5, "top")):
            axes.annotate(text, (x, y), xytext=(0, offset), xycoords="axes fraction",
                          textcoords="offset points", ha="center", va=align,
                          color="0.4" if y else "black", fontsize="small")  # fmt: skip


def ticks(length: int, count: int) -> list[float]:
    """Round places in (0, length]: at least `count`, at most about twice as many."""
    if length <= 0:
        return []
    decade = 10 ** math.floor(math.log10(length / count))
    step = max(s * decade for s in (1, 2, 2.5, 5) if s * decade <= length / count)
    return [step * i for i in range(1, int(length / step * (1 + 1e-9)) + 1)]
