"""Which worker runs which evaluation episodes, and who has kept them for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft_workers import messages

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from iqlft.gateway.evaluation_queue import EvaluationQueue
    from iqlft.gateway.roster import Roster, Session


class Assignments:
    """Assigns evaluation episodes to sessions; each session holds its own assignment.

    Args:
        queue: of the waiting episodes and the results.
        roster: who works.
        one_worker: whether worker 0 alone evaluates.
    """

    def __init__(self, queue: EvaluationQueue, roster: Roster, *, one_worker: bool) -> None:
        self._queue, self._roster, self._one_worker = queue, roster, one_worker

    def give(
        self, now: float, unread: Container[bytes]
    ) -> Iterator[tuple[Session, messages.Evaluate]]:
        """Assigns episodes to free sessions, including those that others kept for too long.

        Args:
            now: in seconds of a monotonic clock.
            unread: routes of connections with weights on their way, which get no more yet.

        Yields:
            A session, and the EVALUATE message for it.
        """
        ready = [
            session
            for session in self._roster.ready
            if not self._one_worker or session.worker_id == 0
        ]
        for session in ready:
            if now - session.evaluating_since > self._queue.deadline_seconds:
                self.withhold(session)
        # A worker that withholds episodes gets no others until it has delivered them.
        ids = {session.worker_id for session in ready if not session.withholds}
        for session in ready:
            if session.assignment is not None or session.route in unread:
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
            ResultError: the result is not possible.
        """
        assignment, place = session.assignment, message.index
        if assignment is None or assignment.evaluation != message.evaluation:
            return  # It was assigned to another session.
        if session.phase == "ready" and place in session.undone:
            seconds = now - session.evaluating_since
            discarded = isinstance(message, messages.Discarded)
            self._queue.record(assignment, place, message.result, seconds, discarded=discarded)
            session.undone.remove(place)
            session.evaluating_since = session.progressed_at = now
            if not session.undone:
                session.assignment, session.withholds = None, False

    def withhold(self, session: Session) -> None:
        """Lets others run a session's episodes; its own results still count if they are first."""
        if session.assignment is not None and not session.withholds:
            session.withholds = True
            self._queue.requeue(session.assignment, session.worker_id)

    def release(self, session: Session) -> None:
        """Lets others run the episodes of a session that is lost."""
        if session.assignment is not None and not session.withholds:
            self._queue.requeue(session.assignment)
        session.assignment, session.withholds = None, False
