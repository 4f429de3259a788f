"""A network between workers and learner that can be cut, slowed down and broken.

The proxy listens on another loopback address under the learner's own port numbers, because a worker
looks for the published weights on the host that it was told to connect to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

HOST = "127.0.0.2"
LEARNER = "127.0.0.1"

Way = Literal["to_learner", "to_workers"]
_WAYS: tuple[Way, ...] = ("to_learner", "to_workers")
_CHUNK = 2**16
_MAX_CHUNKS = 64
"""More than this is not under way on a connection; then the sender has to wait."""

_Chunks = asyncio.Queue[tuple[float, bytes]]


class TcpProxy:
    """Passes on connections to the learner's ports.

    A cut is a partition, not an end: connections stay open, what is sent waits, and nobody learns
    that the other side has closed before the way is open again.

    Args:
        ports: of the learner; the proxy listens on the same ones.
        host: address to listen on.
        learner: address of the learner.

    Attributes:
        accepted: connections accepted so far.
    """

    def __init__(self, ports: Sequence[int], *, host: str = HOST, learner: str = LEARNER) -> None:
        self.accepted = 0
        self._learner = learner
        self._listeners = [socket.create_server((host, port)) for port in ports]
        self._loop = asyncio.new_event_loop()
        self._open = {way: asyncio.Event() for way in _WAYS}
        self._delay_seconds = 0.0
        self._closing = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="tcp-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(asyncio.Event.set, [self._closing])
        self._thread.join()

    def cut(self, *ways: Way) -> None:
        """Nothing passes any more, in both ways or in those given."""
        self._do(asyncio.Event.clear, [self._open[way] for way in ways or _WAYS])

    def restore(self) -> None:
        """Everything passes again, first what was held back."""
        self._do(asyncio.Event.set, self._open.values())

    def delay(self, seconds: float) -> None:
        """What is read from now on takes so long in each way."""
        self._delay_seconds = seconds

    def drop_connections(self) -> None:
        """Closes all connections; what was under way is lost. New ones are welcome."""
        self._do(asyncio.Task.cancel, self._connections)

    def _do(self, action: Callable[[Any], object], things: Iterable[object]) -> None:
        """Acts on things in the thread, and returns when that is done."""

        async def act() -> None:
            for thing in things:
                action(thing)

        asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    # Only the thread from here on.

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        accepting = [asyncio.create_task(self._accept(listener)) for listener in self._listeners]
        await self._closing.wait()
        tasks = [*accepting, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        with listener:
            while True:
                near, _ = await self._loop.sock_accept(listener)
                self.accepted += 1
                task = asyncio.create_task(self._connect(near, listener.getsockname()[1]))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _connect(self, near: socket.socket, port: int) -> None:
        near.setblocking(False)
        with near, socket.socket() as far:
            far.setblocking(False)
            await self._open["to_learner"].wait()
            with contextlib.suppress(OSError):
                await self._loop.sock_connect(far, (self._learner, port))
                await self._pass_on(near, far)

    async def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        """Until one side closes and the other one has been sent all that came before."""
        tasks = []
        for source, sink, way in ((near, far, _WAYS[0]), (far, near, _WAYS[1])):
            chunks: _Chunks = asyncio.Queue(_MAX_CHUNKS)
            tasks += [
                asyncio.create_task(self._read(source, chunks, way)),
                asyncio.create_task(self._write(sink, chunks, way)),
            ]
        try:
            await asyncio.wait(tasks[1::2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, source: socket.socket, chunks: _Chunks, way: Way) -> None:
        chunk = b"-"
        while chunk:
            await self._open[way].wait()
            try:
                chunk = await self._loop.sock_recv(source, _CHUNK)
            except OSError:
                chunk = b""
            await chunks.put((self._loop.time() + self._delay_seconds, chunk))

    async def _write(self, sink: socket.socket, chunks: _Chunks, way: Way) -> None:
        while True:
            due_at, chunk = await chunks.get()
            await asyncio.sleep(due_at - self._loop.time())
            await self._open[way].wait()
            if not chunk:
                return
            # A sink that is closed says so the other way, where that may be cut.
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(sink, chunk)


def free_ports() -> tuple[int, int]:
    """Two neighbouring ports that are free for a learner and for a proxy."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.create_server((LEARNER, 0))).getsockname()[1]
            for address in ((HOST, first), (LEARNER, first + 1), (HOST, first + 1)):
                stack.enter_context(socket.create_server(address))
            return first, first + 1
