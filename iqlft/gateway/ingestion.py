"""Ingestion of batches: validated, written ahead to the journal, and counted, in this order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from iqlft.datasets.value_bounds import extremes
from iqlft.gateway.counts import Tally
from iqlft.gateway.plausibility import EpisodeLimits, ResultError, check_result
from iqlft.gateway.records import Entry
from iqlft_workers.text import printable
from iqlft_workers.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.datasets.value_bounds import ValueBounds
    from iqlft.gateway.journal import Journal
    from iqlft.gateway.ledger import Ledger
    from iqlft.gateway.roster import Roster, Session
    from iqlft.gateway.service import Service
    from iqlft_workers.episode import EpisodeResult
    from iqlft_workers.messages import Batch, Discarded
    from iqlft_workers.transition import RowLayout
    from iqlft_workers.wire import Frame

RETRY_SECONDS = 1.0
"""Pause before a journal that could not be written is tried again."""


MAX_BATCH = 1024
"""The most transitions in a batch."""


class BatchError(WireError):
    """A batch whose content cannot be learned from."""


def check_batch(
    batch: Batch, layout: RowLayout, newest_version: int, bounds: ValueBounds | None = None
) -> None:
    """Refuses what must not reach the replay.

    Args:
        batch: as decoded, its dtypes and byte lengths checked.
        layout: the dimensions that the learner expects.
        newest_version: of the weights published so far.
        bounds: limits on the values; None: any finite values.

    Raises:
        BatchError: a shape, a value or a version is not possible.
    """
    count = len(batch.rewards)
    wide, narrow = (count, layout.observation_dim), (count, layout.action_dim)
    expected = (wide, narrow, (count,), wide, (count,), (count,), (count,))
    if not 1 <= count <= MAX_BATCH:
        raise BatchError(f"A batch has 1 to {MAX_BATCH} transitions, not {count}.")
    if tuple(array.shape for array in batch.transitions) != expected:
        raise BatchError(f"The arrays of a batch of {count} do not fit {layout}.")
    names = ("observations", "actions", "rewards", "next_observations")
    found = {name: extremes(getattr(batch, name)) for name in names}
    for name, (least, greatest) in found.items():
        if not (math.isfinite(least) and math.isfinite(greatest)):
            raise BatchError(f"The {name} are not all finite: the simulation may have diverged.")
    if bounds is not None and (violation := bounds.violation_of(found)):
        raise BatchError(f"The {violation}: the simulation may have diverged.")
    if not -1 <= found["actions"].least <= found["actions"].greatest <= 1:
        raise BatchError("An action lies outside [-1, 1].")
    if (version := int(batch.versions.max())) > newest_version:
        raise BatchError(f"Version {version} has not been published yet.")
    # Once the batch is accepted, the worker's speed is computed from its stepping time.
    if not 0 <= batch.stepping_seconds < math.inf:
        raise BatchError("A time is not a finite number.")


class Ingestion:
    """Ingests batches.

    Args:
        service: what is offered, and so what batches must look like.
        ledger: counts them.
        limits: of an episode.

    Attributes:
        journal_error: why the journal cannot be written; empty while it can.
        retry_at: when to try the journal again; infinite while no retry is pending.
        refused: batches that could not be learned from.
        discarded: training episodes that ended at a value that is not finite.
    """

    def __init__(self, service: Service, ledger: Ledger, limits: EpisodeLimits) -> None:
        self._service, self._ledger = service, ledger
        self._limits = limits
        self._journal: Journal | None = None
        self.journal_error, self.retry_at = "", math.inf
        self.refused = self.discarded = Tally()

    def recover(self, journal: Journal, roster: Roster, env_steps: int | None = None) -> None:
        """Recovers what was accepted before from a journal, and appends to it from now on.

        Args:
            journal: where batches are written before they are acknowledged.
            roster: the recovered sessions are added to it.
            env_steps: delivered up to the checkpoint; None: all in the journal up to its position.
        """
        self._journal = journal
        uncertain: set[str] = set()
        for record in journal.records():
            if (name := record.name) is None:
                continue
            session = roster.recover(name.worker_id, name.session)
            if name.sequence > session.sequence + 1:
                uncertain.add(name.session)
            session.sequence = name.sequence
            session.credit.accept(name.steps)
            learned = record.end <= journal.position
            if isinstance(record, Entry):
                self._ledger.record(name.worker_id, record.batch, record.end, delivered=learned)
            else:
                self._ledger.forgo(name)
        if env_steps is not None:
            self._ledger.settle(env_steps, journal.position)
        for uuid in uncertain:
            # How many steps the session took is unknown, so its worker must begin a new one.
            roster.forget(uuid)

    @property
    def blocked(self) -> bool:
        """Whether no batch is ingested, because a retry of the journal is pending."""
        return self.retry_at < math.inf

    def check(self, session: Session, batch: Batch, newest_version: int) -> None:
        """Refuses a batch that cannot be learned from, and counts the refusal.

        Args:
            session: whose it is.
            batch: as decoded.
            newest_version: of the weights published so far.

        Raises:
            BatchError: it is refused.
        """
        try:
            self._check(session, batch, newest_version)
        except BatchError as error:
            self.refused = self.refused.add(
                f"Batch {batch.sequence} of worker {session.worker_id}, of its episode "
                f"{batch.episode}, is refused, and nothing of it is recorded: {error}"
            )
            raise

    def _check(self, session: Session, batch: Batch, newest_version: int) -> None:
        service = self._service
        # The previous learner may have published newer weights.
        newest = max(newest_version, service.last_version if session.recovered else 0)
        check_batch(batch, service.layout, newest, service.bounds)
        self._check_episode(batch.episode, self._ledger.progress(session.worker_id).episode)
        self._check_finished(batch.finished)

    def ingest(self, session: Session, batch: Batch, frames: Sequence[Frame], now: float) -> bool:
        """Ingests the next batch of a session.

        Args:
            session: whose it is.
            batch: checked.
            frames: of its message, for the journal.
            now: seconds of a monotonic clock.

        Returns:
            Whether it is in; if not, the worker keeps it, to be requested again at `retry_at`.
        """
        try:
            end = self._journal.append(session.worker_id, frames) if self._journal else 0
        except OSError as error:
            self.journal_error, self.retry_at = error.strerror or str(error), now + RETRY_SECONDS
            return False
        self.journal_error = ""
        self._ledger.record(session.worker_id, batch, end)
        session.sequence = batch.sequence
        session.version = int(batch.versions[-1])
        session.credit.accept(len(batch.rewards))
        session.record_speed(len(batch.rewards), batch.stepping_seconds, now)
        return True

    def _check_episode(self, episode: int, next_episode: int) -> None:
        """Refuses an index that skips episodes, so that no batch uses up a worker's numbers.

        Raises:
            BatchError: the episode is neither the worker's next one, nor one that has begun.
        """
        first = next_episode if self._service.lockstep else 0
        if not first <= episode <= next_episode:
            raise BatchError(f"Episode {episode} is not the worker's next, {next_episode}.")

    def _check_finished(self, result: EpisodeResult | None) -> None:
        """Refuses a result that no episode can have.

        Raises:
            BatchError: the episode cannot have come to this.
        """
        try:
            if result is not None:
                check_result(result, self._limits)
        except ResultError as error:
            raise BatchError(str(error)) from error

    def discard(self, session: Session, message: Discarded) -> None:
        """Counts, only once, a training episode that ended at a value that is not finite.

        A worker repeats the message after a reconnection, until it knows that it has arrived.
        """
        self._ledger.skip(session.worker_id, message.index)
        if message.index <= session.discarded:
            return
        session.discarded = message.index
        steps = min(max(message.dropped, 0), MAX_BATCH)
        self.discarded = self.discarded.add(
            f"An episode of worker {session.worker_id} is left, and {steps} of its steps are "
            f"dropped: {printable(message.sentence):.400}",
            steps,
        )

    def retry_due(self, now: float) -> bool:
        """Whether it is time to request what could not be written; true once per failure."""
        due = now >= self.retry_at
        if due:
            self.retry_at = math.inf
        return due
