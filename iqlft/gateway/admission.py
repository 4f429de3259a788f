"""Admission control: which workers may join, under which id, and what they are told first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import iqlft_workers
from iqlft.gateway.rate_limit import SessionLimiter
from iqlft.gateway.roster import Roster, Session
from iqlft_workers import messages
from iqlft_workers.messages import RejectCode
from iqlft_workers.wire import HeaderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqlft.gateway.ledger import WorkerProgress
    from iqlft.gateway.service import Service

LONGEST_NAME = 36
"""The most characters of a session's name: those of a uuid."""


class Rejection(Exception):  # noqa: N818  # not a fault of the program, but an answer
    """A worker is rejected.

    Args:
        code: of the REJECT message.
        sentence: what is wrong and what to do.
    """

    def __init__(self, code: RejectCode, sentence: str) -> None:
        super().__init__(sentence)
        self.message = messages.Reject(code, sentence)


class Admission:
    """Admission control: decides on HELLO and READY.

    Args:
        service: what is offered.
        weights_port: where weights are published.
        keyed: whether connections have keys, so that an id can be proved.
        roster: who works already.
        ping: sends a worker a PING and returns its number.
    """

    def __init__(
        self,
        service: Service,
        weights_port: int,
        roster: Roster,
        ping: Callable[[Session], int],
        *,
        keyed: bool,
    ) -> None:
        self._service, self._roster, self._ping = service, roster, ping
        self._weights_port, self._keyed = weights_port, keyed
        self._limiter = SessionLimiter()

    def admit(self, route: bytes, hello: messages.Hello, now: float) -> Session | None:
        """A session for a worker that is not known.

        Returns:
            The session; None while that is undecided, and the worker will say HELLO again.

        Raises:
            Rejection: another package version, no free place, or an id that is taken.
            HeaderError: the session's name is longer than a uuid.
        """
        # Names are remembered, in the journal too.
        if len(hello.session) > LONGEST_NAME:
            raise HeaderError(f"A session's name has at most {LONGEST_NAME} characters.")
        if hello.package != iqlft_workers.__version__:
            raise Rejection(
                RejectCode.VERSION,
                f"This worker has iqlft {hello.package[:40]!r}, the learner "
                f"{iqlft_workers.__version__}; install the same version on both.",
            )
        worker_id = self._roster.assign_id(hello.worker_id)
        if worker_id is None:
            raise Rejection(RejectCode.FULL, self._full())
        holder = self._roster.holder(worker_id)
        if holder is not None:
            self._challenge(holder)
            return None
        if not self._limiter.may_begin(worker_id, now):
            return None
        last = self._roster.last_sequence(hello.session)
        return Session(worker_id, hello.session, route, began_at=now, sequence=last)

    def _full(self) -> str:
        served, local = self._service.num_workers, self._service.local_workers
        own = f", of which {local} are its own" if local else ""
        return (
            f"The learner serves {served} workers{own}, with the ids 0 to {served - 1}, and has no "
            "place for this one; start the learner with more --remote-workers."
        )

    def authenticate(
        self, hello: messages.Hello, known: Session | None, authenticated: int | None
    ) -> messages.Hello:
        """Checks that a HELLO comes from the worker that it names.

        Args:
            hello: what was said.
            known: the session that it names, if there is one.
            authenticated: the worker id that the connection's key stands for, if any.

        Returns:
            The HELLO, with the authenticated id if there is one.

        Raises:
            Rejection: it names another worker's id, or another worker's session.
        """
        for worker_id in (hello.worker_id, known.worker_id if known else None):
            if authenticated is None:
                self._require_unreserved(worker_id)
            elif worker_id not in {None, authenticated}:
                raise Rejection(
                    RejectCode.UNAUTHORISED,
                    f"This key is that of worker {authenticated}, not of worker {worker_id}; start "
                    "the worker with its own key, or without --worker-id.",
                )
        return hello if authenticated is None else replace(hello, worker_id=authenticated)

    def _require_unreserved(self, worker_id: int | None) -> None:
        """Reserves the ids of the learner's own workers for holders of their keys."""
        local = self._service.local_workers
        if self._keyed and worker_id in range(local):
            raise Rejection(
                RejectCode.RESERVED,
                f"The worker id {worker_id} is reserved: the learner's own workers have the ids "
                f"below {local}; start this worker without --worker-id, or with one from {local} "
                "on.",
            )

    def _challenge(self, holder: Session) -> None:
        """Pings a live session whose id a newcomer asks for.

        Mostly the newcomer is the same worker, killed and started again: the PING finds the old
        connection closed, and the next HELLO is welcome. If it is answered, that is a duplicate.
        """
        if holder.challenge is None:
            holder.challenge = self._ping(holder)
        elif holder.challenge == 0:
            holder.challenge = None
            raise Rejection(
                RejectCode.DUPLICATE,
                f"Another worker with the id {holder.worker_id} is at work; choose another id, or "
                "none to be given a free one.",
            )

    def welcome(self, session: Session, progress: WorkerProgress) -> messages.Welcome:
        """The WELCOME for a session.

        Args:
            session: that joins.
            progress: from where its worker continues.
        """
        service = self._service
        return messages.Welcome(
            run_id=service.run_id,
            worker_id=session.worker_id,
            last_sequence=session.sequence,
            environment=service.environment.to_dict(),
            seed=service.seed,
            episode=progress.episode,
            lockstep=service.lockstep,
            weights_port=self._weights_port,
            actions=progress.actions,
            one_environment=service.eval_environment == "training",
        )

    def check_environment(self, ready: messages.Ready) -> None:
        """Checks that a worker's environment fits.

        Raises:
            Rejection: its dimensions are not those of the layout.
        """
        layout = self._service.layout
        if (ready.observation_dim, ready.action_dim) != (layout.observation_dim, layout.action_dim):
            raise Rejection(
                RejectCode.ENVIRONMENT,
                f"{self._service.environment.id} has {ready.observation_dim} observation and "
                f"{ready.action_dim} action dimensions in the worker, but the learner expects "
                f"{layout.observation_dim} and {layout.action_dim}; check the task's environment "
                "and its observation_keys.",
            )
