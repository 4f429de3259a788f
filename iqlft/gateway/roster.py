"""The roster of workers: sessions by worker id, by uuid and by connection."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

from iqlft.gateway.credit import Credit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqlft_workers.messages import Evaluate

SPEED_STEPS = 256
"""Accepted steps after which a worker's speed is known."""
SPEED_SHARE = 0.1
"""Weight of the newest batch in a worker's speed."""
RATE_SECONDS = 5.0
"""The period over which `steps_per_second` is measured."""
BEGIN_ANEW = 2**31 - 1
"""The last sequence that a worker is told which cannot continue its session: it never sent it."""

WorkerState = Literal["starting", "stepping", "waiting", "evaluating", "lost"]
"""What a worker does, as far as the learner knows."""


class WorkerStatus(NamedTuple):
    """A worker as the learner sees it.

    Attributes:
        worker_id: its id.
        alive: whether it is connected.
        env_steps: accepted from it over the whole run.
        steps_per_second: over the last five seconds.
        version: of the weights that it acted with last; -1 before its first transition.
        seconds_since_message: since its last message; 0 if this learner has had none, or the worker
            has said goodbye or was sent away.
        state: what it does.
        session: uuid of its session.
        seconds_without_progress: since it last made progress, or had nothing to do.
        speed: steps per second of stepping, without waits; None before `SPEED_STEPS` steps.
    """

    worker_id: int
    alive: bool
    env_steps: int
    steps_per_second: float
    version: int
    seconds_since_message: float
    state: WorkerState
    session: str
    seconds_without_progress: float
    speed: float | None


@dataclass(eq=False)
class Session:
    """One start of a worker.

    Attributes:
        worker_id: its id.
        uuid: of the session.
        route: routing id of its connection; empty before it has joined this learner.
        began_at: when it was made, in seconds of a monotonic clock.
        heard_at: when its last message came; None if it has said goodbye or was sent away, or has
            worked only for the previous learner so far.
        phase: *joining* (welcomed), *ready* (its environment fits) or *lost* (gone or silent).
        sequence: the last batch accepted.
        version: of the weights that it acted with last.
        ack_due: whether it waits for an ACK.
        pinged_at: when it was last asked whether it is there.
        challenge: number of the PING that a newcomer with the same id made necessary; None if
            there is none, 0 if it was answered.
        sent_weights: the weights that were last sent over its connection.
        weights_due: whether to send newer ones once it has read those.
        assignment: evaluation episodes that it was assigned.
        undone: places of the assigned episodes that have no result yet.
        evaluating_since: when they were assigned, or the last result came.
        withholds: whether it has kept them for too long, so that others run them too.
        history: (time, steps accepted) of its newest batches.
        steps: calls of its environments that it has reported, in training and evaluation.
        progressed_at: when it last made progress, or had nothing to do.
        stepped: steps and the seconds that they took, the newest weighing most.
        discarded: index of the last training episode that it has discarded; -1 before the first.
        recovered: whether it began under the previous learner, so that its weights may be newer
            than any published since.
        credit: its environment steps, accepted and allowed.
    """

    worker_id: int
    uuid: str
    route: bytes
    began_at: float
    heard_at: float | None = None
    phase: Literal["joining", "ready", "lost"] = "lost"
    sequence: int = 0
    version: int = -1
    ack_due: bool = False
    pinged_at: float = 0.0
    challenge: int | None = None
    sent_weights: bytes = b""
    weights_due: bool = False
    assignment: Evaluate | None = None
    undone: set[int] = field(default_factory=set)
    evaluating_since: float = 0.0
    withholds: bool = False
    history: deque[tuple[float, int]] = field(default_factory=deque)
    steps: int = 0
    progressed_at: float = 0.0
    stepped: tuple[float, float] = (0.0, 0.0)
    discarded: int = -1
    recovered: bool = False
    credit: Credit = field(default_factory=Credit)

    @property
    def state(self) -> WorkerState:
        """What the worker does, as far as the learner knows."""
        if self.phase != "ready":
            return "lost" if self.phase == "lost" else "starting"
        if self.assignment is not None:
            return "evaluating"
        return "stepping" if self.credit.outstanding else "waiting"

    @property
    def speed(self) -> float | None:
        """Steps per second while it steps; None before `SPEED_STEPS` of them."""
        steps, seconds = self.stepped
        known = self.credit.accepted >= SPEED_STEPS and seconds > 0
        return steps / seconds if known else None

    def expire_credit(self, now: float) -> bool:
        """Takes back credit that it does not use; returns whether there was any."""
        if self.assignment is not None and not self.withholds:
            self.credit.mark(now)  # It is busy with its evaluation, as it should be.
        return self.credit.expire(now)

    def record_speed(self, steps: int, stepping_seconds: float, now: float) -> None:
        """Records how fast the worker is, from accepted steps."""
        self.progressed_at = now
        self.history.append((now, steps))
        self._forget_history(now)
        self.stepped = (
            (1 - SPEED_SHARE) * self.stepped[0] + steps,
            (1 - SPEED_SHARE) * self.stepped[1] + stepping_seconds,
        )

    def record_steps(self, steps: int, now: float) -> None:
        """Records how many calls of its environments the worker reports."""
        if steps != self.steps or self.state == "waiting":
            self.steps, self.progressed_at = steps, now

    def status(self, env_steps: int, now: float) -> WorkerStatus:
        """The worker as it is shown, given the steps accepted from it over the whole run."""
        return WorkerStatus(
            self.worker_id,
            alive=self.phase != "lost",
            env_steps=env_steps,
            steps_per_second=self.steps_per_second(now),
            version=self.version,
            seconds_since_message=self.silence(now),
            state=self.state,
            session=self.uuid,
            seconds_without_progress=now - self.progressed_at,
            speed=self.speed,
        )

    def silence(self, now: float) -> float:
        """Seconds since its last message; 0 if `heard_at` is None."""
        return 0.0 if self.heard_at is None else now - self.heard_at

    def _forget_history(self, now: float) -> None:
        while self.history and self.history[0][0] < now - RATE_SECONDS:
            self.history.popleft()

    def steps_per_second(self, now: float) -> float:
        """Steps accepted per second lately."""
        self._forget_history(now)
        span = min(RATE_SECONDS, max(1.0, now - self.began_at))
        return sum(steps for _, steps in self.history) / span


class Roster:
    """The newest session of every worker id.

    Args:
        num_workers: ids from 0 to `num_workers - 1` are served.
        local_workers: this many of the first ids are given only to workers that ask for them.
    """

    def __init__(self, num_workers: int, local_workers: int = 0) -> None:
        self._num_workers, self._local_workers = num_workers, local_workers
        self._sessions: dict[int, Session] = {}
        self._routes: dict[bytes, Session] = {}
        self._replaced: set[str] = set()

    def __iter__(self) -> Iterator[Session]:
        """Sessions by worker id, the lost ones too."""
        return iter([self._sessions[worker_id] for worker_id in sorted(self._sessions)])

    @property
    def alive(self) -> list[Session]:
        """Sessions that are joining or ready."""
        return list(self._routes.values())

    @property
    def ready(self) -> list[Session]:
        """Sessions that may work."""
        return [session for session in self._routes.values() if session.phase == "ready"]

    def at(self, route: bytes) -> Session | None:
        """The living session of a connection."""
        return self._routes.get(route)

    def known(self, uuid: str) -> Session | None:
        """The session of this uuid, if it is still the newest of its worker id."""
        return next((s for s in self._sessions.values() if s.uuid == uuid), None)

    def recover(self, worker_id: int, uuid: str) -> Session:
        """The session of this uuid, a new one in the phase *lost* if it is unknown."""
        session = self.known(uuid)
        if session is None:
            session = Session(worker_id, uuid, b"", began_at=0.0, recovered=True)
            self._take_id(session)
        return session

    def forget(self, uuid: str) -> None:
        """Forgets a session that cannot be continued: its worker comes back as a newcomer."""
        if (session := self.known(uuid)) is not None:
            del self._sessions[session.worker_id]
            self._replaced.add(uuid)

    def last_sequence(self, uuid: str) -> int:
        """What a newcomer is told of a session that it says to be in: 0 if nothing is known of it.

        Its batches may have been accepted before its id was another worker's. How far is not
        known, so it must not send them again.
        """
        return BEGIN_ANEW if uuid in self._replaced else 0

    def _take_id(self, session: Session) -> None:
        before = self._sessions.get(session.worker_id)
        if before is not None and before is not session and before.sequence:
            self._replaced.add(before.uuid)
        self._sessions[session.worker_id] = session

    def assign_id(self, wanted: int | None) -> int | None:
        """The worker id for a newcomer; None if there is none for it.

        A worker that asks for any id gets one that nobody has had, else the one heard longest ago,
        because a worker that is cut off for a moment comes back for its own.
        """
        if wanted is not None:
            return wanted if 0 <= wanted < self._num_workers else None
        ids = range(self._local_workers, self._num_workers)
        free = [worker_id for worker_id in ids if self.holder(worker_id) is None]
        return min(free, key=self._heard_at, default=None)

    def _heard_at(self, worker_id: int) -> float:
        """When the last holder of an id was heard; -inf if it will not come back for the id."""
        session = self._sessions.get(worker_id)
        if session is None or session.heard_at is None:
            # A session of the previous learner that has not joined this one yet is on its way.
            return math.inf if session and not session.route else -math.inf
        return session.heard_at

    def has_joined(self, worker_id: int) -> bool:
        """Whether an id has a session that has joined this learner, not just the previous one."""
        session = self._sessions.get(worker_id)
        return session is not None and session.route != b""

    def holder(self, worker_id: int) -> Session | None:
        """The living session that holds an id."""
        session = self._sessions.get(worker_id)
        return session if session and session.phase != "lost" else None

    def register(self, session: Session, route: bytes, now: float) -> None:
        """Registers a session that joins, or comes back over another connection."""
        session.route, session.heard_at, session.phase = route, now, "joining"
        session.challenge, session.progressed_at, session.sent_weights = None, now, b""
        before = self._sessions.get(session.worker_id)
        session.credit.begin(now, before.credit if before else None)
        self._take_id(session)
        self._routes[route] = session

    @property
    def outstanding(self) -> int:
        """Steps granted to ready workers whose transitions have not arrived yet."""
        return sum(session.credit.outstanding for session in self.ready)

    def grant_credit(self, total: int, limit: int) -> None:
        """Spreads credit over the workers that are ready, the most to those that have the least.

        A worker with more than half of the limit gets nothing yet, which saves most messages.

        Args:
            total: steps that may be outstanding at all workers together.
            limit: the most that may be outstanding at one worker.
        """
        held = [(session.credit.outstanding, session) for session in self.ready]
        room = total - sum(outstanding for outstanding, _ in held)
        if room <= 0:
            return
        low = [each for each in held if each[0] <= min(limit, each[1].credit.limit) // 2]
        low.sort(key=itemgetter(0), reverse=True)
        for index, (outstanding, session) in enumerate(low):
            limited = min(limit, session.credit.limit) - outstanding
            share = min(limited, room // (len(low) - index))
            if share > 0:
                session.credit.granted += share
                session.ack_due = True
                room -= share

    def excuse(self, seconds: float) -> None:
        """Does not count a time in which the learner itself was stopped, and heard nobody."""
        for session in self._sessions.values():
            session.progressed_at += seconds
            if session.heard_at is not None:
                session.heard_at += seconds

    def reap(self, session: Session) -> None:
        """Marks a session as lost, frees its connection and cancels its unused credit."""
        session.phase, session.ack_due = "lost", False
        session.credit.end()
        # Another session may have begun over the same connection since.
        if self._routes.get(session.route) is session:
            del self._routes[session.route]
