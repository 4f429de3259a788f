"""Draws how the data of several ant policies are learned from: `python draw.py`."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqlft.analysis.statistics import wilson_interval
from iqlft.figures.style import BLUE, GREY, NARROW, VERMILION, save_figure, style

FOLDER = Path(__file__).parent
GROUPS = {
    "shipped-gait-float32": ("0.1", "^:", "shipped gait, float32"),
    "shipped-gait": (BLUE, "o-", "shipped gait, bf16"),
    "d4rl-policy": (VERMILION, "s--", "D4RL's ant policy, bf16"),
}
LENGTHS = {"medium-play": 200, "umaze": 1000}
"""Thousands of updates that are drawn."""


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def draw_corl(axes: Axes, task: str) -> None:
    """CORL's four seeds on D4RL's own data."""
    evaluations = rows(FOLDER.parents[2] / "corl.csv")
    published = [row for row in evaluations if (row["task"], row["phase"]) == (task, "offline")]
    for seed in sorted({row["seed"] for row in published}):
        line = [row for row in published if row["seed"] == seed]
        updates = [int(row["steps"]) / 1000 for row in line]
        values = [100 * float(row["success"]) for row in line]
        label = "CORL on D4RL's data, 4 seeds" if seed == "0" else None
        axes.plot(updates, values, color=GREY, linewidth=0.8, label=label)


def draw_runs(axes: Axes, task: str, group: str) -> None:
    """One line per seed, with the Wilson interval of its evaluations' episodes."""
    colour, form, label = GROUPS[group]
    for seed, path in enumerate(sorted(FOLDER.glob(f"{task}-{group}-s*.csv"))):
        evaluations = rows(path)
        updates = [int(row["updates"]) / 1000 for row in evaluations]
        intervals = [
            wilson_interval(float(row["success"]), int(row["episodes"])) for row in evaluations
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


def draw(task: str) -> Figure:
    """Success over offline updates."""
    figure, axes = plt.subplots(figsize=(NARROW, 2.9), layout="constrained")
    draw_corl(axes, task)
    for group in GROUPS:
        draw_runs(axes, task, group)
    axes.set(xlabel="offline updates (thousands)", ylabel="success (%)", ylim=(-2, 102))
    axes.set_xlim(0, LENGTHS[task] * 1.03)
    axes.set_title(f"antmaze-{task}")
    figure.legend(frameon=False, fontsize=6, loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    with plt.rc_context(style(NARROW)):
        for task in LENGTHS:
            for drawn in save_figure(draw(task), FOLDER, task):
                print(f"Drew {drawn}")
