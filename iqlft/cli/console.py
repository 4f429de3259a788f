"""Progress of a running command: a live panel on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from iqlft.analysis.quantities import clock
from iqlft.cli.panel import line, panel, panel_of_several
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from rich.console import Console
    from rich.panel import Panel

    from iqlft.training.progress import Status

LINE_SECONDS = 30.0
"""Interval between two lines about a run."""
REFRESH_SECONDS = 0.4
"""Interval between two refreshes of the panel, whatever the number of runs."""


class ConsoleReporter:
    """Shows a training command on a console; a context manager.

    Args:
        console: where to print; a terminal gets a panel, anything else lines.
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

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def event(self, sentence: str) -> None:
        """Prints a sentence above the panel."""
        words = printable(f"{time.strftime('%H:%M:%S')}  {sentence}", keep="\n\t")
        # Outside a terminal, lines are not wrapped; on a terminal, they wrap between words.
        whole = not self._console.is_terminal
        self._console.print(words, markup=False, highlight=False, soft_wrap=whole)

    def status(self, status: Status) -> None:
        """Refreshes the panel, or prints a line if the run's last one is old enough."""
        now, new = time.monotonic(), status.folder not in self._runs
        run = self._runs.setdefault(status.folder, _Shown(status))
        run.status = status
        run.remaining = None if status.waiting else run.eta.remaining(status)
        if self._live:
            refresh = new or now >= self._next_refresh
            self._next_refresh = now + REFRESH_SECONDS if refresh else self._next_refresh
            self._live.update(self._panel(), refresh=refresh)
        elif now >= run.next_line and not status.waiting:
            run.next_line = now + LINE_SECONDS
            self.event(line(status, run.remaining))

    def _panel(self) -> Panel:
        if len(self._runs) > 1:
            runs = [run for _, run in sorted(self._runs.items())]
            return panel_of_several([(run.status, run.remaining) for run in runs])
        (run,) = self._runs.values()
        return panel(run.status, run.remaining)


class Eta:
    """Predicts the remaining time from the progress since a phase's first status."""

    def __init__(self) -> None:
        self._phase, self._began, self._done = "", 0.0, 0

    def remaining(self, status: Status) -> float | None:
        """Seconds to the end of the phase; None until there is some progress."""
        now = time.monotonic()
        if status.phase != self._phase:
            self._phase, self._began, self._done = status.phase, now, status.done
        made = status.done - self._done
        if not made:
            return None
        return (now - self._began) / made * (status.total - status.done)


@dataclass
class _Shown:
    """What is shown about a run."""

    status: Status
    remaining: float | None = None
    next_line: float = 0.0
    eta: Eta = field(default_factory=Eta)


class EpisodeProgress:
    """Shows how many episodes are done; call it with done, total and transitions per second.

    Args:
        console: where to print; a terminal gets a bar, anything else a line every half minute.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = None
        if console.is_terminal:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("episodes{task.fields[speed]}"),
            )
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("episodes", total=None, speed="")
        self._began, self._next_line = time.monotonic(), time.monotonic() + 2.0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, done: int, total: int, transitions_per_second: float | None = None) -> None:
        """Shows the progress."""
        known = transitions_per_second is not None
        speed = f", {transitions_per_second:,.0f} transitions/s" if known else ""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, speed=speed)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            passed = time.monotonic() - self._began
            remaining = passed / done * (total - done) if done else None
            self._console.print(
                f"{done:,}/{total:,} episodes{speed}, {clock(remaining)} left", highlight=False
            )
