"""The worker at work: connect, roll out, evaluate when asked, leave cleanly."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from iqlft_workers.actor import make_actor
from iqlft_workers.client import Client, KeyRefusedError
from iqlft_workers.discovery import ASK_SECONDS, Discovery, RunFinishedError
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.episode import NotFiniteError
from iqlft_workers.errors import FAILED, HUNG, REJECTED, SENTENCE, UNFIT, UserError
from iqlft_workers.failures import EnvironmentFailedError
from iqlft_workers.heartbeat import BEAT_SECONDS, GRACE_SECONDS, AttendedEnvironment, Heartbeat
from iqlft_workers.messages import MAY_PASS, RejectCode
from iqlft_workers.observation import EnvironmentMismatchError
from iqlft_workers.placeholders import filled
from iqlft_workers.rollout import Rollout, evaluate_episode
from iqlft_workers.session import SILENCE_SECONDS, WorkerSession
from iqlft_workers.text import printable
from iqlft_workers.transition import RowLayout
from iqlft_workers.trust import UntrustedError
from iqlft_workers.wire import MAX_BYTES, MAX_HEADER_BYTES, ArrayError, WireError, decode, encode
from iqlft_workers.wrapping import WrapperError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.discovery import Address
    from iqlft_workers.messages import Evaluate, Welcome
    from iqlft_workers.session import Outcome

FLUSH_TRANSITIONS = 128
"""A batch is sent when it holds this many transitions, or when an episode ends."""
FLUSH_SECONDS = 0.1
"""Age of its first transition at which a batch is sent."""
EXCHANGE_SECONDS = 0.02
"""Interval at which a stepping worker checks its sockets."""
EVALUATION_EXCHANGE_SECONDS = 0.25
"""Interval at which an evaluating worker checks its sockets."""
HANG_SECONDS = 300.0
"""How long a call of the environment is waited for, if a new session is to begin after it; then the
process ends."""
IDLE_SECONDS = 2.0
"""How long an episode may lack credit before it is left for an evaluation that needs its
environment."""
MAX_DISCARDED = 10
"""Episodes in a row that end at a value that is not finite, after which a worker gives up."""
LEAVE_SECONDS = 1.0
"""How long a worker that is told to leave waits for acknowledgements of what it has sent."""

_log = logging.getLogger(__name__)


def full_batch(layout: RowLayout) -> int:
    """The number of transitions at which a batch is sent: fewer where they are too wide for one."""
    held = (MAX_BYTES - MAX_HEADER_BYTES) // (4 * layout.width)
    return max(1, min(FLUSH_TRANSITIONS, held))


class RejectedError(UserError):
    """The learner does not want this worker; the sentence is the learner's.

    Args:
        sentence: why, and what to do.
        code: of the REJECT; empty if there was none.
    """

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        if code == RejectCode.STUCK:
            self.worker_exit_code = HUNG
        elif code in {RejectCode.BATCH, RejectCode.EVALUATION}:  # As from a diverged simulation.
            self.worker_exit_code = FAILED
        elif code in MAY_PASS:
            self.worker_exit_code = REJECTED


def conclude(error: UserError, *, launched: bool) -> int:
    """Says why a worker ends, and returns its exit code.

    Args:
        error: that ends it.
        launched: whether it has a `--parent`, for whom `FAILED` and `REJECTED` are.
    """
    with contextlib.suppress(OSError):  # The reader of stderr may be gone.
        sys.stderr.write(printable(f"{SENTENCE}{error}\n", keep="\n\t"))
    code = error.worker_exit_code
    return code if launched or code not in {FAILED, REJECTED} else UNFIT


class _EvaluationAbortedError(Exception):
    """Leaves an evaluation that nobody waits for any more."""


def work(
    address: Callable[[], Address | None],
    worker_id: int | None,
    wanted: Callable[[], bool],
    tally: Callable[[int], None] = lambda _: None,
    *,
    launched: bool = False,
) -> None:
    """Works for a learner until it says stop, or until the worker is not wanted any more.

    Args:
        address: returns the learner's address, None while there is none; called while it is silent.
        worker_id: the id to ask for; None for any free one.
        wanted: whether to go on; called about every second.
        tally: called about every second with the environment steps taken since the last call.
        launched: see `conclude`.

    Raises:
        UserError: the learner rejects this worker or is away for too long, or the environment
            cannot be built.
    """
    try:
        _work(Discovery(address), worker_id, wanted, tally, launched=launched)
    except RunFinishedError:
        _log.info("The run has finished.")


def _work(
    discovery: Discovery,
    worker_id: int | None,
    wanted: Callable[[], bool],
    tally: Callable[[int], None],
    *,
    launched: bool,
) -> None:
    """See `work`.

    Raises:
        RunFinishedError: the learner's run has come to its end.
    """
    if (found := discovery.wait_for_address(wanted)) is None:
        return
    with Client(*found) as client:
        while wanted():
            session = WorkerSession(worker_id)
            with Worker(client, session, wanted, discovery, tally, launched=launched) as worker:
                if worker.run() == "stopped":
                    return
            _log.info("The learner has begun anew, or will; joining it then.")


class Worker:
    """One session: from HELLO to BYE.

    Args:
        client: the sockets.
        session: a fresh one.
        wanted: see `work`.
        discovery: asked about every second while the learner is silent.
        tally: see `work`.
        launched: see `conclude`.
    """

    def __init__(
        self,
        client: Client,
        session: WorkerSession,
        wanted: Callable[[], bool],
        discovery: Discovery,
        tally: Callable[[int], None] = lambda _: None,
        *,
        launched: bool = False,
    ) -> None:
        self._client, self._session = client, session
        self._wanted, self._discovery = wanted, discovery
        self._tally, self._tallied = tally, 0
        self._launched = launched
        self._weights_port = 0
        self._asked_at = self._exchanged_at = self._began_at = time.monotonic()
        self._heartbeat = Heartbeat(self._beat, self._abandon)
        self._over_at = math.inf
        self._environments: list[AttendedEnvironment] = []
        self._rollout: Rollout | None = None
        self._discarded = 0
        self._loaded: ActorWeights | None = None
        self._lockstep = False
        self._leave_by = math.inf
        self._batch_began_at = self._stepping_seconds = self._stepped_at = 0.0

    def run(self) -> Outcome:
        """Works until the session is over.

        Returns:
            `stopped`; `restart` when the learner does not know this session's past; `drained` when
            it was interrupted and may come back.

        Raises:
            UserError: see `work`.
        """
        session = self._session
        while session.outcome is None:
            self._exchange(self._pause())
            if session.outcome is None and session.welcome:
                if not self._environments:
                    self._build(session.welcome)
                self._follow_weights(session.welcome)
            with contextlib.suppress(_EvaluationAbortedError), self._telling():
                self._work()
        self._tally_steps()
        if session.outcome == "rejected":
            raise self._rejection()
        if session.outcome == "stopped":
            self._flush()
            session.leave()
            self._send()
        return session.outcome

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Tells the learner why this worker leaves, if its environment fails."""
        try:
            yield
        except (
            EnvironmentFailedError, EnvironmentMismatchError, NotFiniteError, UntrustedError,
            WrapperError,
        ) as error:  # fmt: skip
            self._session.leave(str(error))
            self._send()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as exits:  # Each is closed, whatever another one raises.
            exits.callback(self._heartbeat.close)
            for environment in self._environments:
                exits.callback(environment.close)

    def _beat(self) -> float:
        """Checks the sockets while the environment keeps the main thread busy.

        Returns:
            How many seconds the environment is still waited for.
        """
        now, session = time.monotonic(), self._session
        if session.outcome is None:
            if now - self._exchanged_at >= BEAT_SECONDS:
                self._exchange(0.0)
            return math.inf
        # A session that is over sends nothing more, least of all HELLO.
        self._over_at = min(self._over_at, now)
        returns = session.outcome in {"restart", "drained"}
        return self._over_at + (HANG_SECONDS if returns else GRACE_SECONDS) - now

    def _abandon(self, error: Exception | None) -> None:
        """Ends the process without waiting for the environment any longer."""
        if error is None and self._session.outcome == "rejected":
            error = self._rejection()
        why = error or "The work is over"
        _log.warning("%s; a call of the environment still lasts, and is not waited for.", why)
        finished = error is None and self._session.outcome == "stopped"
        if finished:
            self._session.leave()
            self._send()
        self._client.close()
        if isinstance(error, UserError):
            code = conclude(error, launched=self._launched)
        else:
            code = 0 if finished or isinstance(error, RunFinishedError) else 1
        logging.shutdown()
        os._exit(code)

    def _rejection(self) -> RejectedError:
        return RejectedError(self._session.sentence, self._session.code)

    def _pause(self) -> float:
        """How many seconds to wait for messages."""
        session = self._session
        if session.outcome or session.credit_left:
            return 0.0
        if session.evaluations:
            return 0.0 if self._may_evaluate() else EVALUATION_EXCHANGE_SECONDS
        return session.wait_seconds(time.monotonic())

    def _exchange(self, timeout_seconds: float) -> None:
        """Sends and receives messages, does what is due, and checks whether to go on."""
        self._session.steps = self._heartbeat.calls
        self._send()
        received = self._receive(timeout_seconds)
        now = self._exchanged_at = time.monotonic()
        try:
            for frames in received:
                self._session.receive(decode(frames), now)
            if packed := self._client.published_weights():
                # Another run's learner may be at the address by now; its WELCOME will tell.
                with contextlib.suppress(ArrayError):
                    self._session.load(packed)
        except WireError as error:
            raise RejectedError(f"The learner sent what cannot be used: {error}") from error
        self._session.tick(now)
        self._send()
        if now - self._asked_at >= ASK_SECONDS:
            self._check_wanted(now)

    def _receive(self, timeout_seconds: float) -> list[list[bytes]]:
        """The messages that have arrived; none while moving to a learner with other keys.

        Raises:
            KeyRefusedError: the keys do not fit, and the learner's address has not changed.
        """
        try:
            return self._client.receive(timeout_seconds)
        except KeyRefusedError:
            # A learner that was started again publishes an address with new keys.
            address = self._discovery.address()
            if address == self._client.address:
                raise
            if address is not None:
                self._move(address)
            return []

    def _move(self, address: Address) -> None:
        self._client.move(address)
        self._weights_port = 0

    def _send(self) -> None:
        for message in self._session.outbox:
            self._client.send(encode(message))
        self._session.outbox.clear()

    def _check_wanted(self, now: float) -> None:
        self._asked_at = now
        self._tally_steps()
        if not self._wanted():
            self._leave(now)
        heard_at = max(self._session.heard_at, self._began_at)
        if now - heard_at > SILENCE_SECONDS:
            address = self._discovery.moved_address(self._client.address, heard_at)
            if address is not None:
                self._move(address)

    def _tally_steps(self) -> None:
        steps = self._session.env_steps
        self._tally(steps - self._tallied)
        self._tallied = steps

    def _leave(self, now: float) -> None:
        """Leaves when all is acknowledged, at the latest after `LEAVE_SECONDS`."""
        self._leave_by = min(self._leave_by, now + LEAVE_SECONDS)
        self._session.drain(over=True)
        if now >= self._leave_by or now - self._session.heard_at > LEAVE_SECONDS:
            self._session.outcome = "stopped"

    def _build(self, welcome: Welcome) -> None:
        self._lockstep = welcome.lockstep
        _log.info("Worker %d of run %s.", welcome.worker_id, welcome.run_id)
        try:
            environment = self._environment()
        except UserError as error:
            self._session.leave(str(error))
            self._send()
            raise
        self._session.ready(environment.observation_dim, environment.action_dim)

    def _follow_weights(self, welcome: Welcome) -> None:
        """Subscribes to the current port of the weights; in lockstep they come with the credit."""
        if self._weights_port != welcome.weights_port and not welcome.lockstep:
            self._weights_port = welcome.weights_port
            self._client.subscribe(welcome.weights_port)

    def _environment(self) -> AttendedEnvironment:
        """Builds one more environment from the spec in the WELCOME."""
        assert self._session.welcome is not None
        try:
            spec = EnvironmentSpec.from_dict(self._session.welcome.environment)
            kwargs = filled(spec.kwargs, self._session.welcome.worker_id)
            spec = replace(spec, kwargs=kwargs)
        except TypeError as error:
            raise RejectedError(f"The learner's environment cannot be built: {error}") from error
        environment = AttendedEnvironment(spec, self._heartbeat)
        self._environments.append(environment)
        return environment

    def _work(self) -> None:
        """Steps for a moment; else sends the pending batch, and evaluates or leaves if due."""
        session = self._session
        evaluates = bool(session.evaluations) and self._may_evaluate()
        if session.outcome is None and session.credit_left and not evaluates:
            self._step()
            return
        self._flush()
        pending = self._rollout is not None and self._rollout.pending > 0
        if session.outcome is None and evaluates and not (pending and self._one_environment):
            self._evaluate(*session.evaluations.popleft())
        elif not pending:
            session.leave_when_drained()

    @property
    def _one_environment(self) -> bool:
        return self._session.welcome is not None and self._session.welcome.one_environment

    def _may_evaluate(self) -> bool:
        """Whether an evaluation has an environment: if there is only one, between episodes.

        An episode that cannot go on, as at the end of a run, is left.
        """
        if not self._one_environment or self._rollout is None or not self._rollout.under_way:
            return True
        idle = time.monotonic() - self._stepped_at > IDLE_SECONDS
        return idle and not self._session.credit_left

    def _step(self) -> None:
        """Steps until a batch is full or it is time to check the sockets."""
        session, rollout = self._session, self._load()
        began = now = time.monotonic()
        if not rollout.pending:
            self._batch_began_at = began
        full = False  # While the first episode began, the credit may have gone.
        for _ in range(session.credit_left):
            try:
                rollout.step()
            except NotFiniteError as error:
                self._discard(rollout, error)
                full = False
                break
            session.env_steps += 1
            now = time.monotonic()
            finished = rollout.finished is not None
            full = self._lockstep or finished or rollout.pending == rollout.capacity
            if finished:
                self._discarded = 0
            if full or now >= began + EXCHANGE_SECONDS:
                break
        self._stepped_at = now
        self._stepping_seconds += now - began
        if full or now >= self._batch_began_at + FLUSH_SECONDS or not session.credit_left:
            self._flush()

    def _discard(self, rollout: Rollout, error: NotFiniteError) -> None:
        """Goes on with the next episode, unless the last `MAX_DISCARDED` all ended like this."""
        _log.warning("%s", error)
        self._session.send_discarded(0, rollout.episode, rollout.discard(), error)
        self._discarded += 1
        if self._discarded == MAX_DISCARDED:
            raise NotFiniteError(
                f"{MAX_DISCARDED} episodes in a row ended at a value that is not finite. {error}",
                error.result,
            )

    def _load(self) -> Rollout:
        """The rollout, with the newest weights."""
        weights, welcome = self._session.weights, self._session.welcome
        assert weights is not None
        assert welcome is not None
        if self._rollout is None:
            if welcome.actions.shape[1] != self._environments[0].action_dim:
                raise RejectedError("The learner's recorded actions do not fit the environment.")
            environment = self._environments[0]
            layout = RowLayout(environment.observation_dim, environment.action_dim)
            self._rollout = Rollout(
                environment,
                weights,
                seed=welcome.seed,
                worker_id=welcome.worker_id,
                episode=welcome.episode,
                actions=welcome.actions,
                capacity=full_batch(layout),
            )
        elif weights is not self._loaded:
            self._rollout.load(weights)
        self._loaded = weights
        return self._rollout

    def _flush(self) -> None:
        rollout = self._rollout
        if rollout and rollout.pending and not self._session.window_full:
            seconds, self._stepping_seconds = self._stepping_seconds, 0.0
            self._session.send_batch(rollout.episode, rollout.finished, rollout.take(), seconds)

    def _evaluate(self, request: Evaluate, weights: ActorWeights) -> None:
        """Runs the episodes asked for, never in an environment with an episode under way."""
        if self._one_environment and self._rollout is not None:
            self._rollout.leave_episode()
        elif not self._one_environment and len(self._environments) < 2:
            self._environment()
        actor, environment = make_actor(weights), self._environments[-1]
        for index, seed in zip(request.indices, request.seeds, strict=True):
            try:
                result = evaluate_episode(environment, actor, seed, self._poll_during_evaluation)
                self._session.send_evaluation(request.evaluation, index, result)
            except NotFiniteError as error:
                _log.warning("%s", error)
                self._session.send_discarded(request.evaluation, index, 0, error)
            self._exchange(0.0)
            if self._session.outcome is not None:
                return

    def _poll_during_evaluation(self) -> None:
        """Checks the sockets now and then during an evaluation."""
        if time.monotonic() - self._exchanged_at >= EVALUATION_EXCHANGE_SECONDS:
            self._exchange(0.0)
            if self._session.outcome is not None or self._session.draining:
                raise _EvaluationAbortedError
