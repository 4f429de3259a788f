"""Prints what each variant comes to while it is fine-tuned: `python results/v0/ablations/means.py`.

With evaluations that jump by tens of points from one to the next, the mean over all of them says
more than the last.
"""

from pathlib import Path
from statistics import fmean

from iqlft.analysis.summary import Group, group_runs
from iqlft.runs.curves import find_runs, read_run
from iqlft.runs.scores import Score

FOLDER = Path(__file__).parent


def online(rows: tuple[Score, ...]) -> list[float]:
    """Scores after environment steps, in per cent."""
    return [row.score("success") for row in rows if row.env_steps > 0]


def line(group: Group) -> str:
    """One row of the table: each seed before, on average while it is fine-tuned, and after."""
    scores = [online(run.online) for run in group.runs]
    before = [run.before.score("success") for run in group.runs if run.before]
    columns = [
        group.series.variant,
        ", ".join(f"{each:.0f}" for each in before),
        ", ".join(f"{fmean(each):.0f}" for each in scores),
        f"{fmean(map(fmean, scores)):.0f}",
        ", ".join(f"{each[-1]:.0f}" for each in scores),
    ]
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    print("| variant | before | mean of the evaluations, by seed | mean | after |")
    print("|---|---|---|---|---|")
    runs = [read_run(folder) for folder in find_runs(FOLDER)]
    for each in group_runs(runs):
        print(line(each))
