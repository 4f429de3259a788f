"""How a batch gets in: it is checked, written to the journal, and counted, in this order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from iqlft.gateway.ledger import check_batch

if TYPE_CHECKING:
    from iqlft.gateway.admission import Service
    from iqlft.gateway.journal import Journal
    from iqlft.gateway.ledger import Ledger
    from iqlft.gateway.roster import Roster, Session
    from iqlft_workers.messages import Batch

RETRY_SECONDS = 1.0
"""A journal that could not be written is tried again after so long."""


class Ingestion:
    """Takes batches in.

    Args:
        service: what is offered, and so what batches must be like.
        ledger: counts them.

    Attributes:
        journal_error: why the journal cannot be written; empty while it can.
        retry_at: when it is to be tried again; infinite while it is not waited for.
    """

    def __init__(self, service: Service, ledger: Ledger) -> None:
        self._service, self._ledger = service, ledger
        self._journal: Journal | None = None
        self.journal_error, self.retry_at = "", math.inf

    def recover(self, journal: Journal, roster: Roster) -> None:
        """Goes on from what was accepted before, and writes there from now on.

        Args:
            journal: where batches are written before they are acknowledged.
            roster: learns of the sessions that there were.
        """
        self._journal = journal
        for worker_id, batch, end in journal.entries():
            session = roster.recover(worker_id, batch.session)
            session.sequence = batch.sequence
            session.add_accepted(len(batch.rewards))
            self._ledger.record(worker_id, batch, end, delivered=end <= journal.position)

    @property
    def blocked(self) -> bool:
        """Whether nothing is taken in, for the journal is waited for."""
        return self.retry_at < math.inf

    def ingest(self, session: Session, batch: Batch, newest_version: int, now: float) -> bool:
        """Takes in the next batch of a session.

        Args:
            session: whose it is.
            batch: as decoded.
            newest_version: of the weights published so far.
            now: seconds of a monotonic clock.

        Returns:
            Whether it is in; if not, the worker keeps it, and is to be asked for it at `retry_at`.

        Raises:
            BatchError: it cannot be learned from.
        """
        newest = self._service.last_version if session.recovered else newest_version
        check_batch(batch, self._service.layout, newest)
        try:
            end = 0 if self._journal is None else self._journal.append(session.worker_id, batch)
        except OSError as error:
            self.journal_error, self.retry_at = error.strerror or str(error), now + RETRY_SECONDS
            return False
        self.journal_error = ""
        self._ledger.record(session.worker_id, batch, end)
        session.sequence = batch.sequence
        session.version = int(batch.versions[-1])
        session.add_accepted(len(batch.rewards))
        session.record_speed(len(batch.rewards), batch.stepping_seconds, now)
        return True

    def retry_due(self, now: float) -> bool:
        """Whether it is time to ask for what could not be written, once."""
        due = now >= self.retry_at
        if due:
            self.retry_at = math.inf
        return due
