"""Watchdog over the workers: which are silent, stuck, or far slower than the others."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.gateway.roster import WorkerStatus

SILENT_SECONDS = 15.0
"""A worker that is lost, and heard nothing of for so long, hangs or is cut off."""
STUCK_SECONDS = 60.0
"""A worker that answers, but has not stepped for so long although it should, is stuck."""
SLOW_FACTOR = 5.0
"""A worker that is so many times slower than the others is slow."""


class Incident(NamedTuple):
    """A worker to be replaced, or at least named.

    Attributes:
        worker_id: its id.
        reason: what is wrong with it, to be said after its name.
        seconds: for how long it has been so.
    """

    worker_id: int
    reason: str
    seconds: float = 0.0


class Watchdog:
    """Reports each session of a worker at most once, and that it is slow only once for all of them.

    How fast the others are is what they say: that shall not have a worker replaced for ever.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._slow: set[int] = set()

    def check(self, workers: Sequence[WorkerStatus]) -> list[Incident]:
        """Checks the workers.

        Args:
            workers: all that ever joined.

        Returns:
            The new incidents.
        """
        found = []
        for worker in workers:
            reason = "" if worker.session in self._known else _reason(worker)
            if not reason and worker.worker_id not in self._slow:
                reason = _slowness(worker, workers)
                self._slow.update({worker.worker_id} if reason else ())
            if reason:
                self._known.add(worker.session)
                silence = worker.seconds_since_message if worker.state == "lost" else 0.0
                found.append(Incident(worker.worker_id, reason, silence))
        return found


def _reason(worker: WorkerStatus) -> str:
    if worker.state == "lost":
        silence = worker.seconds_since_message
        return f"has been silent for {silence:.0f} s" if silence > SILENT_SECONDS else ""
    idle = worker.seconds_without_progress
    if worker.state != "waiting" and idle > STUCK_SECONDS:
        return f"answers, but has not stepped for {idle:.0f} s"
    return ""


def _slowness(worker: WorkerStatus, workers: Sequence[WorkerStatus]) -> str:
    speeds = [w.speed for w in workers if w.alive and w is not worker and w.speed is not None]
    if worker.state != "lost" and worker.speed is not None and speeds:
        usual = statistics.median(speeds)
        if worker.speed * SLOW_FACTOR < usual:
            return f"makes {worker.speed:.0f} steps/s, but the others {usual:.0f}"
    return ""
