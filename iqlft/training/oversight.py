"""What goes wrong around a learner: workers that die, hang or lag, a journal on a full disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iqlft.gateway import watchdog
from iqlft.gateway.attendance import Desertion
from iqlft.gateway.journal import JournalError
from iqlft.runs.errors import command
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from iqlft.gateway.counts import Tally
    from iqlft.gateway.gateway import Gateway
    from iqlft.gateway.roster import WorkerStatus
    from iqlft_workers.launchers.local import WorkerPool

REFUSALS_SECONDS = 60.0
"""Least time between two reports of refused batches, episodes left or workers that failed, so that
many do not fill the metrics."""
REPEAT_SECONDS = 600.0
"""Least time between two incidents of one worker of another machine, so that it fills no log."""
JOURNAL_SECONDS = 600.0
"""How long a run waits for a journal that cannot be written; then it stops, to be resumed."""

DESERTED_SECONDS = 60.0
"""How long a run goes on after all its workers, none of them local, have given up."""


class DesertedError(UserError):
    """No worker can work, none of them is local, and no other one joins."""


class _Told:
    """Counted events: the first is reported at once, later ones every `REFUSALS_SECONDS`."""

    def __init__(self) -> None:
        self._count, self._at = 0, 0.0

    def news(self, tally: Tally, what: str, now: float) -> Iterator[str]:
        """The newest event's sentence, with how many came before it since the last report."""
        if tally.total == self._count or now < self._at:
            return
        more = tally.total - self._count - 1
        self._count, self._at = tally.total, now + REFUSALS_SECONDS
        yield tally.sentence + (f" {more:,} more {what} before it." if more else "")


class Oversight:
    """Watches the workers and the journal of one run.

    Args:
        gateway: the run's gateway.
        pool: its local workers, which are replaced where they do not work.
        folder: the run folder.
        patience_seconds: how long a call of an environment may last.
    """

    def __init__(
        self,
        gateway: Gateway,
        pool: WorkerPool,
        folder: Path,
        patience_seconds: float = watchdog.PATIENCE_SECONDS,
    ) -> None:
        self._gateway, self._pool, self._folder = gateway, pool, folder
        self._watchdog = watchdog.Watchdog(patience_seconds)
        self._journal_error, self._since = "", 0.0
        self._refused, self._discarded, self._failed = _Told(), _Told(), _Told()
        self._desertion = Desertion()
        self._quiet: dict[int, float] = {}

    def incidents(self, workers: Sequence[WorkerStatus]) -> Iterator[str]:
        """What has gone wrong since the last call, one sentence each; to be called often.

        Raises:
            JournalError: the journal could not be written for too long; nothing is lost.
            WorkerError: a local worker cannot do the work, or keeps dying.
            DesertedError: workers of other machines cannot work, and there are no others.
        """
        now, counts = time.monotonic(), self._gateway.counts()
        for incident in self._watchdog.check(workers):
            if not self._pool.replace(incident.worker_id, incident.reason, incident.seconds):
                yield from self._handle_remote(incident, now)
        yield from self._pool.watch()
        yield from self._refused.news(counts.refused_batches, "were refused", now)
        yield from self._discarded.news(counts.discarded, "were left", now)
        if not self._pool.num_workers:  # About local workers the pool knows more.
            yield from self._failed.news(counts.failed, "left so", now)
            departed = counts.departures
            if self._desertion.seconds(workers, departed.total, now) > DESERTED_SECONDS:
                raise DesertedError(
                    f"{departed.sentence.rstrip('.')}; no other worker has come for "
                    f"{DESERTED_SECONDS:.0f} s. Mend that where the workers run, start them again, "
                    f"and continue with {command('resume', self._folder)}."
                )
        yield from self._journal_incidents(self._gateway.journal_error(), now)

    def _handle_remote(self, incident: watchdog.Incident, now: float) -> Iterator[str]:
        """Names a worker of another machine, and tells it to leave if its environment hangs."""
        told = ", and was told to leave" if incident.hangs else ""
        if now >= self._quiet.get(incident.worker_id, now):
            self._quiet[incident.worker_id] = now + REPEAT_SECONDS
            yield f"Worker {incident.worker_id} {incident.reason}{told}."
        if incident.hangs:
            self._gateway.dismiss(incident.worker_id, incident.reason)

    def _journal_incidents(self, error: str, now: float) -> Iterator[str]:
        journal = f"The journal of {self._folder}"
        if error and not self._journal_error:
            self._since = now
        elif error and now - self._since > JOURNAL_SECONDS:
            raise JournalError(
                f"{journal} could not be written for {JOURNAL_SECONDS / 60:.0f} minutes "
                f"({error}); nothing that was acknowledged is lost: free some space, then continue "
                f"with {command('resume', self._folder)}."
            )
        if error != self._journal_error:
            self._journal_error = error
            yield (
                f"{journal} cannot be written ({error}): the workers wait, nothing is lost, and "
                "the run goes on when it can be written again."
                if error
                else f"{journal} is written again."
            )
