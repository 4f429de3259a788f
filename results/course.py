"""Prints runs' evaluations beside CORL's: `python results/course.py FOLDER`, which holds runs.

Rows are evaluations, every 50k updates and then every 50k environment steps; a cell without one is
empty. CORL's four seeds come from its public logs (`corl.csv`).
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from iqlft.analysis.summary import group_runs
from iqlft.runs.curves import find_runs, read_run

CORL = Path(__file__).parent / "corl.csv"
EVERY, LAST = 50_000, 1_000_000

Course = dict[tuple[str, str, int], list[float]]
"""Success in per cent of every seed, by task, phase and steps of that phase."""


def ours(folder: Path) -> Course:
    """The course of a folder's runs.

    Raises:
        ValueError: a task has several series.
    """
    groups = group_runs(map(read_run, find_runs(folder)))
    if len({group.task for group in groups}) < len(groups):
        raise ValueError("A task has several series of runs; the table has a place for one.")
    course: Course = defaultdict(list)
    for run in (run for group in groups for run in group.runs):
        for row in run.offline:
            course[run.task, "offline", row.updates].append(row.score("success"))
        for row in run.online:
            course[run.task, "online", row.env_steps].append(row.score("success"))
    return course


def corl() -> Course:
    """The course of CORL's seeds."""
    course: Course = defaultdict(list)
    with CORL.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            key = f"antmaze-{row['task']}", row["phase"], int(row["steps"])
            course[key].append(100 * float(row["success"]))
    return course


def span(values: list[float]) -> str:
    """Lowest and highest value, `85 to 97`; one number where they agree, nothing without any."""
    texts = (
        list(dict.fromkeys(f"{each:.0f}" for each in (min(values), max(values)))) if values else []
    )
    return " to ".join(texts)


def table(folder: Path) -> Iterator[str]:
    """The lines of a Markdown table of a folder's runs."""
    here, there = ours(folder), corl()
    tasks = [
        each
        for each in dict.fromkeys(task for task, *_ in there)
        if any(each == key[0] for key in here)
    ]
    yield "Success in per cent, least and greatest seed; CORL has four, and D4RL's own data."
    yield ""
    yield "| after | " + " | ".join(f"{each}, here | CORL" for each in tasks) + " |"
    yield "|---" * (1 + 2 * len(tasks)) + "|"
    for phase, unit in (("offline", "updates"), ("online", "environment steps")):
        for steps in range(EVERY, LAST + 1, EVERY):
            cells = [
                span(each.get((task, phase, steps), [])) for task in tasks for each in (here, there)
            ]
            yield f"| {steps // 1000}k {unit} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for line in table(Path(sys.argv[1])):
        print(line)
