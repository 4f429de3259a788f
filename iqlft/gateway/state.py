"""The learner's side of IQLP/2 as a state machine: frames in, frames out, no sockets, no clock.

A worker's session goes from *joining* (welcomed) to *ready* (its environment fits) to *lost* (gone
or silent). A HELLO with the same uuid revives a lost session; another uuid replaces it.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from iqlft.gateway.admission import Admission, Rejection
from iqlft.gateway.assignments import Assignments
from iqlft.gateway.counts import Tally
from iqlft.gateway.credit import CREDIT
from iqlft.gateway.evaluation_queue import EvaluationJob, EvaluationQueue
from iqlft.gateway.ingestion import BatchError, Ingestion
from iqlft.gateway.ledger import Ledger
from iqlft.gateway.plausibility import EpisodeLimits, ResultError
from iqlft.gateway.rate_limit import MAX_BAD_MESSAGES, LimitedLog, RateLimiter
from iqlft.gateway.roster import Roster, Session
from iqlft_workers import messages
from iqlft_workers.messages import RejectCode
from iqlft_workers.text import printable
from iqlft_workers.wire import ProtocolVersionError, WireError, decode, encode, pack_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.gateway.journal import Journal
    from iqlft.gateway.roster import WorkerStatus
    from iqlft.gateway.service import Service
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.messages import Message
    from iqlft_workers.transition import Transitions
    from iqlft_workers.wire import Frame

PING_SECONDS = 1.0
"""Silence after which a worker is sent a PING."""
TIMER_SECONDS = 0.1
"""Interval between checks for silence and unused credit, which visit every worker."""
GRANT_SECONDS = 0.02
"""Interval between grants of credit, so that not every single step becomes a message."""

MAX_ROUTES = 1024
"""The most connections that are remembered as having unread weights on their way."""

LEAVING = messages.Reject(RejectCode.LATER, "The learner is leaving; wait until it is resumed.")
"""The answer to a HELLO that arrives while the learner of an unfinished run is leaving."""

_log = logging.getLogger(__name__)


class GatewayState:
    """Everything that a gateway knows.

    Args:
        service: what is offered.
        weights_port: where weights are published.
        keyed: whether connections have keys, so that an id can be proved.

    Attributes:
        outbox: routing ids and frames of what is to be sent, in order.
        broadcast: packed weights to be published; empty if there are none.
        ledger: what has been accepted.
        evaluations: episodes to be evaluated.
        roster: who works.
        rate_limiter: who is blocked for too many bad messages.
        rejected: how many workers were rejected.
        ingestion: validates batches, writes them ahead and counts them.
        failed: workers that have reported that they cannot work and leave.
        departures: `failed`, plus the workers that were rejected after they had joined.
    """

    def __init__(self, service: Service, weights_port: int, *, keyed: bool) -> None:
        self.outbox: list[tuple[bytes, list[Frame]]] = []
        self.broadcast = b""
        self.ledger = Ledger(service.layout.action_dim, lockstep=service.lockstep)
        rewards = service.bounds.rewards if service.bounds else None
        limits = EpisodeLimits.of(service.environment, rewards)
        self.evaluations = EvaluationQueue(limits, service.evaluation_seconds)
        self.roster = Roster(service.num_workers, service.local_workers)
        one_worker = service.eval_environment == "one-worker"
        self._assignments = Assignments(self.evaluations, self.roster, one_worker=one_worker)
        self.rate_limiter = RateLimiter()
        self._admission = Admission(service, weights_port, self.roster, self._ping, keyed=keyed)
        self._service = service
        self._weights, self._version = b"", -1
        self._allowed = 0
        self._grant_due, self._grant_at = False, 0.0
        self._timers_at = -math.inf
        self._unread: OrderedDict[bytes, int] = OrderedDict()
        self._strange = LimitedLog(_log)
        self._now = 0.0
        self._over: bool | None = None
        self.rejected = 0
        self.failed = self.departures = Tally()
        self._resumed = False
        self.ingestion = Ingestion(service, self.ledger, limits)

    def recover(
        self, journal: Journal, env_steps: int | None = None, *, resumed: bool = False
    ) -> None:
        """Recovers what was accepted before from a journal, and appends to it from now on.

        Args:
            journal: of the run.
            env_steps: delivered up to the checkpoint; None: all in the journal up to its position.
            resumed: whether another learner may have granted credit before.
        """
        self.ingestion.recover(journal, self.roster, env_steps)
        self._resumed = resumed
        for session in self.roster:
            session.credit.assume_promised()
            self._resumed = True

    # Calls of the learner.

    def require_welcome(self) -> None:
        """Raises a `WireError` if what workers are told first is too long to be sent."""
        newcomer = Session(0, "", b"", began_at=0.0)
        encode(self._admission.welcome(newcomer, self.ledger.progress(0)))

    def publish(self, weights: ActorWeights) -> bool:
        """Makes `weights` the newest.

        Returns:
            Whether the gateway must be woken; not in lockstep, where the next credit brings them.

        Raises:
            ValueError: the weights' dimensions are not those of the layout.
        """
        layout = self._service.layout
        dimensions = (weights.observation_dim, weights.action_dim)
        if dimensions != (layout.observation_dim, layout.action_dim):
            raise ValueError(f"Weights of the dimensions {dimensions} do not fit {layout}.")
        self._weights, self._version = pack_weights(weights), weights.version
        if not self._service.lockstep:
            self.broadcast = self._weights
        return not self._service.lockstep

    def allow(self, env_steps: int) -> bool:
        """Lets the workers advance to this total of environment steps.

        Returns:
            Whether the gateway must be woken; not if it is about to grant credit anyway.
        """
        self._allowed = max(self._allowed, env_steps)
        was_due, self._grant_due = self._grant_due, True
        return not was_due

    @property
    def waiting(self) -> bool:
        """Whether there is something to be delivered."""
        return self.ledger.waiting(self._allowed)

    def deliver(self) -> list[Transitions]:
        """Hands over what has been accepted, as far as the learner's pace allows."""
        return self.ledger.deliver(self._allowed)

    def evaluate(self, weights: ActorWeights, seeds: Sequence[int]) -> EvaluationJob:
        """Enqueues an evaluation."""
        return self.evaluations.enqueue(weights, seeds)

    def drain(self, *, over: bool) -> None:
        """Tells all workers to step no more, and to leave once all their steps are accepted.

        Args:
            over: whether the run is over.
        """
        self._allowed, self._over = 0, over
        for session in self.roster.alive:
            self._send(session, messages.Drain(over))

    def stop(self) -> None:
        """Tells all workers to leave at once if the run is over; else they wait for a learner."""
        for session in self.roster.alive if self._over else ():
            self._send(session, messages.Stop())

    def dismiss(self, worker_id: int, reason: str) -> None:
        """Tells a worker whose environment hangs to leave; it may be started again."""
        if (session := self.roster.holder(worker_id)) is not None:
            sentence = f"The learner gives this worker up, which {reason}."
            self._reject(session.route, Rejection(RejectCode.STUCK, sentence))

    def status(self, now: float) -> list[WorkerStatus]:
        """All workers that ever joined, by id."""
        return [
            session.status(self.ledger.progress(session.worker_id).env_steps, now)
            for session in self.roster
        ]

    # Messages from the workers.

    def receive(
        self, route: bytes, frames: Sequence[Frame], now: float, authenticated: int | None = None
    ) -> None:
        """Handles a message that came over a connection.

        Args:
            route: routing id of the connection.
            frames: of one message, not checked yet.
            now: seconds of a monotonic clock.
            authenticated: the worker id that its key stands for; None without keys.
        """
        self._now = now
        peer = route if authenticated is None else authenticated
        if self.rate_limiter.is_blocked(peer, now):
            return
        try:
            self._dispatch(route, decode(frames), frames, now, authenticated)
        except WireError as error:
            self._handle_wire_error(
                route, error, blocked=self.rate_limiter.record_bad_message(peer, now)
            )
        except Rejection as rejection:
            self._reject(route, rejection)

    def _handle_wire_error(self, route: bytes, error: WireError, *, blocked: bool) -> None:
        """Answers a bad message if its sender should learn of it."""
        if blocked:
            sentence = (
                f"{MAX_BAD_MESSAGES} bad messages in a minute are too many; the last: {error}"
            )
            self._reject(route, Rejection(RejectCode.UNAUTHORISED, sentence))
        elif isinstance(error, ProtocolVersionError):
            self._reject(route, Rejection(RejectCode.VERSION, str(error)))
        elif isinstance(error, BatchError):
            sentence = f"The learner cannot use this batch: {error}"
            self._reject(route, Rejection(RejectCode.BATCH, sentence))
        elif isinstance(error, ResultError):
            if (session := self.roster.at(route)) is not None:
                self._assignments.withhold(session)
            sentence = f"The learner cannot use this evaluation: {error}"
            self._reject(route, Rejection(RejectCode.EVALUATION, sentence))
        else:
            # A flood of these must not fill the log; the rate limiter counts them.
            _log.debug("A message was dropped: %s", error)

    def _dispatch(
        self,
        route: bytes,
        message: Message,
        frames: Sequence[Frame],
        now: float,
        authenticated: int | None,
    ) -> None:
        session = self.roster.at(route)
        if isinstance(message, messages.Hello):
            self._handle_hello(route, message, now, authenticated)
        elif session is not None:
            session.heard_at = now
            self._handle(session, message, frames, now)
        elif not isinstance(message, messages.Bye | messages.Failed):
            self._enqueue(route, messages.Rehello())

    def _handle_hello(
        self, route: bytes, hello: messages.Hello, now: float, authenticated: int | None
    ) -> None:
        if self._over is not None:
            # The worker has drained and would begin anew, or is late: there is no more work here.
            self._enqueue(route, messages.Stop() if self._over else LEAVING)
            return
        session = self.roster.known(hello.session)
        hello = self._admission.authenticate(hello, session, authenticated)
        # Messages on their way over an old connection may never arrive, and a worker that begins a
        # new session over the same connection has left its old one.
        for old in (session, self.roster.at(route)):
            if old is not None:
                self._reap(old)
        if session is None:
            session = self._admission.admit(route, hello, now)
            if session and self._resumed and not self.roster.has_joined(session.worker_id):
                # It may have joined just before the previous learner died, and be in no record.
                session.recovered = True
                session.credit.assume_promised()
        if session is not None:
            self.roster.register(session, route, now)
            progress = self.ledger.progress(session.worker_id)
            self._enqueue(route, self._admission.welcome(session, progress))

    def _handle(
        self, session: Session, message: Message, frames: Sequence[Frame], now: float
    ) -> None:
        match message:
            case messages.Ready():
                self._handle_ready(session, message, now)
            case messages.Batch():
                self._handle_batch(session, message, frames, now)
            case messages.GetWeights() if session.sent_weights is not self._weights:
                # A connection loses nothing: sending the same again would only fill its queue.
                self._send_weights(session)
            case messages.Discarded(evaluation=0):
                if session.phase == "ready":
                    self.ingestion.discard(session, message)
            case messages.Evaluation() | messages.Discarded():
                self._assignments.take(session, message, now)
            case messages.Pong(number=number, steps=steps):
                session.record_steps(steps, now)
                self._handle_pong(session, number)
            case messages.Failed():
                told = f"{printable(message.sentence):.400}".rstrip(".")
                sentence = f"Worker {session.worker_id} cannot work, and leaves: {told}."
                self.failed = self.failed.add(sentence)
                self.departures = self.departures.add(sentence)
                self._strange.warning(now, "%s", sentence)
            case messages.Bye():
                self._send(session, messages.ByeOk())
                # A worker that has said goodbye does not count as silent.
                session.heard_at = None
                self._reap(session)
            case _:
                pass  # Messages that only learners send.

    def _handle_pong(self, session: Session, number: int) -> None:
        """Handles a PONG: connections keep order, so all that was sent before its PING is read."""
        if number == session.challenge:
            session.challenge = 0
        if number > 0 and number == self._unread.get(session.route):
            self._handle_read(session)

    def _handle_read(self, session: Session) -> None:
        """Notes that a worker has read its last weights; sends newer ones if they are due."""
        self._unread.pop(session.route, None)
        if session.weights_due and session.phase == "ready":
            self._send_weights(session)

    def _handle_ready(self, session: Session, ready: messages.Ready, now: float) -> None:
        self._admission.check_environment(ready)
        session.phase, session.ack_due, session.progressed_at = "ready", True, now
        self._grant_due = True
        self._ask_for_reading(session)
        if self._weights and session.sent_weights is not self._weights:
            self._send_weights(session)

    def _handle_batch(
        self, session: Session, batch: messages.Batch, frames: Sequence[Frame], now: float
    ) -> None:
        if session.phase != "ready" or batch.session != session.uuid:
            self._send(session, messages.Rehello())
        elif batch.sequence <= session.sequence:
            session.ack_due = True
        elif self.ingestion.blocked:
            pass  # It stays unacknowledged, and is requested again.
        elif batch.sequence > session.sequence + 1:
            # If an earlier batch of this session waits for credit, both are requested later.
            if not session.credit.wanted:
                self._send(session, messages.Rehello())
        else:
            self._ingest(session, batch, frames, now)

    def _ingest(
        self, session: Session, batch: messages.Batch, frames: Sequence[Frame], now: float
    ) -> None:
        self.ingestion.check(session, batch, self._version)
        if session.credit.is_exceeded_by(len(batch.rewards)):
            raise BatchError("It goes beyond the worker's credit.")
        if not session.credit.covers(len(batch.rewards), self._room):
            return
        if self.ingestion.ingest(session, batch, frames, now):
            session.ack_due = True
            if self._service.lockstep:
                self._handle_read(session)
            # Without delay, so that new credit travels with the ACK.
            self._grant_due, self._grant_at = True, now

    @property
    def _room(self) -> int:
        """Allowed steps for which no worker has credit yet."""
        return self._allowed - self.ledger.env_steps - self.roster.outstanding

    # Timers.

    def unreachable(self, route: bytes) -> None:
        """Handles a connection that is closed or takes no more messages."""
        if route in self._unread:
            self._unread[route] = 0  # What was not sent may be the PING after them.
        if (session := self.roster.at(route)) is not None:
            self._reap(session)

    def tick(self, now: float) -> None:
        """Does what is due: PINGs, losses, evaluations, credit, ACKs; call it after `receive`."""
        if timers_due := now >= self._timers_at:
            self._timers_at = now + TIMER_SECONDS
            self._strange.tick(now)
            for session in self.roster.alive:
                self._check_alive(session, now)
        if timers_due or self.evaluations.under_way:
            for session, assignment in self._assignments.give(now, self._unread):
                self._send(session, assignment)
                self._expect_reading(session)
        if self.ingestion.retry_due(now):
            for session in self.roster.ready:
                self._send(session, messages.Rehello())
        if self._grant_due and (self._service.lockstep or now >= self._grant_at):
            self._grant_credit()
            self._grant_due, self._grant_at = False, now + GRANT_SECONDS
        for session in self.roster.ready:
            if session.ack_due:
                self._acknowledge(session)

    def _check_alive(self, session: Session, now: float) -> None:
        """Pings a silent worker, gives up a lost one, and takes back unused credit."""
        silence = session.silence(now)
        # Most are lost earlier, with their connection, which ZeroMQ monitors.
        if silence > self._service.patience_seconds:
            self._reap(session)
        elif silence > PING_SECONDS and now - session.pinged_at > PING_SECONDS:
            session.pinged_at = now
            self._ping(session)
        if not self._service.lockstep and session.expire_credit(now):
            self._grant_due = True

    def wait_seconds(self, now: float) -> float:
        """Seconds until something is due, at most one."""
        due = min(self._grant_at if self._grant_due else math.inf, self.ingestion.retry_at)
        return min(1.0, max(0.0, due - now))

    def _grant_credit(self) -> None:
        """Grants the workers credit for allowed steps that are not accepted or granted yet."""
        for session in self.roster.ready:
            if session.credit.wanted and session.credit.covers(session.credit.wanted, self._room):
                self._send(session, messages.Rehello())
        unaccepted = self._allowed - self.ledger.env_steps
        self.roster.grant_credit(unaccepted, 1 if self._service.lockstep else CREDIT)

    def _acknowledge(self, session: Session) -> None:
        if self._service.lockstep and session.sent_weights is not self._weights:
            # Connections keep order, so these weights choose the next step.
            self._send_weights(session)
            if session.weights_due:
                return
        self._send(session, messages.Ack(session.sequence, session.credit.promise(), self._version))
        session.ack_due = False

    # Messages to the workers.

    def _reap(self, session: Session) -> None:
        self.roster.reap(session)
        self._grant_due = True
        self._assignments.release(session)

    def _reject(self, route: bytes, rejection: Rejection) -> None:
        self.rejected += 1
        self._strange.warning(self._now, "A worker was sent away: %s", rejection)
        self._enqueue(route, rejection.message)
        if (session := self.roster.at(route)) is not None:
            sentence = f"Worker {session.worker_id} was sent away: {rejection}"
            self.departures = self.departures.add(sentence)
            if session.worker_id >= self._service.local_workers:
                # It leaves, so it does not count as silent; local workers are left to their pool.
                session.heard_at = None
            self._reap(session)

    def _ping(self, session: Session) -> int:
        number = 1 + secrets.randbits(62)  # Not to be guessed: an answer proves that it was read.
        self._send(session, messages.Ping(number))
        return number

    def _send_weights(self, session: Session) -> None:
        """Sends the newest weights, but only after older ones have been read.

        Weights are large, and a peer that reads nothing must not make the learner queue many.
        """
        session.weights_due = session.route in self._unread
        if session.weights_due:
            # In lockstep the next batch proves that they were read, but it may never come.
            self._ask_for_reading(session)
            return
        session.sent_weights = self._weights
        self._send(session, messages.Weights(np.frombuffer(self._weights, np.uint8)))
        self._expect_reading(session)

    def _expect_reading(self, session: Session) -> None:
        """Notes that weights are on their way over a worker's connection."""
        self._unread[session.route] = 0
        if not (self._service.lockstep and session.credit.outstanding):
            self._ask_for_reading(session)
        if len(self._unread) > MAX_ROUTES:
            self._unread.popitem(last=False)

    def _ask_for_reading(self, session: Session) -> None:
        """Pings a worker, unless it was, whose answer proves that it has read its weights."""
        if self._unread.get(session.route) == 0:
            self._unread[session.route] = self._ping(session)

    def _send(self, session: Session, message: Message) -> None:
        self._enqueue(session.route, message)

    def _enqueue(self, route: bytes, message: Message) -> None:
        self.outbox.append((route, encode(message)))
