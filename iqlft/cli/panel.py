"""How the status of runs looks: a panel on a terminal, a line elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iqlft.analysis.quantities import clock
from iqlft.analysis.statistics import wilson_interval
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.runs.scores import Score
    from iqlft.training.progress import Status


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
