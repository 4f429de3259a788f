"""Attendance of the workers of other machines: who joined, who left, and whether none is left."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iqlft.gateway.roster import WorkerStatus


ATTENDANCE_SECONDS = 10.0
"""Least time between two reports, so that one that comes and goes all the time fills no log."""


class Attendance:
    """Reports who joins and who leaves.

    Args:
        local_workers: workers with lower ids are the learner's own, and not reported.
    """

    def __init__(self, local_workers: int) -> None:
        self._local_workers, self._next_at = local_workers, -math.inf
        self._present: set[int] = set()

    def changes(self, workers: Sequence[WorkerStatus], now: float) -> Iterator[str]:
        """What has changed since the last report, one sentence for each kind of change.

        Args:
            workers: all that ever joined.
            now: in seconds of a monotonic clock.
        """
        if now < self._next_at:
            return
        others = [each for each in workers if each.worker_id >= self._local_workers]
        here = {each.worker_id for each in others if each.alive}
        gone = [each for each in others if each.worker_id in self._present - here]
        said = {each.worker_id for each in gone if each.seconds_since_message == 0}
        if here != self._present:
            self._next_at = now + ATTENDANCE_SECONDS
        for ids, what in (
            (here - self._present, "joined"),
            (said, "left"),
            (self._present - here - said, "lost the connection"),
        ):
            if ids:
                yield f"{_named(ids)} {what}; {len(here)} of other machines are here."
        self._present = here


class Desertion:
    """Measures how long no worker has been connected after one that could not work had to leave.

    That one may be started again, or others may come. If any worker has stepped since then, there
    is no desertion: it may come back whenever it likes.
    """

    def __init__(self) -> None:
        self._departures, self._steps, self._since = 0, 0, 0.0

    def seconds(self, workers: Sequence[WorkerStatus], departures: int, now: float) -> float:
        """Seconds of desertion; 0 while there is none.

        Args:
            workers: all that ever joined.
            departures: how often a worker has left because it cannot work, or was sent away.
            now: in seconds of a monotonic clock.
        """
        steps = sum(each.env_steps for each in workers)
        if departures != self._departures:
            self._departures, self._steps, self._since = departures, steps, now
        if not departures or steps != self._steps or any(each.alive for each in workers):
            self._since = now
        return now - self._since


def _named(ids: set[int]) -> str:
    """Workers by their ids, consecutive ones as a range."""
    ranges: list[list[int]] = []
    for each in sorted(ids):
        if ranges and ranges[-1][-1] == each - 1:
            ranges[-1].append(each)
        else:
            ranges.append([each])
    shown = (str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in ranges)
    return f"Worker{'s' * (len(ids) > 1)} {', '.join(shown)}"
