"""The table: before -> after fine-tuning per task and in total, beside the published numbers.

Every number says which data it comes from: `antmaze-v0` and `antmaze-v2` are not the same data,
and ours are newly made. Intervals are 95 %: Student-t over seeds, with changes paired by seed; for
a single seed, Wilson over its episodes and Newcombe for the change; intervals over several seeds
are never narrower. Totals are sums over tasks; where there are enough seeds, the interquartile mean
(IQM) of all runs is beside them.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from iqlft.analysis.names import without_after
from iqlft.analysis.published import is_among, published_results
from iqlft.analysis.quantities import estimate_text
from iqlft.analysis.statistics import Estimate
from iqlft.analysis.summary import (
    count_range,
    group_runs,
    interquartile,
    over_tasks,
    summarise,
    total,
)
from iqlft.runs.scores import METRIC_NAMES
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from iqlft.analysis.published import Published, PublishedRow
    from iqlft.analysis.summary import Summary
    from iqlft.runs.curves import RunCurve

Style = Literal["text", "markdown", "csv", "latex"]
"""How a table is written."""
Kind = Literal["task", "total", "iqm"]
"""What the numbers of a line are of, see `TableRow.kind`."""
COLUMNS = (
    "task", "result", "data", "before", "after", "change",
    "seeds", "episodes", "offline updates", "env steps",
)  # fmt: skip
"""Headings of the table as Markdown."""


class TableRow(NamedTuple):
    """One line of the table: a result of ours, or a published one.

    Attributes:
        task: the task, `total of N tasks`, or `IQM of` the task or of N tasks.
        result: the algorithm and whose it is.
        data: the dataset version or origin.
        metric: what the numbers are, in words.
        before: before fine-tuning; None where missing.
        after: after fine-tuning; None where missing.
        change: after - before; None where missing.
        seeds: numbers of seeds that occur, ascending; empty where missing or not stated.
        episodes: episodes per evaluation, likewise.
        updates: offline updates, likewise.
        env_steps: online environment steps, likewise.
        ours: whether the result is of the runs, not published.
        kind: a task's mean over seeds, a sum over tasks, or an interquartile mean of all runs.
        fine_tuned: whether fine-tuning has begun, evaluated or not.
    """

    task: str
    result: str
    data: str
    metric: str
    before: Estimate | None
    after: Estimate | None
    change: Estimate | None
    seeds: tuple[int, ...]
    episodes: tuple[int, ...]
    updates: tuple[int, ...]
    env_steps: tuple[int, ...]
    ours: bool
    kind: Kind
    fine_tuned: bool


def format_table(
    runs: Sequence[RunCurve], style: Style = "text", *, published: Published = "same"
) -> str:
    """Before -> after of the runs, as text for a terminal, as Markdown, as CSV or for LaTeX.

    Args:
        runs: at least one.
        style: how to write it. `csv` holds every number in full, one result a line.
        published: which published rows of the same tasks to show: those of the same algorithms,
            all, or none. Rows that end with pretraining stand beside runs that end there.

    Returns:
        The table, ending in a newline.

    Raises:
        RunError: no runs, or two of the same task, algorithm, variant, data and seed.
    """
    rows = table_rows(runs, published)
    if style != "csv":  # CSV has a column for the metric.
        rows = named_rows(rows)
    return {"text": _text, "markdown": _markdown, "csv": _csv, "latex": _latex}[style](rows)


def table_rows(runs: Sequence[RunCurve], published: Published = "same") -> list[TableRow]:
    """The table's lines, task by task, ours before the published ones, totals last.

    Args:
        runs: at least one.
        published: see `format_table`.
    """
    summaries = [summarise(group) for group in group_runs(runs)]
    tasks = list(dict.fromkeys(summary.task for summary in summaries))
    series = list(dict.fromkeys(summary.series for summary in summaries))
    found = {(summary.task, summary.series): summary for summary in summaries}
    results = published_results(published, {one.algorithm for one in series})
    results += _offline_results([one for one in summaries if one.after is None], published)
    rows = []
    for task in tasks:
        metric = next(s.metric for s in summaries if s.task == task)
        rows += [_our_row(found[task, one]) for one in series if (task, one) in found]
        # Published AntMaze numbers are success rates: beside another metric they would mislead.
        if metric == "success":
            rows += [_published_row(task, [row]) for r in results for row in r if row.is_of(task)]
    return rows + _rows_over_tasks(tasks, summaries, results)


def _offline_results(untuned: Sequence[Summary], published: Published) -> list[list[PublishedRow]]:
    """Published results that end with pretraining, for tasks and algorithms of untuned runs."""

    def comparable(row: PublishedRow) -> bool:
        return any(
            row.is_of(one.task)
            and (published == "all" or is_among(row.algorithm, [one.series.algorithm]))
            for one in untuned
        )

    algorithms = {one.series.algorithm for one in untuned}
    found = published_results(published, algorithms, fine_tuned=False)
    kept = [[*filter(comparable, result)] for result in found]
    return [result for result in kept if result]


def before_after_lines(runs: Sequence[RunCurve]) -> list[str]:
    """A sentence for each task and each total, printed at the end of a command.

    Args:
        runs: at least one.
    """
    return [_sentence(row) for row in table_rows(runs, "none") if row.before is not None]


def _sentence(row: TableRow) -> str:
    before, after, change = _scores(row)
    seeds = "1 seed" if row.seeds == (1,) else f"{count_range(row.seeds)} seeds"
    tail = f"after {after}, change {change}"
    if row.after is None:
        tail = without_after(fine_tuned=row.fine_tuned)
    return f"{row.task}, {row.result}, {seeds}, {row.metric}: before {before} -> {tail}."


def _our_row(summary: Summary, kind: Kind = "task") -> TableRow:
    return TableRow(
        summary.task,
        f"iqlft {summary.series.name}",
        summary.label,
        METRIC_NAMES[summary.metric],
        summary.before,
        summary.after,
        summary.change,
        summary.num_seeds,
        summary.episodes,
        summary.offline_updates,
        summary.env_steps,
        ours=True,
        kind=kind,
        fine_tuned=summary.fine_tuned,
    )


def _published_row(task: str, parts: Sequence[PublishedRow]) -> TableRow:
    """A published result, or the sum of several over tasks."""
    first, before = parts[0], sum(row.before for row in parts)
    after = None if first.after is None else sum(row.after or 0.0 for row in parts)
    return TableRow(
        task,
        f"{first.source}, {first.algorithm}" + " offline" * (after is None),
        first.dataset_version,
        METRIC_NAMES["success"],
        Estimate(before),
        None if after is None else Estimate(after),
        None if after is None else Estimate(after - before),
        seeds=(first.seeds,) if first.seeds else (),
        episodes=(),
        updates=(first.offline_updates,),
        env_steps=(first.env_steps,) if first.env_steps else (),
        ours=False,
        kind="total" if len(parts) > 1 else "task",
        fine_tuned=after is not None,
    )


def _rows_over_tasks(
    tasks: Sequence[str], summaries: Sequence[Summary], results: Iterable[Sequence[PublishedRow]]
) -> list[TableRow]:
    """Sums over exactly the tasks shown, ours and published, then interquartile means of ours.

    A result that lacks one of the tasks has none.
    """
    whole = over_tasks(summaries)
    rows = [_our_row(summed, "total") for summed in map(total, whole) if summed]
    # As in single tasks: published sums of success rates do not compare with other metrics.
    if len(tasks) > 1 and {summary.metric for summary in summaries} == {"success"}:
        matching = ([row for row in each if any(map(row.is_of, tasks))] for each in results)
        name = f"total of {len(tasks)} tasks"
        rows += [_published_row(name, each) for each in matching if len(each) == len(tasks)]
    return rows + [_our_row(iqm, "iqm") for iqm in map(interquartile, whole) if iqm]


def show_estimate(estimate: Estimate | None, *, signed: bool = False) -> str:
    """`55.0 [42, 68]`, `55.0` without an interval, `-` without a value."""
    return "-" if estimate is None else estimate_text(estimate, signed=signed)


def named_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """The lines, with the metric beside the task's name where metrics differ."""
    if len({row.metric for row in rows}) == 1:
        return [*rows]
    return [row._replace(task=f"{row.task}, {row.metric}") for row in rows]


def show_row(row: TableRow) -> tuple[str, ...]:
    """A line's texts, in the order of `COLUMNS`."""
    effort = map(count_range, (row.seeds, row.episodes, row.updates, row.env_steps))
    return (row.task, row.result, row.data, *_scores(row), *effort)


def _scores(row: TableRow) -> tuple[str, str, str]:
    before, after = show_estimate(row.before), show_estimate(row.after)
    return before, after, show_estimate(row.change, signed=True)


def caption(rows: Sequence[TableRow]) -> str:
    """What the numbers and their intervals are, in a sentence."""
    metrics = " and ".join(dict.fromkeys(row.metric for row in rows))
    ours = [row for row in rows if row.ours]
    several = any(max(row.seeds, default=0) > 1 for row in ours)
    single = [row for row in ours if row.seeds == (1,) and row.metric == METRIC_NAMES["success"]]
    kinds = []
    if several:
        rates = any(row.metric == METRIC_NAMES["success"] for row in ours)
        least = ", at least Wilson over all their episodes" * rates
        kinds.append(f"Student-t over seeds{least}")
    if single:
        changed = ", Newcombe for its change" * any(row.change is not None for row in single)
        kinds.append(f"Wilson over the episodes of a single seed{changed}")
    totals = [row for row in ours if row.kind == "total" and row.before]
    if any(min(row.seeds) > 1 for row in totals):
        kinds.append("bootstrap paired by seed for totals")
    if any(min(row.seeds) == 1 for row in totals):
        kinds.append("combined from the tasks' own for totals that hold a single seed")
    if any(row.kind == "iqm" for row in ours):
        kinds.append("stratified bootstrap for interquartile means (IQM) of all runs")
    intervals = f"; 95 % intervals: {', '.join(kinds)}" if kinds else ""
    shared = of_all_seeds(rows)
    return f"Before and after fine-tuning: {metrics}, last evaluation{shared}{intervals}."


def of_all_seeds(rows: Sequence[TableRow]) -> str:
    """` that all seeds have`, if there are several and they have evaluations in common."""
    ours = [row for row in rows if row.ours]
    several = any(max(row.seeds, default=0) > 1 for row in ours)
    apart = any(len(row.updates) > 1 or len(row.env_steps) > 1 for row in ours)
    return " that all seeds have" if several and not apart else ""


def _text(rows: Sequence[TableRow]) -> str:
    lines = [caption(rows)]
    width = max(len(f"{row.result}, {row.data}") for row in rows) + 2
    heads = ("before", "after", "change")
    for index, row in enumerate(rows):
        if index == 0 or rows[index - 1].task != row.task:
            cells = "".join(f"  {head:<16}" for head in heads)
            lines += ["", f"{row.task:<{width}}{cells}".rstrip()]
        cells = "".join(f"  {cell:<16}" for cell in _scores(row))
        lines.append(f"  {row.result + ', ' + row.data:<{width - 2}}{cells}".rstrip())
        if row.updates or row.env_steps:
            alike = [each for each in rows if (each.result, each.ours) == (row.result, row.ours)]
            tuned = any(each.env_steps for each in alike)
            lines.append(f"    {_effort(row, tuned=tuned)}")
    return "\n".join(lines) + "\n"


def _effort(row: TableRow, *, tuned: bool) -> str:
    """How much training a line is of.

    `tuned` says that the same result has environment steps in some line: a total without any then
    combines tasks that are not equally far.
    """
    parts = [
        f"{count_range(counts)} {name if counts != (1,) else name.removesuffix('s')}"
        if counts != (0,)
        else "no pretraining"
        for counts, name in (
            (row.seeds, "seeds"),
            (row.episodes, "episodes"),
            (row.updates, "offline updates"),
            (row.env_steps, "environment steps"),
        )
        if counts
    ]
    if not row.env_steps:
        apart = tuned and row.kind != "task"
        lacking = without_after(fine_tuned=row.fine_tuned)
        parts.append("tasks not equally far" if apart else lacking)
    return ", ".join(parts)


def _markdown(rows: Sequence[TableRow]) -> str:
    lines = [caption(rows), "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in rows:
        texts = (cell.replace("|", chr(92) + "|") for cell in show_row(row))
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def _latex(rows: Sequence[TableRow]) -> str:
    """A `tabular` in the style of booktabs, its caption as a comment."""
    head = COLUMNS[:6]
    lines = [
        f"% {caption(rows)}",
        f"\\begin{{tabular}}{{lll{'r' * 3}}}",
        "\\toprule",
        " & ".join(map(_escaped, head)) + r" \\",
    ]
    for index, row in enumerate(rows):
        new = index == 0 or rows[index - 1].task != row.task
        if new:
            lines.append("\\midrule")
        seeds = f", {count_range(row.seeds)} seeds" * (bool(row.seeds) and not row.ours)
        cells = [row.task if new else "", row.result + seeds, row.data]
        numbers = [f"${cell}$" if cell != "-" else "--" for cell in _scores(row)]
        lines.append(" & ".join([*map(_escaped, cells), *numbers]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _escaped(text: str) -> str:
    """Text with the special characters of LaTeX escaped."""
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(
        named.get(each, f"\\{each}" if each in "&%$#_{}" else each) for each in printable(text)
    )


def _csv(rows: Sequence[TableRow]) -> str:
    """Every number with its bounds; empty where there is none."""
    stages = [f"{stage}{bound}" for stage in ("before", "after", "change")
              for bound in ("", "_lower", "_upper")]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    effort = ("seeds", "episodes", "offline_updates", "env_steps")
    writer.writerow(["task", "result", "data", "metric", *stages, *effort])
    for row in rows:
        numbers: list[str] = []
        for estimate in (row.before, row.after, row.change):
            numbers += ["", "", ""] if estimate is None else map(_number, estimate)
        counts = (row.seeds, row.episodes, row.updates, row.env_steps)
        # Numbers that differ between seeds or tasks are given as `lowest-highest`.
        tail = ["-".join(map(str, dict.fromkeys(c[:1] + c[-1:]))) for c in counts]
        writer.writerow([row.task, row.result, row.data, row.metric, *numbers, *tail])
    return text.getvalue()


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
