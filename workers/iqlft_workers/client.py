"""The worker's sockets: frames out and in, and the newest published weights."""

from __future__ import annotations

import contextlib
import errno
import math
import re
import socket as tcp
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import parse_monitor_message

from iqlft_workers.discovery import Address, EndpointError
from iqlft_workers.errors import UserError
from iqlft_workers.wire import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from iqlft_workers.keys import WorkerKeys
    from iqlft_workers.wire import Frame

LEARNER_HANDSHAKE_MILLISECONDS = 5_000
"""How long a learner waits for the end of a handshake."""
WORKER_HANDSHAKE_MILLISECONDS = 4_000
"""How long a worker does: less, so that a learner that is slow is not taken for one that breaks
off."""
_ENDPOINT = re.compile(r"tcp://(?P<host>\[[\w:.%]+\]|[^\[\]/\s@]+):(?P<port>[1-9]\d{0,4})")
"""An address: a host name or IP address, in brackets for IPv6, and a port."""
_BYE_MILLISECONDS = 500
"""How long the last messages may take to leave when the sockets are closed."""
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01"
"""The first bytes of a ZMTP 3.1 greeting, which make the peer send the rest of its own."""
_GREETING_SECONDS = 0.5
"""The longest wait for a greeting."""
_MONITOR = "inproc://handshakes"
"""Where ZeroMQ reports how handshakes end."""
_HANDSHAKE_ENDS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
"""The events that are monitored."""


class KeyRefusedError(UserError):
    """Learner and worker do not agree about keys, and no second try will change that."""


class Client:
    """A DEALER to the learner and, after `subscribe`, another one for its weights.

    Args:
        endpoint: `tcp://host:port` of the learner.
        keys: to know the learner and be known by it; None for a learner without keys.

    Attributes:
        address: of the learner; another one after `move`.

    Raises:
        EndpointError: the endpoint is no such address.
    """

    def __init__(self, endpoint: str, keys: WorkerKeys | None = None) -> None:
        self._open_sockets(Address(endpoint, keys))

    @property
    def endpoint(self) -> str:
        """`tcp://host:port` of the learner."""
        return self.address.endpoint

    def _open_sockets(self, address: Address) -> None:
        self._host = _host(address.endpoint)
        self._ipv6 = has_ipv6_alone(self._host)
        self.address, self._keys = address, address.keys
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._subscription: zmq.Socket[bytes] | None = None
        self._greeted = False
        self._dealer = self._new_socket(zmq.DEALER)
        self._monitor = self._monitor_handshakes(self._dealer)
        # Nothing is queued for a learner that is not there: the session repeats what matters.
        self._dealer.set(zmq.IMMEDIATE, 1)
        self._connect(self._dealer, address.endpoint)

    def _new_socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
        limit_silence(socket, WORKER_HANDSHAKE_MILLISECONDS)
        socket.set(zmq.RECONNECT_IVL, 100)
        socket.set(zmq.RECONNECT_IVL_MAX, 5_000)
        socket.set(zmq.IPV6, self._ipv6)
        if self._keys:
            socket.set(zmq.CURVE_SERVERKEY, self._keys.learner)
            socket.set(zmq.CURVE_PUBLICKEY, self._keys.public)
            socket.set(zmq.CURVE_SECRETKEY, self._keys.secret)
        return socket

    def _monitor_handshakes(self, socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        """Has ZeroMQ report how handshakes end."""
        socket.monitor(_MONITOR, _HANDSHAKE_ENDS)
        monitor = self._context.socket(zmq.PAIR)
        # Unlimited: at a full queue ZeroMQ's own thread would block while the worker is busy.
        monitor.set(zmq.RCVHWM, 0)
        monitor.connect(_MONITOR)
        self._poller.register(monitor, zmq.POLLIN)
        return monitor

    def _connect(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            self._close_sockets(0)
            raise EndpointError(f"Cannot connect to {endpoint}: {error.strerror}.") from error
        self._poller.register(socket, zmq.POLLIN)

    def move(self, address: Address) -> None:
        """Moves to a new address of the learner; a subscription ends.

        Raises:
            EndpointError: its endpoint is no such address.
        """
        self._close_sockets(0)
        self._open_sockets(address)

    def subscribe(self, port: int) -> None:
        """Subscribes to the weights of this port alone; keeps the newest."""
        if self._subscription is not None:
            self._poller.unregister(self._subscription)
            self._subscription.close()
        socket = self._new_socket(zmq.DEALER)
        # To be set before `connect`, or it has no effect on this connection.
        socket.set(zmq.CONFLATE, 1)
        # Each new connection announces itself by an empty message; without IMMEDIATE a reconnection
        # would not count as new.
        socket.set(zmq.PROBE_ROUTER, 1)
        socket.set(zmq.IMMEDIATE, 1)
        self._connect(socket, f"tcp://{self._host}:{port}")
        self._subscription = socket

    def send(self, frames: Sequence[Frame]) -> None:
        """Sends a message, or drops it where no learner is connected."""
        with contextlib.suppress(zmq.Again):
            self._dealer.send_multipart(frames, zmq.NOBLOCK)

    def receive(self, timeout_seconds: float) -> list[list[bytes]]:
        """All messages that are there; waits for the first, or for newer weights.

        Raises:
            KeyRefusedError: the learner refuses this worker's key, or has an unexpected one itself;
                or only one of the two uses keys.
        """
        received: list[list[bytes]] = []
        self._poller.poll(math.ceil(1000 * timeout_seconds))
        self._handle_handshake_events()
        with contextlib.suppress(zmq.Again):
            while True:
                received.append(self._dealer.recv_multipart(zmq.NOBLOCK))
        return received

    def _handle_handshake_events(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                end = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
                match end["event"]:
                    case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                        self._greeted = False
                    case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                        self._handle_broken_handshake(end["value"])
                    case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                        raise KeyRefusedError(self._mismatch())
                    case _:
                        raise KeyRefusedError(
                            "The learner refused this worker's key; the worker's .public file must "
                            "lie in the learner's folder of keys when it starts."
                        )

    def _handle_broken_handshake(self, reason: int) -> None:
        """Handles a connection that the peer closed in the middle of a handshake.

        It may be a tunnel without a learner behind it; a learner with another mechanism, which
        often closes before ZeroMQ here has read which one it wants; or a learner that cannot
        decrypt what was encrypted for another key. The last greets correctly, but so does a learner
        that is just starting: the key counts as wrong only the second time.

        ZeroMQ's events do not tell these apart: nearly always each is a HANDSHAKE_FAILED_NO_DETAIL
        with EPIPE, because libzmq reports another mechanism only if its own end was the first to
        read it. So the greeting is requested once more, by hand.
        """
        if reason not in {errno.EPIPE, errno.ECONNRESET}:
            return
        mechanism = _mechanism(self.endpoint)
        if mechanism == (b"NULL" if self._keys else b"CURVE"):
            raise KeyRefusedError(self._mismatch())
        if mechanism == b"CURVE" and self._greeted:
            raise KeyRefusedError(
                f"The learner at {self.endpoint} is not the one of learner.public; copy that file "
                "again from where its keys were made."
            )
        self._greeted = mechanism == b"CURVE"

    def _mismatch(self) -> str:
        if self._keys:
            return (
                f"The learner at {self.endpoint} works without keys; start it with --keys DIR, or "
                "leave them out here."
            )
        return (
            f"The learner at {self.endpoint} asks for keys; give this worker's with --keys DIR, or "
            "connect to its run's endpoint file where its own keys are for this machine alone."
        )

    def published_weights(self) -> bytes | None:
        """The weights published since the last call, packed; None if there are none."""
        if self._subscription is not None:
            with contextlib.suppress(zmq.Again):
                return self._subscription.recv(zmq.NOBLOCK)
        return None

    def close(self) -> None:
        """Closes the sockets; what was sent last has a moment to leave."""
        self._close_sockets(_BYE_MILLISECONDS)

    def _close_sockets(self, linger_milliseconds: int) -> None:
        if self._subscription is not None:
            self._subscription.close()
        self._dealer.close(linger_milliseconds)
        self._monitor.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def limit_silence(socket: zmq.Socket[bytes], handshake_milliseconds: int) -> None:
    """Has ZeroMQ end connections whose peer is silent, at either end of the wire.

    Args:
        socket: not bound or connected yet.
        handshake_milliseconds: how long a handshake may take.
    """
    socket.set(zmq.HEARTBEAT_IVL, 2_000)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 6_000)
    socket.set(zmq.HEARTBEAT_TTL, 10_000)
    socket.set(zmq.HANDSHAKE_IVL, handshake_milliseconds)


def _host(endpoint: str) -> str:
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or int(match["port"]) > 65535:
        raise EndpointError(
            "The learner's address is tcp://HOST:PORT with a port in [1, 65535], not "
            f"{endpoint[:99]!r}."
        )
    return match["host"]


def has_ipv6_alone(host: str) -> bool:
    """Whether a host name or address, in brackets or not, stands for IPv6 addresses alone.

    ZeroMQ looks only for IPv4 addresses of a name, unless it is told to use IPv6.
    """
    try:
        found = tcp.getaddrinfo(host.strip("[]"), None, type=tcp.SOCK_STREAM)
    except OSError:  # Not known yet, perhaps: ZeroMQ tries again.
        return False
    return {family for family, *_ in found} == {tcp.AF_INET6}


def _mechanism(endpoint: str) -> bytes:
    """The mechanism that a learner's greeting names: `NULL` or `CURVE`; empty if there is none."""
    address = urlsplit(endpoint)
    with (
        contextlib.suppress(OSError),
        tcp.create_connection((address.hostname, address.port), _GREETING_SECONDS) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(_GREETING)
        return answer.read(32)[len(_GREETING) :].rstrip(b"\0")
    return b""
