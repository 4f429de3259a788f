"""A network without sockets and workers without processes, under a clock that is a number.

A worker is the real `loop.work` with its real environment, in a thread that runs only while the
network waits for it: it hands over where it would wait for messages or for its simulator. So what
happens, and when, depends on the source of chance alone.
"""

import itertools
import math
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import pytest

from iqlft.gateway.state import GatewayState
from iqlft_workers import discovery, loop, messages
from iqlft_workers.discovery import Address, RunFinishedError
from iqlft_workers.errors import HUNG, REJECTED
from iqlft_workers.wire import Frame, decode

HEARTBEAT_SECONDS = 10.0
"""After which both ends notice that a connection is gone."""


class Killed(BaseException):
    """Ends the thread of a worker that is killed."""


class Connection:
    """Messages on their way, until it ends: then no more follow, and later both ends know it."""

    def __init__(self, process: "Process", route: bytes) -> None:
        self.process, self.route = process, route
        self.to_learner: deque[list[bytes]] = deque()
        self.to_worker: deque[list[bytes]] = deque()
        self.carries, self.noticed_at = True, math.inf

    def end(self, *, seconds: float = 0.0, kept: float = 1.0) -> None:
        """Ends it; of what is on its way a share is kept, and the ends notice after a time."""
        self.carries, self.noticed_at = False, self.process.network.now + seconds
        for queue in (self.to_learner, self.to_worker):
            for _ in range(len(queue) - round(kept * len(queue))):
                queue.pop()


class Process:
    """A worker process; its sockets too, instead of those of `client.Client`."""

    endpoint = "tcp://learner:1"
    address = Address(endpoint)

    def __init__(self, network: "Network", worker_id: int | None) -> None:
        self.network, self.worker_id, self.published = network, worker_id, b""
        self.connection: Connection | None = None
        self.awake_at = self._connects_at = network.now
        self.start()

    def start(self) -> None:
        """Starts it, or starts it again."""
        self._error: BaseException | None = None
        self.alive, self._killed = True, False
        self._mine, self._others = threading.Lock(), threading.Lock()
        self._mine.acquire()
        self._others.acquire()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self._mine.acquire()
        try:
            loop.work(self.network.address, self.worker_id, lambda: True, launched=True)
            assert self.network.over, "a worker leaves before the work is over"
        except BaseException as error:  # noqa: BLE001  # raised again in `resume`
            self._error = error
        self.alive = False
        self._others.release()

    def resume(self) -> None:
        """Lets it run until it waits or ends; raises what has ended it, unless that may pass."""
        self.network.running = self
        self._mine.release()
        self._others.acquire()
        if not self.alive:
            self.awake_at = self.network.now + self.network.chance.choice([1, 3, 30])
            passes = getattr(self._error, "worker_exit_code", None) in {REJECTED, HUNG}
            if self._error and not passes and not isinstance(self._error, Killed):
                raise self._error

    def pause(self, seconds: float = 0.0) -> None:
        """Hands over for a time; called in its own thread."""
        if not self._killed:
            self.awake_at = self.network.now + seconds
            self._others.release()
            self._mine.acquire()
        if self._killed:
            raise Killed

    # What may happen to it.

    def kill(self) -> None:
        """It is killed; some of what it has sent arrives."""
        self.cut()
        if self.alive:
            self._killed = True
            self.resume()

    def cut(self) -> None:
        """Its connection is cut, which the learner notices at once or by its heartbeats."""
        if self.connection is not None:
            chance = self.network.chance
            self.connection.end(seconds=chance.choice([0, HEARTBEAT_SECONDS]), kept=chance.random())
            self._disconnect()

    def swallow(self) -> None:
        """Its connection swallows everything, until both ends notice it."""
        if self.connection is not None:
            self.connection.end(seconds=HEARTBEAT_SECONDS, kept=0.0)

    def freeze(self) -> None:
        """It does not run for a time; after a long one its connection is gone."""
        seconds = self.network.chance.choice([1, 4, 8, 30, 61])
        self.awake_at = self.network.now + seconds
        if seconds > HEARTBEAT_SECONDS:
            self.swallow()

    # Its sockets.

    def connect(self, route: bytes) -> Iterator[Connection]:
        """A new connection, if it is time for one."""
        if self.alive and self.connection is None and self.network.now >= self._connects_at:
            self.connection = Connection(self, route)
            yield self.connection

    def _disconnect(self) -> None:
        self.connection = None
        self._connects_at = self.network.now + self.network.chance.choice([0, 0.1, 0.5, 5, 12])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.connection is not None:
            self.connection.end()
            self._disconnect()

    def send(self, frames: Sequence[Frame]) -> None:
        """Sends a message, or drops it where no learner is connected."""
        copies = [bytes(frame) for frame in frames]
        self.network.record(copies)
        if self.connection is not None and self.connection.carries:
            self.connection.to_learner.append(copies)

    def receive(self, _seconds: float) -> list[list[bytes]]:
        """The messages that have arrived when the others have had their turn."""
        self.pause()
        if self.connection is None:
            return []
        received = list(self.network.some(self.connection.to_worker))
        if self.connection.noticed_at <= self.network.now and not self.connection.to_worker:
            self._disconnect()
        return received

    def published_weights(self) -> bytes:
        """The newest weights, once."""
        packed, self.published = self.published, b""
        return packed

    def subscribe(self, port: int) -> None:
        """Weights come in any case."""


class Heartbeat:
    """Beats while a call of the environment takes its time, in the worker's only thread."""

    def __init__(self, beat: Callable[[], float], process: Process) -> None:
        self._beat, self._process, self.calls = beat, process, 0
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        network = self._process.network
        while self._error is None and network.chance.random() < network.slowness:
            self._process.pause(network.chance.choice([0.3, 1.0]))
            try:
                self._beat()
            except Exception as error:  # noqa: BLE001  # raised below, as by the real one
                self._error = error
        self.calls += 1
        if kind is None and self._error is not None:
            raise self._error

    def close(self) -> None:
        """There is no thread to be ended."""


class Network:
    """The network, its workers, and the time.

    Args:
        chance: decides what is not said.
        worker_ids: that the workers ask for; None: any.
        slowness: probability that a call of an environment takes longer.
        fullness: probability that the queue for a worker is full, when a message is sent.

    Attributes:
        now: seconds of a monotonic clock.
        calm: whether everything arrives at once.
        over: whether the work is over, so that workers may leave.
        finished: whether the endpoint file says so.
        running: the worker that runs, or the last one that did.
        batches: what workers have sent, by session and in order of the numbers.
    """

    def __init__(
        self,
        chance: random.Random,
        worker_ids: Sequence[int | None],
        slowness: float,
        fullness: float,
    ) -> None:
        self.chance, self.now = chance, 1000.0
        self.slowness, self.fullness = slowness, fullness
        self.calm = self.over = self.finished = self._listening = False
        self.batches: dict[str, list[bytes]] = defaultdict(list)
        self._routes = itertools.count(1)
        self._connections: list[Connection] = []
        self.processes = [Process(self, worker_id) for worker_id in worker_ids]
        self.running = self.processes[0]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Has `loop.work` use it; in the end no worker is left."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "time", self)
            patch.setattr(discovery, "time", self)
            patch.setattr(loop, "Client", lambda *_: self.running)
            patch.setattr(loop, "Heartbeat", lambda beat, _: Heartbeat(beat, self.running))
            try:
                yield
            finally:
                for process in self.processes:
                    process.kill()

    def monotonic(self) -> float:
        """The time, as `time.monotonic` says it."""
        return self.now

    def address(self) -> Address:
        """What the endpoint file says."""
        if self.finished:
            raise RunFinishedError
        return Process.address

    def some(self, queue: deque[list[bytes]]) -> Iterator[list[bytes]]:
        """Takes the first messages out of a queue, as many as have arrived."""
        count = len(queue) if self.calm else self.chance.choice([0, 1, 2, 50])
        for _ in range(min(count, len(queue))):
            yield queue.popleft()

    def record(self, frames: Sequence[bytes]) -> None:
        """Records a batch; what is sent again is the same."""
        if isinstance(message := decode(frames), messages.Batch):
            sent = self.batches[message.session]
            sent += [b"".join(frames)] if message.sequence == len(sent) + 1 else []
            assert sent[message.sequence - 1] == b"".join(frames), "a number has two batches"

    def run_workers(self) -> None:
        """Lets each worker run for a moment, or not; one that has ended is started again."""
        for process in self.processes:
            for _ in range(2 if self.calm else self.chance.choice([0, 1, 1, 4])):
                awake = process.awake_at <= self.now
                if awake and not process.alive and not self.over:
                    process.start()
                if awake and process.alive:
                    process.resume()

    # The learner's end.

    def listen(self) -> None:
        """A learner is there."""
        self._listening = True

    def hang_up(self, kept: float) -> None:
        """The learner is gone; a share of what it has sent last arrives."""
        self._listening = False
        for connection in self._connections:
            connection.end(kept=kept)
        self._connections.clear()

    def deliver(self, state: GatewayState) -> None:
        """Brings the learner some of the messages that are on their way to it."""
        for process in self.processes if self._listening else ():
            self._connections += process.connect(b"%d" % next(self._routes))
        for connection in list(self._connections):
            for frames in self.some(connection.to_learner):
                state.receive(connection.route, frames, self.now, connection.process.worker_id)
            if connection.noticed_at <= self.now and not connection.to_learner:
                self._connections.remove(connection)

    def send(self, state: GatewayState) -> None:
        """Publishes the learner's weights, and sends what it says."""
        routes = {connection.route: connection for connection in self._connections}
        for connection in routes.values() if state.broadcast else ():
            if connection.carries and self.chance.random() < 0.9:
                connection.process.published = state.broadcast
        state.broadcast = b""
        refused = set()  # A queue that is full stays so for the moment.
        for route, frames in state.outbox:
            found = routes.get(route)
            full = route in refused or self.chance.random() < self.fullness
            if found is None or found.noticed_at <= self.now or full:
                refused.add(route)
                state.unreachable(route)
            elif found.carries:
                found.to_worker.append([bytes(frame) for frame in frames])
        state.outbox.clear()
