"""Brings the page of results up to date: `python results/page.py [RUN...]`.

It keeps the small files of the named runs in `results/runs` (`keep.py`). Then, from all runs kept
there, it draws `before_after.png`, writes `table.md` and `course.md`, and rewrites the part of
`README.md` between two comments: the figure, and the table of the six tasks, each with the steps
that it has reached. Runs may be unfinished; name them again when they are further.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import course
from keep import keep

from iqlft.analysis.published import PublishedRow, published_results
from iqlft.analysis.quantities import rounded
from iqlft.analysis.summary import count_range, group_runs, short_count, summarise
from iqlft.analysis.table import format_table, show_estimate
from iqlft.figures.before_after import plot_before_after
from iqlft.runs.curves import RunCurve, find_runs, read_run

FOLDER = Path(__file__).parent
VERSION = "-v1"
"""Version of the datasets whose runs the page shows."""
BEGIN, END = "<!-- from here: python results/page.py -->", "<!-- to here -->"
LENGTH = 1_000_000
"""Updates, and environment steps, of a finished run."""


def read_runs(folder: Path) -> list[RunCurve]:
    """The page's runs.

    Raises:
        ValueError: one is of other data, algorithm or settings than the table's.
    """
    runs = [read_run(path) for path in find_runs(folder)]
    for run in runs:
        meta = json.loads((run.folder / "meta.json").read_text(encoding="utf-8"))
        if not meta["dataset"]["id"].endswith(VERSION):
            raise ValueError(f"{run.folder} learned from {meta['dataset']['id']}, not {VERSION}.")
        if (run.algorithm, run.variant) != ("iql", ""):
            raise ValueError(f"{run.folder} is not plain IQL; keep it in a folder of its own.")
    return runs


def page(text: str, runs: Sequence[RunCurve]) -> str:
    """The text of `README.md` with its generated part up to date."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + "\n".join([BEGIN, *made(runs), END]) + after


def made(runs: Sequence[RunCurve]) -> Iterator[str]:
    """The lines of the generated part."""
    if runs:
        yield "![Success over offline updates and environment steps](before_after.png)"
    else:
        yield "No row is begun. [The figure of v0 data](v0/README.md) is not of these data."
    yield ""
    yield from table(runs)
    if runs:
        yield ""
        yield "[table.md](table.md): changes, totals, published rows. [course.md](course.md): every"
        yield "evaluation beside those of CORL's four seeds."


def table(runs: Sequence[RunCurve]) -> Iterator[str]:
    """The lines of the table: a row per published task, whatever it has reached.

    Raises:
        ValueError: a task has runs on several datasets.
    """
    groups = group_runs(runs) if runs else []
    found = {group.task: group for group in groups}
    if len(found) < len(groups):
        raise ValueError("A task has runs on several sets; the table has a place for one.")
    results = published_results("same", ["iql"])
    sources = [f"{result[0].label}, {result[0].dataset_version}" for result in results]
    yield f"| task | before | after | change | seeds | reached | {' | '.join(sources)} |"
    yield "|---" * (6 + len(results)) + "|"
    for task in [row.task for row in results[0]]:
        cells = ["", "", "", "", "not begun"]
        if group := found.get(task):
            summary = summarise(group)
            cells = [
                show_estimate(summary.before),
                show_estimate(summary.after),
                show_estimate(summary.change, signed=True),
                count_range(summary.num_seeds),
                reached(group.runs),
            ]
        there = [_pair(row) for result in results for row in result if row.task == task]
        yield f"| {task.removeprefix('antmaze-')} | {' | '.join([*cells, *there])} |"


def reached(runs: Sequence[RunCurve]) -> str:
    """`1M + 1M`, or how far the seeds have come at least: `1M + 250k of 1M`."""
    updates = min(run.offline[-1].updates if run.offline else 0 for run in runs)
    steps = min(run.rows[-1].env_steps for run in runs)
    counts = [
        short_count(count) + f" of {short_count(LENGTH)}" * (count < LENGTH)
        for count in (updates, steps)
    ]
    return " + ".join(counts)


def _pair(row: PublishedRow) -> str:
    ends = [each for each in (row.before, row.after) if each is not None]
    return " -> ".join(f"{rounded(each, 1):.1f}" for each in ends)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(keep(FOLDER / "runs", Path(path)))
    kept = read_runs(FOLDER / "runs")
    if kept:
        plot_before_after(kept, FOLDER)
        written = {
            "table.md": format_table(kept, style="markdown"),
            "course.md": "\n".join(course.table(FOLDER / "runs")) + "\n",
        }
        for name, content in written.items():
            (FOLDER / name).write_text(content, encoding="utf-8")
    readme = FOLDER / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8"), kept), encoding="utf-8")
