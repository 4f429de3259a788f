"""The learner's sockets, in a thread of their own: transitions in, weights and credit out.

`GatewayState` is the brain. The thread and the learner's calls take turns with it under one lock;
sockets belong to the thread alone, which a call wakes over an in-process socket.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import TYPE_CHECKING

import zmq

from iqlft.door import Service
from iqlft.evaluation_queue import PendingEvaluation
from iqlft.gateway_state import GatewayState
from iqlft.ledger import TrainingEpisode, WorkerProgress
from iqlft.roster import WorkerStatus
from workers.episode import EpisodeResult
from workers.errors import UserError
from workers.wire import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from workers.actor import ActorWeights
    from workers.environment import EnvironmentSpec
    from workers.transition import RowLayout, Transitions

__all__ = [
    "EpisodeResult",
    "Gateway",
    "GatewayError",
    "PendingEvaluation",
    "PortInUseError",
    "TrainingEpisode",
    "WorkerProgress",
    "WorkerStatus",
]

BYE_SECONDS = 2.0
"""`close` waits so long for the workers to say goodbye."""
_ROUND = 256
"""Messages taken in before anything is sent."""
_LINGER_MILLISECONDS = 100
_SUBSCRIPTION_BYTES = 64 * 2**10
_ANY = ("*", "0.0.0.0")

_log = logging.getLogger(__name__)


class GatewayError(UserError):
    """The gateway cannot be opened, or has failed, or is closed."""


class PortInUseError(GatewayError):
    """Another program listens on the port."""


class Gateway:
    """Serves rollout workers; all methods may be called from any thread.

    Args:
        environment: what the workers build.
        layout: the dimensions that their transitions must have.
        run_id: of the run.
        seed: of the run.
        num_workers: the most that are served; their ids are 0 to `num_workers - 1`.
        host: address to listen on; the default is reached from this machine only.
        port: to listen on, weights on the next one; 0 takes any two free ones.
        lockstep: one step of one worker at a time, chosen by exactly the newest weights.
        progress: where the workers were when the run was interrupted.

    Attributes:
        endpoint: what a worker connects to.

    Raises:
        PortInUseError: another program listens there.
        GatewayError: the host is not an address of this machine, or lockstep has several workers.
    """

    def __init__(
        self,
        *,
        environment: EnvironmentSpec,
        layout: RowLayout,
        run_id: str,
        seed: int,
        host: str = "127.0.0.1",
        port: int = 0,
        num_workers: int,
        lockstep: bool = False,
        progress: Mapping[int, WorkerProgress] | None = None,
    ) -> None:
        if num_workers < 1 or (lockstep and num_workers > 1):
            raise GatewayError(
                f"{num_workers} workers cannot be served: at least one is needed, and exactly one "
                "in lockstep."
            )
        self._context = zmq.Context()
        try:
            self._router, at = _bind(self._context, zmq.ROUTER, host, port)
            self._publisher, weights_at = _bind(self._context, zmq.PUB, host, port and port + 1)
        except GatewayError:
            self._context.destroy(0)
            raise
        self._router.set(zmq.ROUTER_MANDATORY, 1)
        self._bell, self._button = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._bell.bind("inproc://bell")
        self._button.connect("inproc://bell")
        self._rung = False
        self.endpoint = f"tcp://{'127.0.0.1' if host in _ANY else host}:{at}"
        service = Service(run_id, environment, layout, seed, num_workers, lockstep, weights_at)
        self._state = GatewayState(service, progress or {})
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._closed = False
        self._leave_at = math.inf
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self) -> None:
        """Starts the thread; workers are served from now on."""
        self._thread.start()

    def publish(self, weights: ActorWeights) -> None:
        """Makes `weights` the newest ones: workers act with them as soon as they arrive."""
        with self._changed:
            if self._state.publish(weights):
                self._ring()

    def allow(self, env_steps: int) -> None:
        """Lets the workers come to this total of environment steps over the whole run."""
        with self._changed:
            if self._state.allow(env_steps):
                self._ring()

    def receive(self, timeout_seconds: float) -> list[Transitions]:
        """What has been accepted since the last call.

        Args:
            timeout_seconds: the longest wait for the first transitions.

        Returns:
            One item per batch, in the order of their acceptance; empty after a timeout.

        Raises:
            GatewayError: the gateway failed or is closed.
        """
        self.wait_for(lambda: self._state.ledger.waiting, timeout_seconds)
        with self._changed:
            return self._state.ledger.deliver()

    def evaluate(self, weights: ActorWeights, episode_seeds: Sequence[int]) -> PendingEvaluation:
        """Lets the workers run one episode per seed with the mean actions of `weights`."""
        with self._changed:
            job = self._state.evaluate(weights, episode_seeds)
            self._ring()
        return PendingEvaluation(job, self.wait_for)

    def training_episodes(self) -> list[TrainingEpisode]:
        """Training episodes since the last call whose last transitions have been received."""
        with self._changed:
            return self._state.ledger.finished_episodes()

    def worker_status(self) -> list[WorkerStatus]:
        """All workers that ever joined, by id."""
        with self._changed:
            return self._state.status(time.monotonic())

    def progress(self) -> dict[int, WorkerProgress]:
        """How far each worker's transitions have been received by the learner."""
        with self._changed:
            return self._state.ledger.delivered()

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Waits until a condition on the gateway's state holds.

        Returns:
            Whether it holds.

        Raises:
            GatewayError: it does not, and cannot any more, for the gateway failed or is closed.
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

    def close(self) -> None:
        """Sends the workers home, waits briefly for their goodbye, and closes; idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._leave_at = time.monotonic() + BYE_SECONDS
            self._state.stop()
            self._ring()
            self._changed.notify_all()
        if self._thread.ident is None:
            self._close_sockets()
        else:
            self._thread.join()
        self._button.close(0)
        self._context.term()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ring(self) -> None:
        """Wakes the thread; the lock is held."""
        if not self._rung and self._failure is None:
            self._rung = True
            self._button.send(b"", zmq.NOBLOCK)

    # Only the thread from here on.

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001  # raised again by the learner's next call
            _log.exception("The gateway failed.")
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            self._close_sockets()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        wait_seconds = 0.0
        while True:
            poller.poll(math.ceil(1000 * wait_seconds))
            with self._changed:
                now = time.monotonic()
                if self._closed and (now > self._leave_at or not self._state.roster.alive):
                    return
                self._take_in(now)
                self._state.tick(now)
                self._send_out()
                self._changed.notify_all()
                wait_seconds = 0.05 if self._closed else self._state.wait_seconds(now)

    def _take_in(self, now: float) -> None:
        with contextlib.suppress(zmq.Again):
            self._bell.recv(zmq.NOBLOCK)
        self._rung = False
        with contextlib.suppress(zmq.Again):
            for _ in range(_ROUND):
                route, *frames = self._router.recv_multipart(zmq.NOBLOCK)
                self._state.receive(route, frames, now)

    def _send_out(self) -> None:
        if self._state.broadcast:
            self._publisher.send(self._state.broadcast)
            self._state.broadcast = b""
        for route, frames in self._state.outbox:
            try:
                self._router.send_multipart([route, *frames], zmq.NOBLOCK)
            except zmq.ZMQError:
                # The connection is closed, or its queue is full: a HELLO will put that right.
                self._state.unreachable(route)
        self._state.outbox.clear()

    def _close_sockets(self) -> None:
        for socket in (self._router, self._publisher, self._bell):
            socket.close(_LINGER_MILLISECONDS)


def _bind(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, host: str, port: int
) -> tuple[zmq.Socket[bytes], int]:
    """A bound socket and its port; limits and heartbeats are set before it is bound."""
    socket = context.socket(kind)
    socket.set(zmq.MAXMSGSIZE, MAX_BYTES if kind == zmq.ROUTER else _SUBSCRIPTION_BYTES)
    socket.set(zmq.HEARTBEAT_IVL, 2_000)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 6_000)
    socket.set(zmq.HEARTBEAT_TTL, 10_000)
    socket.set(zmq.HANDSHAKE_IVL, 5_000)
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise PortInUseError(
                f"Port {port} of {host} is in use, perhaps by another run; choose another with "
                "--port, or let --port 0 find a free one."
            ) from error
        raise GatewayError(f"Cannot listen on {host}, port {port}: {error.strerror}.") from error
    endpoint = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return socket, int(endpoint.rpartition(b":")[2])
