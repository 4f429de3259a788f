"""The table of what a switch costs: `python results/switch.py FOLDER > FOLDER/table.md`.

For each run in FOLDER that was fine-tuned: its last evaluation before, the lowest of the first
online ones, the change between the two with Newcombe's interval over the episodes, the last
evaluation, and what that took in environment steps, updates and minutes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from iqlft.analysis.statistics import Estimate, newcombe_difference, wilson_interval
from iqlft.analysis.table import show_estimate
from iqlft.runs.curves import RunCurve, find_runs, read_run
from iqlft.runs.scores import Score

FIRST_STEPS = 15_000
"""Environment steps after the switch in which the lowest evaluation is looked for."""
COLUMNS = (
    "run",
    "before",
    "lowest until 15k steps",
    "drop",
    "after",
    "env steps",
    "updates",
    "minutes",
)


def success(score: Score) -> Estimate:
    """Success in per cent with its Wilson interval."""
    estimate = wilson_interval(score.success or 0.0, score.episodes)
    return Estimate(*(100 * each for each in estimate))


def row(run: RunCurve) -> list[str]:
    """The cells of one run."""
    last = run.rows[-1]
    before = success(run.before) if run.before else None
    first = [each for each in run.online if 0 < (each.env_steps or 0) <= FIRST_STEPS]
    lowest = min(map(success, first)) if first else None
    drop = newcombe_difference(before, lowest) if before and lowest else None
    return [
        f"{run.algorithm} {run.variant}-s{run.seed}",
        show_estimate(before),
        show_estimate(lowest),
        show_estimate(drop, signed=True),
        show_estimate(success(last)),
        f"{last.env_steps:,}",
        f"{last.updates:,}",
        f"{last.seconds / 60:.0f}",
    ]


def table(folder: Path) -> Iterator[str]:
    """The lines of the table."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for run in map(read_run, find_runs(folder)):
        if run.online:
            yield f"| {' | '.join(row(run))} |"


if __name__ == "__main__":
    for line in table(Path(sys.argv[1])):
        print(line)
