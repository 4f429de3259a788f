"""How a running command looks: a live panel on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iqlft.analysis.quantities import clock
from iqlft.analysis.statistics import wilson_interval
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from iqlft.runs.scores import Score
    from iqlft.training.progress import Status

LINE_SECONDS = 30.0
"""Between two lines about a run."""
REFRESH_SECONDS = 0.4
"""Between two pictures of the panel, of however many runs it tells."""


class ConsoleReporter:
    """Shows a training command on a console; a context manager.

    Args:
        console: where to; lines instead of a panel unless it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._runs: dict[Path, _Shown] = {}
        self._next_refresh = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def event(self, sentence: str) -> None:
        """Prints a sentence above the panel."""
        words = printable(f"{time.strftime('%H:%M:%S')}  {sentence}", keep="\n\t")
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def status(self, status: Status) -> None:
        """Refreshes the panel, or prints a line when the run's last one is old enough."""
        now, run = time.monotonic(), self._runs.setdefault(status.folder, _Shown(status))
        run.status, run.remaining = status, run.eta.remaining(status)
        if self._live:
            refresh = now >= self._next_refresh
            self._next_refresh = now + REFRESH_SECONDS if refresh else self._next_refresh
            self._live.update(self._panel(), refresh=refresh)
        elif now >= run.next_line:
            run.next_line = now + LINE_SECONDS
            self.event(line(status, run.remaining))

    def _panel(self) -> Panel:
        if len(self._runs) > 1:
            runs = [run for _, run in sorted(self._runs.items())]
            return panel_of_several([(run.status, run.remaining) for run in runs])
        (run,) = self._runs.values()
        return panel(run.status, run.remaining)


class Eta:
    """Predicts the end from the progress since the first status of a phase."""

    def __init__(self) -> None:
        self._phase, self._began, self._done = "", 0.0, 0

    def remaining(self, status: Status) -> float | None:
        """Seconds to the end of the phase, None until there is progress to judge by."""
        now = time.monotonic()
        if status.phase != self._phase:
            self._phase, self._began, self._done = status.phase, now, status.done
        made = status.done - self._done
        if not made:
            return None
        return (now - self._began) / made * (status.total - status.done)


@dataclass
class _Shown:
    """What is shown of a run."""

    status: Status
    remaining: float | None = None
    next_line: float = 0.0
    eta: Eta = field(default_factory=Eta)


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
    if status.policy_lag is not None:
        parts.append(f"policy lag {status.policy_lag:.0f}")
    if status.evaluation:
        parts.append("evaluating {}/{}".format(*status.evaluation))
    if status.last:
        parts.append(_score(status.last) + _change(status))
    parts.append(f"{clock(remaining)} left")
    return ", ".join(parts)


def panel(status: Status, remaining: float | None) -> Panel:
    """A status as a panel."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column()
    percent = status.done / max(1, status.total)
    rows.add_row(
        "progress",
        f"{status.done:,} of {status.total:,} {_unit(status)} ({percent:.1%}), "
        f"{clock(remaining)} left",
    )
    rows.add_row("speed", f"{status.updates_per_second:,.0f} updates/s" + _env_speed(status))
    rows.add_row("replay", f"{status.dataset_size:,} dataset + {status.new_size:,} new transitions")
    lag = "" if status.policy_lag is None else f", policy lag {status.policy_lag:.0f} updates"
    rows.add_row("workers", _workers(status) + lag)
    if status.evaluation:
        rows.add_row("evaluating", "{} of {} episodes".format(*status.evaluation))
    last = _score(status.last) + _change(status) if status.last else "none yet"
    rows.add_row("last score", last)
    rows.add_row("run", _words(f"{status.folder} on {status.device}"))
    bar = ProgressBar(total=max(1, status.total), completed=status.done)
    title = f"iqlft {status.task}, {'pretraining' if status.phase == 'offline' else 'fine-tuning'}"
    return Panel(Group(bar, rows), title=_words(title), title_align="left", width=86)


def panel_of_several(runs: Sequence[tuple[Status, float | None]]) -> Panel:
    """Statuses of runs that learn at the same time, and how much time is left, a row each."""
    rows = Table.grid(padding=(0, 2))
    for status, remaining in runs:
        score = _score(status.last) + _change(status) if status.last else "no score yet"
        rows.add_row(
            _words(status.task),
            f"{status.done / max(1, status.total):.1%} of {status.total:,} {_unit(status)}",
            f"{clock(remaining)} left",
            f"{status.updates_per_second:,.0f} updates/s" + _env_speed(status),
            _workers(status),
            score,
        )
    return Panel(rows, title=f"iqlft, {len(runs)} runs", title_align="left")


def _words(text: str) -> Text:
    """Names of others, in which nothing is markup."""
    return Text(printable(text))


def _unit(status: Status) -> str:
    return "updates" if status.phase == "offline" else "env steps"


def _env_speed(status: Status) -> str:
    speed = f", {status.env_steps_per_second:,.0f} env steps/s"
    return speed if status.phase == "online" else ""


def _workers(status: Status) -> str:
    counts = Counter(status.workers.values())
    alive = sum(count for state, count in counts.items() if state != "lost")
    detail = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{alive} workers" + (f" ({detail})" if detail else "")


def _score(score: Score) -> str:
    if score.success is None:
        return f"return {score.mean_return:.1f}"
    _, low, high = wilson_interval(score.success, score.episodes)
    return f"success {score.success:.0%} [{low:.0%}, {high:.0%}]"


def _change(status: Status) -> str:
    before, last = status.before, status.last
    if before is None or last is None or last.phase == "offline" or last is before:
        return ""
    if last.success is None or before.success is None:
        return f", {last.mean_return - before.mean_return:+.1f} since the switch"
    return f", {100 * (last.success - before.success):+.0f} points since the switch"


class GenerationProgress:
    """Shows the generation of a dataset; called with episodes done, in all, and transitions/s.

    Args:
        console: where to; a line every half minute instead of a bar unless it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = None
        if console.is_terminal:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("episodes, {task.fields[speed]}"),
            )
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("episodes", total=None, speed="")
        self._began, self._next_line = time.monotonic(), time.monotonic() + 2.0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, done: int, total: int, transitions_per_second: float) -> None:
        """Shows the progress."""
        speed = f"{transitions_per_second:,.0f} transitions/s"
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, speed=speed)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            remaining = (time.monotonic() - self._began) / max(1, done) * (total - done)
            self._console.print(
                f"{done:,}/{total:,} episodes, {speed}, {clock(remaining)} left", highlight=False
            )
