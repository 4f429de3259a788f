"""The learner's sockets, in a thread of their own: transitions in, weights and credit out.

`GatewayState` is the state machine. The thread and the learner's calls share it under one lock. The
sockets belong to the thread alone, which a call wakes over an in-process socket.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from iqlft.gateway.counts import Counts
from iqlft.gateway.evaluation_queue import PendingEvaluation
from iqlft.gateway.sockets import GatewayError, LearnerSockets
from iqlft.gateway.state import GatewayState
from iqlft_workers.keys import temporary_keys
from iqlft_workers.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from iqlft.gateway.journal import Journal
    from iqlft.gateway.ledger import TrainingEpisode
    from iqlft.gateway.roster import WorkerStatus
    from iqlft.gateway.service import Service
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.keys import LearnerKeys
    from iqlft_workers.transition import Transitions

FROZEN_SECONDS = 3.0
"""Time between two looks at the sockets from which on the learner counts as having been stopped."""
BYE_SECONDS = 2.0
"""How long `close` waits for the workers to say goodbye."""

_log = logging.getLogger(__name__)


class Gateway:
    """Serves rollout workers; all methods may be called from any thread.

    Args:
        service: what is offered.
        host: address to listen on; the default is reached from this machine only.
        port: to listen on, with weights on the next one; 0 takes any two free ports.
        last_port: where the run's previous learner listened; reused if free and `port` is 0.
        keys: who may connect; None for workers with the `own_keys` only.
        insecure: whether, without `keys`, no keys are made and anybody may connect.

    Attributes:
        endpoint: what a worker connects to.
        port: the port of `endpoint`.
        own_keys: folder of the keys made for workers of this user on this machine, removed by
            `close`; None if `keys` were given, or no keys are used.

    Raises:
        PortInUseError: another program listens there.
        GatewayError: the host is not an address of this machine, or so many workers cannot be
            served: none, several in lockstep, or more than the limit on open files permits.
        KeyFileError: no keys can be made.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        last_port: int = 0,
        keys: LearnerKeys | None = None,
        insecure: bool = False,
    ) -> None:
        num_workers = service.num_workers
        if num_workers < 1 or (service.lockstep and num_workers > 1):
            raise GatewayError(
                f"{num_workers} workers cannot be served: at least one is needed, and exactly one "
                "in lockstep."
            )
        with ExitStack() as exits:
            self.own_keys: Path | None = None
            if keys is None and not insecure:
                keys, self.own_keys = exits.enter_context(temporary_keys(num_workers))
            self._sockets = LearnerSockets(host, port, keys, num_workers, last_port)
            self._forget_keys = exits.pop_all().close
        self.endpoint = self._sockets.endpoint
        self.port = self._sockets.port
        keyed = keys is not None
        self._state = GatewayState(service, self._sockets.weights_port, keyed=keyed)
        self._journal: Journal | None = None
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._closed = False
        self._leave_at, self._looked_at = math.inf, time.monotonic()
        # Named after its run, for the logs of several runs that learn together.
        self.thread_name = f"gateway {service.run_id}"
        self._thread = threading.Thread(target=self._run, name=self.thread_name, daemon=True)
        try:
            self._state.require_welcome()
        except WireError as error:
            self.close()
            raise GatewayError(
                f"Workers cannot be told what {service.environment.id} is ({error}); give it "
                "shorter arguments, such as the path of a file with what is long."
            ) from error

    def recover(
        self, journal: Journal, env_steps: int | None = None, *, resumed: bool = False
    ) -> None:
        """Recovers what was accepted before from the write-ahead log; call it before `start`.

        Args:
            journal: where batches are written before they are acknowledged; closed with the
                gateway. Without this call they are kept nowhere.
            env_steps: delivered up to the checkpoint; None: all in the journal up to its position.
            resumed: whether the run had a learner before, even if it accepted nothing.
        """
        self._journal = journal
        self._state.recover(journal, env_steps, resumed=resumed)

    def start(self) -> None:
        """Starts the thread; workers are served from now on."""
        self._thread.start()

    def publish(self, weights: ActorWeights) -> None:
        """Makes `weights` the newest ones: workers act with them as soon as they arrive."""
        with self._changed:
            if self._state.publish(weights):
                self._wake()

    def allow(self, env_steps: int) -> None:
        """Lets the workers advance to this total of environment steps over the whole run."""
        with self._changed:
            if self._state.allow(env_steps):
                self._wake()

    def receive(self, timeout_seconds: float) -> list[Transitions]:
        """The transitions accepted since the last call, as far as `allow` permits.

        Args:
            timeout_seconds: the longest wait for the first transitions.

        Returns:
            One item per batch, in the order of their acceptance; empty after a timeout.

        Raises:
            GatewayError: the gateway failed or is closed.
        """
        self.wait_for(lambda: self._state.waiting, timeout_seconds)
        with self._changed:
            return self._state.deliver()

    def evaluate(self, weights: ActorWeights, episode_seeds: Sequence[int]) -> PendingEvaluation:
        """Lets the workers run one evaluation episode per seed with `weights`."""
        with self._changed:
            job = self._state.evaluate(weights, episode_seeds)
            self._wake()
        return PendingEvaluation(job, self.wait_for)

    def training_episodes(self) -> list[TrainingEpisode]:
        """Training episodes since the last call whose last transitions have been received."""
        with self._changed:
            return self._state.ledger.finished_episodes()

    def worker_status(self) -> list[WorkerStatus]:
        """All workers that ever joined, by id."""
        with self._changed:
            now = time.monotonic()
            self._look(now)
            return self._state.status(now)

    def dismiss(self, worker_id: int, reason: str) -> None:
        """Tells a worker of another machine, whose environment hangs, to leave.

        Args:
            worker_id: its id.
            reason: what is wrong with it.
        """
        with self._changed:
            self._state.dismiss(worker_id, reason)
            self._wake()

    def journal_position(self) -> int:
        """Length in bytes of the journal up to the last batch received; syncs it to the disk.

        Raises:
            OSError: the journal cannot be synced.
        """
        if self._journal is not None:
            self._journal.sync()
        with self._changed:
            return self._state.ledger.position

    def counts(self) -> Counts:
        """What has gone wrong since the start."""
        with self._changed:
            state = self._state
            return Counts(
                rejected=self._sockets.rejected + state.rejected,
                bad_messages=state.rate_limiter.bad_messages,
                refused_batches=state.ingestion.refused,
                discarded=state.ingestion.discarded,
                failed=state.failed,
                departures=state.departures,
            )

    def journal_error(self) -> str:
        """Why the journal cannot be written, so that workers wait; empty while it can."""
        with self._changed:
            return self._state.ingestion.journal_error

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Waits until a condition on the gateway's state holds.

        Returns:
            Whether it holds.

        Raises:
            GatewayError: the gateway failed, or was closed before the condition held.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: condition() or self._failure or self._closed, timeout_seconds
            )
            if self._failure is not None:
                raise GatewayError(f"The gateway failed: {self._failure!r}.") from self._failure
            if self._closed and not condition():
                raise GatewayError("The gateway is closed.")
            return condition()

    def close(self, *, over: bool = True) -> None:
        """Lets the workers leave once all that they sent is accepted, and closes; idempotent.

        Args:
            over: whether the run is over; if not, workers of other machines wait for its return.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._leave_at = time.monotonic() + BYE_SECONDS
            self._state.drain(over=over)
            self._wake()
            self._changed.notify_all()
        if self._thread.ident is None:
            self._sockets.close()
        else:
            self._thread.join()
        self._sockets.terminate()
        self._forget_keys()
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self, now: float) -> None:
        """Excuses the workers if both threads have been stopped; the caller holds the lock."""
        if now - self._looked_at > FROZEN_SECONDS:
            self._state.roster.excuse(now - self._looked_at)
        self._looked_at = now

    def _wake(self) -> None:
        """Wakes the thread; the caller holds the lock."""
        if self._failure is None:
            self._sockets.wake()

    # Called by the thread alone.

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001  # raised again by the learner's next call
            _log.exception("The gateway failed.")
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            self._sockets.close()

    def _serve(self) -> None:
        wait_seconds = 0.0
        while True:
            self._sockets.wait(wait_seconds)
            with self._changed:
                now = time.monotonic()
                self._look(now)
                if self._closed and not self._state.roster.alive:
                    return
                if now > self._leave_at:
                    self._state.stop()
                    self._send_outbox()
                    return
                for route, frames, worker_id in self._sockets.receive():
                    self._state.receive(route, frames, now, worker_id)
                self._state.tick(now)
                self._send_outbox()
                self._changed.notify_all()
                wait_seconds = 0.05 if self._closed else self._state.wait_seconds(now)

    def _send_outbox(self) -> None:
        if self._state.broadcast:
            self._sockets.publish(self._state.broadcast)
            self._state.broadcast = b""
        refused = set[bytes]()
        for route, frames in self._state.outbox:
            # What follows may build on what was not sent, as an ACK in lockstep on its weights.
            if route not in refused and not self._sockets.send(route, frames):
                # The connection is closed, or its queue is full: a HELLO will put that right.
                refused.add(route)
                self._state.unreachable(route)
        self._state.outbox.clear()
