"""Which worker runs which evaluation episodes, and who has kept them for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft_workers import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqlft.gateway.evaluation_queue import EvaluationQueue
    from iqlft.gateway.roster import Roster, Session


class Assignments:
    """The evaluation episodes that sessions have; each session holds its own.

    Args:
        queue: of the episodes that wait, and of what has come.
        roster: who works.
        one_worker: whether the first worker alone evaluates.
    """

    def __init__(self, queue: EvaluationQueue, roster: Roster, *, one_worker: bool) -> None:
        self._queue, self._roster, self._one_worker = queue, roster, one_worker

    def give(self, now: float) -> Iterator[tuple[Session, messages.Evaluate]]:
        """Gives episodes to who is free, those too that another has kept for too long.

        Yields:
            Who is to be told of what.
        """
        ready = [
            session
            for session in self._roster.ready
            if not self._one_worker or session.worker_id == 0
        ]
        for session in ready:
            if now - session.evaluating_since > self._queue.deadline_seconds:
                self.withhold(session)
        # Whoever withholds is given no more until it has brought what it has.
        ids = {session.worker_id for session in ready if not session.withholds}
        for session in ready:
            if session.assignment is not None:
                continue
            if (assignment := self._queue.assign(session.worker_id, ids)) is not None:
                session.assignment, session.undone = assignment, set(assignment.indices)
                session.evaluating_since = session.progressed_at = now
                yield session, assignment

    def take(
        self, session: Session, message: messages.Evaluation | messages.Discarded, now: float
    ) -> None:
        """Takes the result of an episode from the session that it was assigned to.

        Raises:
            ResultError: it is not possible.
        """
        assignment, place = session.assignment, message.index
        if assignment is None or assignment.evaluation != message.evaluation:
            return  # It was asked of another, or in another session.
        if session.phase == "ready" and place in session.undone:
            seconds = now - session.evaluating_since
            discarded = isinstance(message, messages.Discarded)
            self._queue.record(assignment, place, message.result, seconds, discarded=discarded)
            session.undone.remove(place)
            session.evaluating_since = session.progressed_at = now
            if not session.undone:
                session.assignment, session.withholds = None, False

    def withhold(self, session: Session) -> None:
        """Lets others run a session's episodes; what it brings still counts if it is the first."""
        if session.assignment is not None and not session.withholds:
            session.withholds = True
            self._queue.requeue(session.assignment, session.worker_id)

    def release(self, session: Session) -> None:
        """Lets others run the episodes of a session that is lost."""
        if session.assignment is not None and not session.withholds:
            self._queue.requeue(session.assignment)
        session.assignment, session.withholds = None, False
