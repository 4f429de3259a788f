"""Draws how medium-play is learned from the data of two ant policies: `python draw.py`."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from iqlft.figures import BLUE, GREY, NARROW, VERMILION, save_figure, style
from iqlft.statistics import wilson_interval

FOLDER = Path(__file__).parent
GROUPS = {
    "d4rl-policy": (VERMILION, "s--", "D4RL's ant policy"),
    "shipped-gait": (BLUE, "o-", "shipped gait"),
}
BAND = (50, 80)
"""Success in per cent that data of D4RL's policy reach between 75k and 200k updates."""


def draw() -> Figure:
    """One line per seed, with the Wilson interval of its evaluations' episodes."""
    figure, axes = plt.subplots(figsize=(NARROW, 2.4), layout="constrained")
    axes.fill_between([75, 200], *BAND, color=GREY, alpha=0.25, linewidth=0)
    axes.annotate("D4RL's band", (77, BAND[1] - 5), color="0.35", fontsize=6)
    for name, (colour, form, label) in GROUPS.items():
        for seed, path in enumerate(sorted(FOLDER.glob(f"medium-play-{name}-s*.csv"))):
            with path.open(newline="") as lines:
                rows = list(csv.DictReader(lines))
            updates = [int(row["updates"]) / 1000 for row in rows]
            intervals = [
                wilson_interval(float(row["success"]), int(row["episodes"])) for row in rows
            ]
            values = [100 * each.value for each in intervals]
            errors = [
                [100 * (each.value - each.lower) for each in intervals],
                [100 * (each.upper - each.value) for each in intervals],
            ]
            axes.errorbar(
                updates, values, errors, fmt=form, color=colour, markersize=3, linewidth=1,
                elinewidth=0.5, alpha=1 if seed == 0 else 0.55, label=f"{label}, seed {seed}",
            )  # fmt: skip
    axes.set(xlabel="offline updates (thousands)", ylabel="success (%)", ylim=(-2, 102))
    axes.legend(frameon=False, fontsize=6, loc="lower right")
    return figure


if __name__ == "__main__":
    with plt.rc_context(style(NARROW)):
        for drawn in save_figure(draw(), FOLDER, "medium-play"):
            print(f"Drew {drawn}")
