"""The worker's side of IQLP/2 as a state machine: messages in, messages out, no sockets, no clock.

`receive` and `tick` are told the time; what is to be sent collects in `outbox`. The worker never
drops a batch: at most `WINDOW` of them wait for their acknowledgement, and then it stops stepping.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import iqlft_workers
from iqlft_workers import messages
from iqlft_workers.messages import RejectCode
from iqlft_workers.wire import ArrayError, HeaderError, unpack_weights

if TYPE_CHECKING:
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.episode import EpisodeResult, NotFiniteError
    from iqlft_workers.messages import Message
    from iqlft_workers.transition import Transitions

WINDOW = 4
"""Batches that may wait for their acknowledgement."""
SILENCE_SECONDS = 3.0
"""Silence of the learner after which the worker says HELLO again."""
LONGEST_SENTENCE = 2000
"""The most characters of a reason that is sent."""
HELLO_SECONDS = (0.05, 2.0)
"""Pause after the first HELLO, and the longest; it doubles in between."""
LAG_SECONDS = 0.25
"""How long newer weights may be on their way before the worker asks for them."""

Outcome = Literal["stopped", "rejected", "restart", "drained"]
"""Why a session is over."""


class WorkerSession:
    """One start of a worker, as the learner knows it.

    Args:
        worker_id: the id to ask for; None for any free one.

    Attributes:
        outbox: messages to be sent, in order.
        welcome: the learner's newest answer, once there is one.
        weights: the newest weights.
        evaluations: episodes to be evaluated, with the weights for them.
        env_steps: environment steps taken in this session.
        steps: finished calls of environments: steps of training and evaluation, resets and
            constructions.
        draining: whether to step no more, send what is left, and leave.
        outcome: why the session is over; None while it is not.
        code: of the rejection, see `messages.Reject`; empty where there was none.
        sentence: why the worker was rejected.
    """

    def __init__(self, worker_id: int | None) -> None:
        self.outbox: list[Message] = []
        self.welcome: messages.Welcome | None = None
        self.weights: ActorWeights | None = None
        self.evaluations: deque[tuple[messages.Evaluate, ActorWeights]] = deque()
        self.env_steps = self.steps = 0
        self.outcome: Outcome | None = None
        self.draining = False
        self.code = self.sentence = ""
        self.heard_at = -SILENCE_SECONDS
        self._any_id = worker_id is None
        self._hello = messages.Hello(worker_id, str(uuid4()), iqlft_workers.__version__)
        self._hello_at, self._hello_pause = 0.0, HELLO_SECONDS[0]
        self._ready: messages.Ready | None = None
        self._window: deque[messages.Batch] = deque()
        self._discarded: list[messages.Discarded] = []
        self._sequence = 0
        self._credit = 0
        self._lags_since: float | None = None
        self._over = False
        self._left = False

    @property
    def credit_left(self) -> int:
        """Environment steps that may be taken now; none while the window is full."""
        if self._ready is None or self.weights is None or self.window_full or self.draining:
            return 0
        return max(0, self._credit - self.env_steps)

    @property
    def window_full(self) -> bool:
        """Whether batches must wait for acknowledgements."""
        return len(self._window) >= WINDOW

    def receive(self, message: Message, now: float) -> None:
        """Handles a message of the learner.

        Args:
            message: decoded.
            now: seconds of a monotonic clock.

        Raises:
            WireError: a number or the weights cannot be used.
        """
        self.heard_at = now
        match message:
            case messages.Welcome():
                self._handle_welcome(message)
            case messages.Ack():
                self._handle_ack(message, now)
            case messages.Weights():
                self.load(message.packed)
            case messages.Evaluate():
                self._handle_evaluate(message)
            case messages.Ping(number=number):
                self.outbox.append(messages.Pong(number, self.steps))
            case messages.Rehello():
                self._enqueue_hello(now)
            case _:
                self._handle_end(message)

    def load(self, packed: Any) -> None:  # noqa: ANN401
        """Takes newer weights.

        Args:
            packed: by `wire.pack_weights`.

        Raises:
            WireError: they are no weights, or do not fit the environment.
        """
        # Before READY they can only be meant for an earlier session over the same sockets.
        if self._ready is not None:
            before, self.weights = self.weights, self._unpack(packed, self._ready)
            if before is None or before.version != self.weights.version:
                self._lags_since = None  # Weights do arrive, if not the newest yet.

    def _handle_evaluate(self, request: messages.Evaluate) -> None:
        if len(request.indices) != len(request.seeds) or min(request.seeds, default=0) < 0:
            raise HeaderError("An evaluation needs one seed, not negative, for each episode.")
        if self._ready is not None:
            self.evaluations.append((request, self._unpack(request.packed, self._ready)))

    def _unpack(self, packed: Any, ready: messages.Ready) -> ActorWeights:  # noqa: ANN401
        weights = unpack_weights(packed)
        dimensions = (weights.observation_dim, weights.action_dim)
        if dimensions != (ready.observation_dim, ready.action_dim):
            raise ArrayError(f"Weights of the dimensions {dimensions} do not fit the environment.")
        return weights

    def _handle_end(self, message: Message) -> None:
        match message:
            case messages.Reject(code=RejectCode.LATER):
                self._hello_pause = HELLO_SECONDS[1]
            case messages.Reject(
                code=RejectCode.DUPLICATE | RejectCode.FULL | RejectCode.RESERVED
            ) if self.welcome and self._any_id:
                # The id that it had been given is a newcomer's, or not the next learner's to give.
                self.outcome = "restart"
            case messages.Reject(code=code, sentence=sentence):
                self.outcome, self.code, self.sentence = "rejected", code, sentence
            case messages.Drain(over=over):
                self.drain(over=over)
            case messages.ByeOk() if self.draining:
                self.outcome = "stopped" if self._over else "drained"
            case messages.Stop():
                self.outcome = "stopped"
            case _:
                pass  # Messages that only workers send.

    def _handle_welcome(self, welcome: messages.Welcome) -> None:
        if min(welcome.worker_id, welcome.seed, welcome.episode) < 0:
            raise HeaderError("Worker id, seed and episode are not negative.")
        self._hello_pause = HELLO_SECONDS[0]
        self.evaluations.clear()  # The learner assigns them anew.
        # Whichever learner comes back, this worker asks it for the same id.
        self._hello = replace(self._hello, worker_id=welcome.worker_id)
        self._left = False
        self._drop_acknowledged(welcome.last_sequence)
        if self.welcome is not None and not self._continues(self.welcome, welcome):
            self.outcome = "restart"
        elif self._ready is not None:
            self.outbox += [self._ready, *self._unheard()]
        self.welcome = welcome

    def _continues(self, before: messages.Welcome, welcome: messages.Welcome) -> bool:
        """Whether a learner that was started again knows all that was acknowledged.

        Otherwise it is another run's, or has no journal.
        """
        same = all(
            getattr(welcome, name) == getattr(before, name)
            for name in (
                "run_id",
                "worker_id",
                "environment",
                "seed",
                "lockstep",
                "one_environment",
            )
        )
        unacknowledged = self._window[0].sequence if self._window else self._sequence + 1
        return same and unacknowledged == welcome.last_sequence + 1

    def _handle_ack(self, ack: messages.Ack, now: float) -> None:
        self._drop_acknowledged(ack.sequence)
        self._credit = ack.credit
        version = self.weights.version if self.weights else -1
        if ack.version <= version:
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = now

    def _drop_acknowledged(self, sequence: int) -> None:
        while self._window and self._window[0].sequence <= sequence:
            self._window.popleft()
        self._discarded = [each for each in self._discarded if each.sequence >= sequence]

    def _unheard(self) -> list[messages.Batch | messages.Discarded]:
        """What the learner may not have received, in its original order."""
        said: list[messages.Batch | messages.Discarded] = [*self._window, *self._discarded]
        return sorted(said, key=lambda each: (each.sequence, isinstance(each, messages.Discarded)))

    def _enqueue_hello(self, now: float) -> None:
        self.outbox.append(self._hello)
        self._hello_at = now + self._hello_pause
        self._hello_pause = min(2 * self._hello_pause, HELLO_SECONDS[1])

    def tick(self, now: float) -> None:
        """Enqueues what is due: HELLO while the learner is silent, GET_WEIGHTS if weights lag."""
        silent = self.welcome is None or now - self.heard_at > SILENCE_SECONDS
        if silent and self._left and self._over:
            # The learner has said that the work is over, and closed before its BYE_OK had left.
            self.outcome = "stopped"
            return
        if silent and now >= self._hello_at:
            self._enqueue_hello(now)
        if self._lags_since is not None and now - self._lags_since > LAG_SECONDS:
            self.outbox.append(messages.GetWeights())
            self._lags_since = now

    def wait_seconds(self, now: float) -> float:
        """Seconds until something is due, at most one."""
        if self.welcome is None:
            return min(1.0, max(0.0, self._hello_at - now))
        return LAG_SECONDS if self._lags_since is not None else 1.0

    def ready(self, observation_dim: int, action_dim: int) -> None:
        """Enqueues READY: the environment is built."""
        self._ready = messages.Ready(
            self._hello.session,
            observation_dim,
            action_dim,
            mujoco=_installed("mujoco"),
            gymnasium=_installed("gymnasium"),
        )
        self.outbox.append(self._ready)

    def send_batch(
        self,
        episode: int,
        finished: EpisodeResult | None,
        transitions: Transitions,
        stepping_seconds: float,
    ) -> None:
        """Sends transitions of one episode and keeps them until they are acknowledged."""
        self._sequence += 1
        batch = messages.Batch(
            self._hello.session,
            self._sequence,
            episode,
            finished,
            stepping_seconds,
            **transitions._asdict(),
        )
        self._window.append(batch)
        self.outbox.append(batch)

    def send_evaluation(self, evaluation: int, index: int, result: EpisodeResult) -> None:
        """Sends the result of one evaluation episode."""
        self.outbox.append(messages.Evaluation(evaluation, index, result))

    def send_discarded(
        self, evaluation: int, index: int, dropped: int, error: NotFiniteError
    ) -> None:
        """Reports an episode that ended at a value that is not finite.

        Args:
            evaluation: its number; 0 for an episode of training.
            index: of the episode, see `messages.Discarded`.
            dropped: transitions that had been stepped and are not sent; they take no credit.
            error: which value it was.
        """
        self.env_steps -= dropped
        message = messages.Discarded(
            evaluation, index, dropped + 1, error.result, str(error), self._sequence
        )
        self._discarded += [] if evaluation else [message]
        self.outbox.append(message)

    def drain(self, *, over: bool) -> None:
        """Ends stepping and evaluating, so that the worker can leave.

        Args:
            over: whether the work is over; if not, a new session follows.
        """
        self.draining, self._over = True, over
        self.evaluations.clear()

    def leave_when_drained(self) -> None:
        """Says goodbye once all that was sent is acknowledged; to be called after the last batch.

        The learner confirms it, because a lost goodbye would leave the learner waiting.
        """
        if self.draining and not self._window and not self._left:
            self._left = True
            self.outbox.append(messages.Bye())

    def leave(self, sentence: str = "") -> None:
        """Says goodbye, and why if there is a reason."""
        # It may quote what does not fit into a header.
        self.outbox += [messages.Failed(sentence[:LONGEST_SENTENCE])] if sentence else []
        self.outbox.append(messages.Bye())


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
