"""Watchdog over the workers: which are silent, stuck, or far slower than the others."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from iqlft.config.settings import MachineConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.gateway.roster import WorkerStatus

SILENT_SECONDS = 15.0
"""Silence after which a lost worker counts as hanging or cut off."""
PATIENCE_SECONDS: float = MachineConfig.patience
"""How long a simulator may load, reset or step: a worker that should work, but whose environment
finishes no call for this long, is stuck.
"""
SLOW_FACTOR = 5.0
"""A worker this many times slower than the others' median is slow."""


class Incident(NamedTuple):
    """A worker to be replaced, or at least named.

    Attributes:
        worker_id: its id.
        reason: what is wrong with it, to be shown after its name.
        seconds: how long that has lasted.
        hangs: whether the worker answers but its environment does not.
    """

    worker_id: int
    reason: str
    seconds: float = 0.0
    hangs: bool = False


class Watchdog:
    """Reports what is wrong with a worker once while it lasts, and slowness once per worker id.

    Speeds are what workers report, which must not get a worker replaced again and again.

    Args:
        patience_seconds: see `PATIENCE_SECONDS`.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._unwell: set[str] = set()
        self._slow: set[int] = set()

    def check(self, workers: Sequence[WorkerStatus]) -> list[Incident]:
        """Checks the workers.

        Args:
            workers: all that ever joined.

        Returns:
            The new incidents.
        """
        reasons = {worker.session: self._reason(worker) for worker in workers}
        unwell = {session for session, reason in reasons.items() if reason}
        new, self._unwell = unwell - self._unwell, unwell
        found = []
        for worker in workers:
            reason = reasons[worker.session] if worker.session in new else ""
            hangs = bool(reason) and worker.state != "lost"
            if not reason and worker.worker_id not in self._slow:
                reason = _slowness(worker, workers)
                self._slow.update({worker.worker_id} if reason else ())
            if reason:
                found.append(Incident(worker.worker_id, reason, _idle_seconds(worker), hangs))
        return found

    def _reason(self, worker: WorkerStatus) -> str:
        if worker.state == "lost":
            silence = worker.seconds_since_message
            return f"has been silent for {silence:.0f} s" if silence > SILENT_SECONDS else ""
        idle, patience = worker.seconds_without_progress, self._patience_seconds
        if worker.state == "waiting" or idle <= patience:
            return ""
        what = "built its environment" if worker.state == "starting" else "stepped"
        return f"answers, but has not {what} for {idle:.0f} s (--patience {patience:g})"


def _idle_seconds(worker: WorkerStatus) -> float:
    if worker.state == "lost":
        return worker.seconds_since_message
    return 0.0 if worker.state == "waiting" else worker.seconds_without_progress


def _slowness(worker: WorkerStatus, workers: Sequence[WorkerStatus]) -> str:
    speeds = [w.speed for w in workers if w.alive and w is not worker and w.speed is not None]
    if worker.state != "lost" and worker.speed is not None and speeds:
        usual = statistics.median(speeds)
        if worker.speed * SLOW_FACTOR < usual:
            return f"makes {worker.speed:.0f} steps/s, but the others {usual:.0f}"
    return ""
