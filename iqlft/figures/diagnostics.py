"""How a run's networks fared: Q and V, advantages, the policy's standard deviation and lag."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, SymmetricalLogLocator

from iqlft.figures.panels import Timeline, format_axis, smooth
from iqlft.figures.style import BLUE, DARK, GREEN, ORANGE, PURPLE, VERMILION, WIDE, marker_of
from iqlft.runs.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from iqlft.runs.metrics_log import History

SOURCES = {"dataset": BLUE, "new": ORANGE}
"""Colours of dataset and new transitions."""
BINS, TAIL = 50, 0.001
"""Bins of the histogram of advantages; the outermost hold what lies beyond these quantiles."""
SMOOTHED = 25
"""A running mean's window is the number of a phase's rows divided by this."""
_BARS: dict[str, dict[str, Any]] = {
    "dataset": {"histtype": "stepfilled", "alpha": 0.45},
    "new": {"histtype": "step", "linewidth": 1.2},
}
"""How the histogram of each source is drawn, so that sources differ in more than colour."""


class Advantages(NamedTuple):
    """Advantages that the newest checkpoint gives to samples of transitions.

    Attributes:
        samples: `(n,)` under `dataset` and, where there are any, `new`.
        clipped_from: the advantage above which weights are clipped.
    """

    samples: Mapping[str, NDArray[np.float32]]
    clipped_from: float


def diagnostics_figure(
    history: History, timeline: Timeline, advantages: Advantages | None
) -> Figure:
    """The figure, not yet saved: panels in two columns, the first over both if their number is odd.

    Args:
        history: of the run.
        timeline: how long its phases are; rows of metrics need not reach the end.
        advantages: of the newest checkpoint; None leaves their panel out.

    Raises:
        RunError: the algorithm logs none of what is drawn here.
    """
    panels = _panels(history, timeline, advantages)
    if not panels:
        raise RunError("Its metrics hold none of Q, V, log-std, policy lag, losses and speeds.")
    rows, odd = -(-len(panels) // 2), len(panels) % 2
    figure = Figure(figsize=(WIDE, 2.25 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(rows, 2)
    places = [grid[0, :]] * odd + [grid[row, side] for row in range(odd, rows) for side in (0, 1)]
    for draw, place in zip(panels, places, strict=True):
        draw(figure.add_subplot(place))
    return figure


def _panels(
    history: History, timeline: Timeline, advantages: Advantages | None
) -> list[Callable[[Axes], None]]:
    """The panels to draw: not every algorithm has critics, a value network or a log-std."""
    of_rows = functools.partial(functools.partial, history=history, timeline=timeline)
    panels: list[Callable[[Axes], None]] = []
    if history.has("dataset/q"):
        panels.append(of_rows(_draw_estimates))
    if history.has("dataset/value"):
        panels.append(of_rows(_draw_gaps))
    if advantages is not None:
        panels.append(functools.partial(_draw_advantages, advantages=advantages))
    if history.has("actor/log_std"):
        panels.append(of_rows(_draw_log_std))
    if history.has("policy_lag"):
        panels.append(of_rows(_draw_lag))
    if losses_of(history):
        panels.append(of_rows(_draw_losses))
    if history.has("updates_per_second"):
        panels.append(of_rows(_draw_speeds))
    if history.has("training_success"):
        panels.append(of_rows(_draw_training))
    return panels


def losses_of(history: History) -> list[str]:
    """Keys of the losses that a run has logged."""
    return sorted({key for row in history.rows for key in row if key.endswith("/loss")})


def _draw_losses(axes: Axes, history: History, timeline: Timeline) -> None:
    colours = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
    lines = ("-", (0, (3, 1.5)), "-.", ":", (0, (1, 1)))
    for key, colour, line in zip(losses_of(history), colours, lines, strict=False):
        _draw_line(axes, history, key, timeline=timeline, color=colour, linestyle=line,
                   label=key.removesuffix("/loss"))  # fmt: skip
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_title("losses, on a logarithmic scale", pad=13)
    axes.legend(frameon=False, handlelength=1.8)
    _format(axes, timeline)
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1e-3))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_speeds(axes: Axes, history: History, timeline: Timeline) -> None:
    _draw_line(axes, history, "updates_per_second", timeline=timeline, color=BLUE,
               label="updates")  # fmt: skip
    _draw_line(axes, history, "env_steps_per_second", timeline=timeline, color=ORANGE,
               linestyle=(0, (3, 1.5)), label="environment steps")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_title("speeds, per second", pad=13)
    axes.legend(frameon=False, handlelength=1.8)
    _format(axes, timeline)


def _draw_training(axes: Axes, history: History, timeline: Timeline) -> None:
    _draw_line(axes, history, "training_success", timeline=timeline, color=BLUE)
    axes.set_ylim(0, 1)
    axes.set_title("success of the last 100 training episodes", pad=13)
    _format(axes, timeline)


def _draw_estimates(axes: Axes, history: History, timeline: Timeline) -> None:
    for source, colour in SOURCES.items():
        for letter, name, line in (("Q", "q", "-"), ("V", "value", (0, (3, 1.5)))):
            _draw_line(axes, history, f"{source}/{name}", timeline=timeline, color=colour,
                       linestyle=line, label=f"{letter}, {source}")  # fmt: skip
    axes.set_title("mean Q and V" if history.has("dataset/value") else "mean Q", pad=13)
    axes.legend(frameon=False, handlelength=1.8)
    _format(axes, timeline)


def _draw_gaps(axes: Axes, history: History, timeline: Timeline) -> None:
    """Draws Q - V, far smaller than either, and its running mean, because it is noisy."""
    for source, colour in SOURCES.items():
        gap = f"{source}/q", f"{source}/value"
        _draw_line(axes, history, *gap, timeline=timeline, color=colour, alpha=0.25)
        _draw_line(axes, history, *gap, timeline=timeline, smoothed=True, color=colour,
                   label=source, zorder=3)  # fmt: skip
    axes.set_title("mean Q \N{MINUS SIGN} V", pad=13)
    axes.legend(frameon=False, handlelength=1.8)
    _format(axes, timeline)


def _draw_advantages(axes: Axes, advantages: Advantages) -> None:
    """Draws histograms of logarithmic height, because few transitions are clipped."""
    everything = np.concatenate([*advantages.samples.values(), [advantages.clipped_from]])
    low, high = np.quantile(everything, [TAIL, 1 - TAIL])
    edges = np.linspace(low, max(high, 1.5 * advantages.clipped_from), BINS + 1)
    for source, sample in advantages.samples.items():
        clipped = np.mean(sample >= advantages.clipped_from)
        axes.hist(np.clip(sample, edges[0], edges[-1]), bins=list(edges),
                  weights=np.full(len(sample), 100 / len(sample)), color=SOURCES[source],
                  label=f"{source}, {100 * clipped:.1f} % clipped", **_BARS[source])  # fmt: skip
    axes.axvline(advantages.clipped_from, color=DARK, linestyle=":", linewidth=1.1, gid="clip",
                 label=f"clipped from {advantages.clipped_from:.2f} on")  # fmt: skip
    heights = [10.0**power for power in range(-2, 3)]
    axes.set_yscale("log")
    axes.set_yticks(heights, [f"{height:g}" for height in heights])
    axes.minorticks_off()
    axes.set_ylim(top=3000)  # Room for the legend.
    axes.set_title("advantages at the newest checkpoint", pad=13)
    axes.set(ylabel="% of transitions", xlabel="Q \N{MINUS SIGN} V")
    axes.legend(frameon=False, handlelength=1.8, loc="upper left")


def _draw_log_std(axes: Axes, history: History, timeline: Timeline) -> None:
    _draw_line(axes, history, "actor/log_std", timeline=timeline, color=BLUE)
    axes.set_title("mean log-std of the policy", pad=13)
    _format(axes, timeline)


def _draw_lag(axes: Axes, history: History, timeline: Timeline) -> None:
    _draw_line(axes, history, "policy_lag", timeline=timeline, color=ORANGE)
    axes.set_title("policy lag of new transitions (updates)", pad=13)
    axes.set_ylim(bottom=0)
    _format(axes, Timeline(0, timeline.online))


def _draw_line(
    axes: Axes,
    history: History,
    key: str,
    minus: str | None = None,
    *,
    timeline: Timeline,
    smoothed: bool = False,
    label: str | None = None,
    **look: object,
) -> None:
    """Draws a line per phase; offline, updates count back from the switch if there is one."""
    for phase in ("offline", "online"):
        xs, values = history.column(key, phase, minus=minus)
        if not len(xs):
            continue
        shift = timeline.offline if phase == "offline" and timeline.online else 0
        shown = smooth(values.tolist(), len(values) // SMOOTHED | 1) if smoothed else values
        gid = f"{key} - {minus}" if minus else key
        axes.plot(xs - shift, shown, marker=marker_of(len(xs)), markersize=3, linewidth=1.1,
                  label=label, gid=gid, **look)  # type: ignore[arg-type]  # fmt: skip
        label = None


def _format(axes: Axes, timeline: Timeline) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=True, color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    format_axis(axes, timeline, narrow=False)
