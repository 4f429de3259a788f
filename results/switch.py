"""The table of what a switch costs: `python results/switch.py FOLDER > FOLDER/table.md`.

For each run in FOLDER that was fine-tuned: its last evaluation before fine-tuning, the lowest of
the first online ones, the change between the two with Newcombe's interval over the episodes (paired
by seed where the run has kept them), its last evaluation, and the environment steps, updates and
minutes until then.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from iqlft.analysis.statistics import Estimate, newcombe_difference, paired_correlation
from iqlft.analysis.summary import estimate_scores
from iqlft.analysis.table import show_estimate
from iqlft.runs.curves import RunCurve, common_metric, find_runs, read_run
from iqlft.runs.scores import Score

FIRST_STEPS = 15_000
"""Environment steps after the switch within which the lowest evaluation is taken."""
COLUMNS = (
    "task",
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
    return estimate_scores([score], "success")


def drop(run: RunCurve, before: Score, lowest: Score) -> Estimate:
    """The change in points, paired by the seeds of the episodes where these are known."""
    pairs = run.paired_successes(before, lowest)
    correlation = paired_correlation(*zip(*pairs, strict=True)) if pairs else 0.0
    return newcombe_difference(success(before), success(lowest), correlation)


def row(run: RunCurve) -> list[str]:
    """The cells of one run."""
    last, before = run.rows[-1], run.before
    first = [each for each in run.online if 0 < each.env_steps <= FIRST_STEPS]
    lowest = min(first, key=success, default=None)
    return [
        run.task.removeprefix("antmaze-"),
        f"{run.algorithm} {run.variant}-s{run.seed}",
        show_estimate(success(before) if before else None),
        show_estimate(success(lowest) if lowest else None),
        show_estimate(drop(run, before, lowest) if before and lowest else None, signed=True),
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
        if run.online and common_metric([run]) == "success":
            yield f"| {' | '.join(row(run))} |"


if __name__ == "__main__":
    for line in table(Path(sys.argv[1])):
        print(line)
