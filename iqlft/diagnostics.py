"""How a run's networks fared: Q and V, the advantages, the policy's deviation, the policy lag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from iqlft.figures import BLUE, DARK, ORANGE, WIDE
from iqlft.panels import Stretch, dress_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from iqlft.history import History

SOURCES = {"dataset": BLUE, "new": ORANGE}
"""Colours of dataset and new transitions."""
BINS, TAIL = 50, 0.001
"""Of the histogram of advantages; its outermost bins hold what lies beyond these quantiles."""
_BARS: dict[str, dict[str, Any]] = {
    "dataset": {"histtype": "stepfilled", "alpha": 0.45},
    "new": {"histtype": "step", "linewidth": 1.2},
}


class Advantages(NamedTuple):
    """Advantages that the newest checkpoint gives to samples of transitions.

    Attributes:
        samples: `(n,)` by `dataset` and, where there are any, `new`.
        clipped_from: the advantage from which on weights are clipped.
    """

    samples: Mapping[str, NDArray[np.float32]]
    clipped_from: float


def diagnostics_figure(history: History, stretch: Stretch, advantages: Advantages | None) -> Figure:
    """The figure, not yet saved: two or three panels in a row, or four in two rows.

    Args:
        history: of the run.
        stretch: how long its phases are; rows of metrics need not reach the end.
        advantages: of the newest checkpoint; None leaves their panel out.
    """
    panels = 2 + (advantages is not None) + has_lag(history)
    rows, columns = (2, 2) if panels == 4 else (1, panels)
    figure = Figure(figsize=(WIDE, 2.25 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    axes = iter(figure.subplots(rows, columns).flat)
    narrow = columns == 3
    _draw_estimates(next(axes), history, stretch, narrow=narrow)
    if advantages is not None:
        _draw_advantages(next(axes), advantages)
    _draw_log_std(next(axes), history, stretch, narrow=narrow)
    if has_lag(history):
        _draw_lag(next(axes), history, stretch)
    return figure


def has_lag(history: History) -> bool:
    """Whether there is a policy lag to draw."""
    return len(history.column("policy_lag", "online")[0]) > 0


def _draw_estimates(axes: Axes, history: History, stretch: Stretch, *, narrow: bool) -> None:
    for source, colour in SOURCES.items():
        for letter, name, line in (("Q", "q", "-"), ("V", "value", (0, (3, 1.5)))):
            _draw_line(axes, history, f"{source}_{name}", stretch, color=colour, linestyle=line,
                       label=f"{letter}, {source}")  # fmt: skip
    axes.set_title("mean Q and V", pad=13)
    axes.legend(frameon=False, handlelength=1.8)
    _dress(axes, stretch, narrow=narrow)


def _draw_advantages(axes: Axes, advantages: Advantages) -> None:
    """Histograms with a logarithmic height: what is clipped is a small part of everything."""
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


def _draw_log_std(axes: Axes, history: History, stretch: Stretch, *, narrow: bool) -> None:
    _draw_line(axes, history, "log_std_mean", stretch, color=BLUE)
    axes.set_title("mean log-std of the policy", pad=13)
    _dress(axes, stretch, narrow=narrow)


def _draw_lag(axes: Axes, history: History, stretch: Stretch) -> None:
    _draw_line(axes, history, "policy_lag", stretch, color=ORANGE)
    axes.set_title("policy lag of new transitions (updates)", pad=13)
    axes.set_ylim(bottom=0)
    _dress(axes, Stretch(0, stretch.online), narrow=False)


def _draw_line(
    axes: Axes,
    history: History,
    key: str,
    stretch: Stretch,
    label: str | None = None,
    **look: object,
) -> None:
    """One line per phase; offline, updates are counted back from the switch if there is one."""
    for phase in ("offline", "online"):
        xs, values = history.column(key, phase)
        if not len(xs):
            continue
        shift = stretch.offline if phase == "offline" and stretch.online else 0
        axes.plot(xs - shift, values, linewidth=1.1, label=label, gid=key, **look)  # type: ignore[arg-type]
        label = None


def _dress(axes: Axes, stretch: Stretch, *, narrow: bool) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=True, color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    dress_axis(axes, stretch, narrow=narrow)
