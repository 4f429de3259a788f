"""The worker's sockets: frames out and in, and the newest published weights."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import zmq

from workers.errors import UserError
from workers.wire import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from workers.wire import Frame

_BYE_MILLISECONDS = 500


class EndpointError(UserError):
    """The address of the learner cannot be one."""


class Client:
    """A DEALER to the learner and, after `subscribe`, a subscription to its weights.

    Args:
        endpoint: `tcp://host:port` of the learner.

    Raises:
        EndpointError: the endpoint is no such address.
    """

    def __init__(self, endpoint: str) -> None:
        self._host = _host(endpoint)
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._subscription: zmq.Socket[bytes] | None = None
        self._dealer = self._open(zmq.DEALER)
        # Nothing is queued for a learner that is not there: the session repeats what matters.
        self._dealer.set(zmq.IMMEDIATE, 1)
        self._connect(self._dealer, endpoint)

    def _open(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.set(zmq.HEARTBEAT_IVL, 2_000)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 6_000)
        socket.set(zmq.HEARTBEAT_TTL, 10_000)
        socket.set(zmq.HANDSHAKE_IVL, 5_000)
        socket.set(zmq.RECONNECT_IVL, 100)
        socket.set(zmq.RECONNECT_IVL_MAX, 5_000)
        return socket

    def _connect(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            self.close()
            raise EndpointError(f"Cannot connect to {endpoint}: {error.strerror}.") from error
        self._poller.register(socket, zmq.POLLIN)

    def subscribe(self, port: int) -> None:
        """Follows the weights that are published on a port, and no other; keeps the newest."""
        if self._subscription is not None:
            self._poller.unregister(self._subscription)
            self._subscription.close()
        socket = self._open(zmq.SUB)
        # After `connect` it would have no effect on messages that are under way.
        socket.set(zmq.CONFLATE, 1)
        socket.set(zmq.SUBSCRIBE, b"")
        self._connect(socket, f"tcp://{self._host}:{port}")
        self._subscription = socket

    def send(self, frames: Sequence[Frame]) -> None:
        """Sends a message, or drops it where no learner is connected."""
        with contextlib.suppress(zmq.Again):
            self._dealer.send_multipart(frames, zmq.NOBLOCK)

    def receive(self, timeout_seconds: float) -> list[list[bytes]]:
        """All messages that are there; waits for the first, or for newer weights."""
        received: list[list[bytes]] = []
        self._poller.poll(math.ceil(1000 * timeout_seconds))
        with contextlib.suppress(zmq.Again):
            while True:
                received.append(self._dealer.recv_multipart(zmq.NOBLOCK))
        return received

    def published_weights(self) -> bytes | None:
        """The weights published since the last call, packed; None if there are none."""
        if self._subscription is not None:
            with contextlib.suppress(zmq.Again):
                return self._subscription.recv(zmq.NOBLOCK)
        return None

    def close(self) -> None:
        """Closes the sockets; what was sent last has a moment to leave."""
        if self._subscription is not None:
            self._subscription.close()
        self._dealer.close(_BYE_MILLISECONDS)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _host(endpoint: str) -> str:
    address = urlsplit(endpoint)
    if address.scheme != "tcp" or not address.netloc.rpartition(":")[0]:
        raise EndpointError(f"The learner's address is tcp://HOST:PORT, not {endpoint!r}.")
    return address.netloc.rpartition(":")[0]
