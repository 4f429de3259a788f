"""Formats the status of runs: a panel for a terminal, a line elsewhere."""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING

from rich.console import Group
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iqlft.analysis.quantities import clock
from iqlft.analysis.statistics import wilson_interval
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from iqlft.runs.scores import Score
    from iqlft.training.progress import Status

WIDTH = 86
"""Width of a single run's panel in columns, if the terminal is that wide."""


def line(status: Status, remaining: float | None) -> str:
    """A status as one line."""
    parts = [
        f"{status.task} {status.phase}",
        f"{status.done:,}/{status.total:,} {_unit(status)}",
        f"{status.updates_per_second:,.0f} updates/s",
    ]
    if status.phase == "online":
        parts.append(f"{status.env_steps_per_second:,.0f} env steps/s")
    parts.append(_workers(status))
    if status.training_success is not None:
        parts.append(f"training success {_training(status)}")
    if status.policy_lag is not None:
        parts.append(f"policy lag {status.policy_lag:.0f}")
    if status.evaluation:
        parts.append("evaluating {}/{}".format(*status.evaluation))
    if status.last:
        parts.append(_scored(status))
    parts.append(f"{clock(remaining)} left")
    return ", ".join(parts)


def panel(status: Status, remaining: float | None) -> Panel:
    """A status as a panel."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    done = f"{status.done:,} of {status.total:,} {_unit(status)}"
    rows.add_row("progress", _bar(_share(status)))
    rows.add_row("", f"{done}, {clock(remaining)} left")
    rows.add_row("speed", f"{status.updates_per_second:,.0f} updates/s" + _env_speed(status))
    rows.add_row("replay", f"{status.dataset_size:,} dataset + {status.new_size:,} new transitions")
    lag = "" if status.policy_lag is None else f", policy lag {status.policy_lag:.0f} updates"
    rows.add_row("workers", _workers(status) + lag)
    if status.losses:
        rows.add_row("losses", _words(_losses(status)))
    if status.training_success is not None:
        rows.add_row("training", f"success {_training(status)} of the newest episodes")
    if status.evaluation:
        rows.add_row("evaluating", "{} of {} episodes".format(*status.evaluation))
    rows.add_row("last score", _scored(status) if status.last else "none yet")
    rows.add_row("run", _words(f"{status.folder} on {status.device}"))
    title = f"iqlft {status.task}, {'pretraining' if status.phase == 'offline' else 'fine-tuning'}"
    return Panel(rows, title=_words(title), title_align="left", width=WIDTH)


def panel_of_several(runs: Sequence[tuple[Status, float | None]]) -> Panel:
    """A panel for runs that learn at the same time: one row per run, with the time left."""
    statuses = [status for status, _ in runs]
    tasks = [status.task.split(" ") for status in statuses]
    alike = takewhile(lambda words: len(set(words)) == 1, zip(*tasks, strict=False))
    common = [words[0] for words in alike]
    cells = [
        {"run": " ".join(task[len(common) :]) or " ".join(task)} | _cells(status, remaining)
        for task, (status, remaining) in zip(tasks, runs, strict=True)
    ]
    title = _words(f"iqlft {' '.join(common)}".rstrip() + f", {len(runs)} runs")
    bar = _bar(sum(map(_share, statuses)) / len(statuses))
    return Panel(Group(bar, _Fitting(cells)), title=title, title_align="left", expand=False)


def _cells(status: Status, remaining: float | None) -> dict[str, str]:
    """The cells of a run's row by heading, the most important first."""
    if status.waiting:
        return {"done": f"{_share(status):.1%}", "left": "waiting"}
    speed = f"{status.env_steps_per_second:,.0f}" if status.phase == "online" else ""
    return {
        "done": f"{_share(status):.1%}",
        "left": clock(remaining, "unknown"),
        "score": score_text(status.last) if status.last else "none yet",
        "change": _difference(status),
        "updates/s": f"{status.updates_per_second:,.0f}",
        "steps/s": speed,
        "workers": f"{_alive(status)}",
        "training": _training(status),
        "losses": _losses(status),
    }


class _Fitting:
    """A table that shows as many columns as there is room for.

    Args:
        rows: cells by heading, the most important first; missing cells are empty.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self._rows = rows

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._table(options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(options.max_width)

    def _table(self, width: int) -> Table:
        table, taken = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0)), 0
        columns: list[list[Text]] = []
        for heading in dict.fromkeys(key for row in self._rows for key in row):
            cells = [_words(row.get(heading, "")) for row in self._rows]
            widest = max(cell.cell_len for cell in cells)
            taken += max(len(heading), widest) + 2
            if columns and taken - 2 > width:
                break
            if widest:
                table.add_column(heading, header_style="dim", no_wrap=True)
                columns.append(cells)
            else:
                taken -= len(heading) + 2
        for row in zip(*columns, strict=True):
            table.add_row(*row)
        return table


def _bar(share: float) -> Table:
    """A progress bar and its percentage, on one line."""
    row = Table.grid(padding=(0, 1))
    # A bar by itself prints no line end, so it is put into a table cell.
    row.add_row(ProgressBar(total=1.0, completed=share, width=30), f"{share:.1%}")
    return row


def _share(status: Status) -> float:
    return min(1.0, status.done / max(1, status.total))


def _words(text: str) -> Text:
    """A text with names from elsewhere, in which nothing is read as markup."""
    return Text(printable(text))


def _unit(status: Status) -> str:
    return "updates" if status.phase == "offline" else "env steps"


def _env_speed(status: Status) -> str:
    speed = f", {status.env_steps_per_second:,.0f} env steps/s"
    return speed if status.phase == "online" else ""


def _alive(status: Status) -> int:
    return sum(state != "lost" for state in status.workers.values())


def _workers(status: Status) -> str:
    counts = Counter(status.workers.values())
    detail = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    workers = "1 worker" if _alive(status) == 1 else f"{_alive(status)} workers"
    return workers + (f" ({detail})" if detail else "")


def _losses(status: Status) -> str:
    """The losses with short names: `actor 0.12, critic 3.4`."""
    named = {key.removesuffix("loss").rstrip("/_") or key: v for key, v in status.losses.items()}
    return ", ".join(f"{name} {value:.3g}" for name, value in named.items())


def _training(status: Status) -> str:
    return "" if status.training_success is None else f"{status.training_success:.0%}"


def score_text(score: Score) -> str:
    """A score as text: success with its interval, or the mean return."""
    if score.success is None:
        return f"return {score.mean_return:.1f}"
    _, low, high = wilson_interval(score.success, score.episodes)
    return f"success {score.success:.0%} [{low:.0%}, {high:.0%}]"


def _scored(status: Status) -> str:
    """The newest score, and how it has changed."""
    assert status.last is not None
    change = _difference(status)
    return score_text(status.last) + (f", {change} since the switch" if change else "")


def _difference(status: Status) -> str:
    """The newest score minus the one at the switch; empty unless there are both."""
    before, last = status.before, status.last
    if before is None or last is None or last.phase == "offline" or last is before:
        return ""
    if last.success is None or before.success is None:
        return f"{last.mean_return - before.mean_return:+.1f}"
    return f"{100 * (last.success - before.success):+.0f} points"
