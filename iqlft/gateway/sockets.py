"""The learner's sockets: bound, limited, monitored; closed to strangers where there are keys."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import resource
import socket as tcp
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zmq

from iqlft.gateway import curve_auth
from iqlft_workers.client import LEARNER_HANDSHAKE_MILLISECONDS, limit_silence
from iqlft_workers.errors import UserError
from iqlft_workers.wire import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iqlft_workers.keys import LearnerKeys
    from iqlft_workers.wire import Frame

REPORT_SECONDS = 60.0
"""Rejected connections are reported at most this often."""
_MAX_MESSAGES = 256
"""The most messages received before anything is sent."""
_LINGER_MILLISECONDS = 500
"""How long the last messages may take to leave when a socket is closed."""
_PROBE_BYTES = 1024
"""The most bytes of a message to the weights socket: probes are empty, handshakes are not."""
_PROBE = [b""]
"""The frames by which a connection asks for weights."""
_MAX_FOLLOWERS = 1024
"""The most connections that weights are published to."""
_QUEUED_MESSAGES = 64
"""The most messages queued for a peer that does not read, or from one that is not read."""
_QUEUED_WEIGHTS = 2
"""The most weights queued for a peer that does not read."""
_OWN_HANDLES = 64
"""The most sockets, files and pipes of a learner without workers."""
_WORKER_HANDLES = 6
"""The most per worker: two connections, two more when it returns, its log while it starts."""
_MOST_HANDLES = 2**16
"""As many as are asked for where the hard limit allows it."""
_WILDCARDS = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Hosts that stand for all addresses, and where they are reached from this machine."""

_log = logging.getLogger(__name__)


class GatewayError(UserError):
    """The gateway cannot be opened, or has failed, or is closed."""


class PortInUseError(GatewayError):
    """Another program listens on the port."""


class Arrival(NamedTuple):
    """A message that came in.

    Attributes:
        route: routing id of its connection.
        frames: not checked yet.
        worker_id: the worker whose key the connection uses; None if the key stands for no single
            worker, or keys are not used.
    """

    route: bytes
    frames: list[bytes]
    worker_id: int | None


class LearnerSockets:
    """Two ROUTERs, for messages and for weights, and a PAIR that wakes their thread.

    Weights are not published by a PUB, which would store any subscription that a peer makes up. A
    connection only asks for weights, and a bounded number of connections is remembered.

    The sockets belong to one thread; others may call `wake` alone, under a lock that is also held
    around `receive`.

    Args:
        host: address to listen on.
        port: to listen on, with weights on the next one; 0 takes any two free ports.
        keys: who may connect; None for anybody.
        workers: how many are served.
        last_port: reused if it is free and `port` is 0.

    Attributes:
        endpoint: what a worker connects to.
        port: the port of `endpoint`.
        weights_port: where weights are published.
        rejected: connections rejected so far: a key that is unknown, wrong, missing or not wanted.

    Raises:
        PortInUseError: another program listens there.
        GatewayError: the host is not an address of this machine, or too few files may be open.
    """

    def __init__(
        self,
        host: str,
        port: int,
        keys: LearnerKeys | None = None,
        workers: int = 1,
        last_port: int = 0,
    ) -> None:
        require_handles(workers)
        self.rejected = 0
        self._reported_at = -math.inf
        self._keys, self._woken = keys, False
        self._followers: OrderedDict[bytes, None] = OrderedDict()
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._readable: set[zmq.Socket[bytes]] = set()
        self._monitors: list[zmq.Socket[bytes]] = []
        host = host.strip("[]")
        try:
            # The authenticator must listen before anybody can connect.
            self._authenticator = self._listen(zmq.REP, curve_auth.ENDPOINT) if keys else None
            self._wake_receiver = self._listen(zmq.PAIR, "inproc://wake")
            self._wake_sender = self._context.socket(zmq.PAIR)
            self._wake_sender.connect("inproc://wake")
            first = [port] if port or not last_port else [last_port, port]
            self._router, self.port = self._bind("messages", host, first)
            self._publisher, self.weights_port = self._bind("weights", host, [port and port + 1])
        except GatewayError:
            self._context.destroy(0)
            raise
        for socket in (self._router, self._publisher):
            self._poller.register(socket, zmq.POLLIN)
        self.endpoint = f"tcp://{_in_url(_WILDCARDS.get(host, host))}:{self.port}"

    def _listen(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        """A socket for messages from within this process."""
        socket = self._context.socket(kind)
        socket.bind(endpoint)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _bind(self, what: str, host: str, ports: Sequence[int]) -> tuple[zmq.Socket[bytes], int]:
        """A ROUTER with limits and keys, bound to the first free port, and that port."""
        socket, weights = self._context.socket(zmq.ROUTER), what == "weights"
        socket.set(zmq.MAXMSGSIZE, _PROBE_BYTES if weights else MAX_BYTES)
        socket.set(zmq.SNDHWM, _QUEUED_WEIGHTS if weights else _QUEUED_MESSAGES)
        socket.set(zmq.RCVHWM, _QUEUED_MESSAGES)
        limit_silence(socket, LEARNER_HANDSHAKE_MILLISECONDS)
        socket.set(zmq.IPV6, ":" in host)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        if self._keys:
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_SECRETKEY, self._keys.secret)
            socket.set(zmq.ZAP_DOMAIN, curve_auth.DOMAIN)
            # Otherwise anybody would be admitted while no authenticator answers.
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._monitor_handshakes(socket, f"inproc://handshakes-{what}")
        for port in ports:
            try:
                socket.bind(f"tcp://{_in_url(host)}:{port or '*'}")
                break
            except zmq.ZMQError as error:
                if port == ports[-1]:
                    raise _bind_error(host, port, error) from error
        endpoint = socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return socket, int(endpoint.rpartition(b":")[2])

    def _monitor_handshakes(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Has ZeroMQ report handshakes that fail before a key is seen."""
        socket.monitor(endpoint, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        monitor = self._context.socket(zmq.PAIR)
        # Unlimited: at a full queue ZeroMQ's own thread would block, and serve no worker.
        monitor.set(zmq.RCVHWM, 0)
        monitor.connect(endpoint)
        self._poller.register(monitor, zmq.POLLIN)
        self._monitors.append(monitor)

    def wake(self) -> None:
        """Ends the `wait` that is under way, or the next one."""
        if not self._woken:
            self._woken = True
            self._wake_sender.send(b"", zmq.NOBLOCK)

    def wait(self, timeout_seconds: float) -> None:
        """Waits until there is something to receive."""
        self._readable = {
            socket for socket, _ in self._poller.poll(math.ceil(1000 * timeout_seconds))
        }

    def receive(self) -> Iterator[Arrival]:
        """The messages that `wait` has found, up to `_MAX_MESSAGES`; also authenticates peers."""
        # Only readable sockets are read, because an empty one costs an exception.
        if self._wake_receiver in self._readable:
            self._woken = False
            self._wake_receiver.recv(zmq.NOBLOCK)
        if self._authenticator in self._readable:
            self._authenticate_connections()
        self._count_failed_handshakes()
        if self._publisher in self._readable:
            self._receive_probes()
        if self._router in self._readable:
            with contextlib.suppress(zmq.Again):
                for _ in range(_MAX_MESSAGES):
                    yield self._receive()

    def _receive(self) -> Arrival:
        if self._keys is None:
            route, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            return Arrival(route, frames, None)
        # Only frames that are not copied carry the user id of their connection.
        first = self._router.recv(zmq.NOBLOCK, copy=False)
        rest, part = [], first
        while part.more:
            part = self._router.recv(zmq.NOBLOCK, copy=False)
            rest.append(part.bytes)
        user_id = str(first.get("User-Id"))
        return Arrival(first.bytes, rest, None if user_id == curve_auth.ANY_ID else int(user_id))

    def _receive_probes(self) -> None:
        """Remembers the connections that ask for weights, and drops anything else they send."""
        with contextlib.suppress(zmq.Again):
            for _ in range(_MAX_MESSAGES):
                route, *frames = self._publisher.recv_multipart(zmq.NOBLOCK)
                if frames == _PROBE:
                    self._followers[route] = None
                    if len(self._followers) > _MAX_FOLLOWERS:
                        self._followers.popitem(last=False)

    def _authenticate_connections(self) -> None:
        """Answers ZeroMQ's pending requests about who may connect."""
        if self._authenticator and self._keys:
            with contextlib.suppress(zmq.Again):
                while True:
                    request = self._authenticator.recv_multipart(zmq.NOBLOCK)
                    answer = curve_auth.authenticate(request, self._keys.workers)
                    self._authenticator.send_multipart(answer.reply, zmq.NOBLOCK)
                    if answer.rejected:
                        self._reject(f"from {answer.rejected} with an unknown key")

    def _count_failed_handshakes(self) -> None:
        for monitor in self._readable.intersection(self._monitors):
            with contextlib.suppress(zmq.Again):
                while True:
                    monitor.recv_multipart(zmq.NOBLOCK)
                    self._reject("with a wrong key, or with none")

    def _reject(self, whence: str) -> None:
        self.rejected += 1
        now = time.monotonic()
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            _log.warning("A connection was refused, %d so far; it came %s.", self.rejected, whence)

    def send(self, route: bytes, frames: Sequence[Frame]) -> bool:
        """Sends a message.

        Returns:
            Whether it was sent; not if the connection is closed or its queue is full.
        """
        try:
            self._router.send_multipart([route, *frames], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def publish(self, packed: bytes) -> None:
        """Sends weights to every connection that asked for them and has room for them."""
        shared = zmq.Frame(packed)  # Copied once, whatever the number of connections.
        for route in list(self._followers):
            try:
                self._publisher.send(route, zmq.SNDMORE | zmq.NOBLOCK)
                self._publisher.send(shared, zmq.NOBLOCK, copy=False)
            except zmq.Again:
                pass  # It has older ones to read, and asks for what it misses.
            except zmq.ZMQError:
                del self._followers[route]

    def close(self) -> None:
        """Closes all sockets but the one that `wake` uses; messages already sent may leave."""
        for socket in (self._router, self._publisher):
            socket.close(_LINGER_MILLISECONDS)
        for inner in (self._wake_receiver, self._authenticator, *self._monitors):
            if inner is not None:
                inner.close(0)

    def terminate(self) -> None:
        """Ends everything; call it after `close` and the last `wake`."""
        self._wake_sender.close(0)
        self._context.term()


def require_handles(workers: int) -> None:
    """Raises the limit on open sockets and files, at least to what so many workers need.

    ZeroMQ aborts the process when it gets no handle, and until a handshake has failed a stranger's
    connection takes one too.

    Raises:
        GatewayError: more are needed than the hard limit allows.
    """
    needed = len(list(Path("/dev/fd").iterdir())) + _OWN_HANDLES + _WORKER_HANDLES * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise GatewayError(
            f"{needed} files and connections may be open with {workers} workers, but this process "
            f"is allowed {hard}; raise the hard limit (as root `ulimit -n {needed}`, or in "
            "/etc/security/limits.conf), or take fewer --workers or --remote-workers."
        )
    most = max(soft, needed, _MOST_HANDLES)
    raised = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def reachable(endpoint: str, host: str) -> str:
    """An endpoint as a worker on another machine reaches it.

    Args:
        endpoint: as a worker on this machine reaches it.
        host: address that is listened on.
    """
    if host.strip("[]") not in _WILDCARDS:
        return endpoint
    return f"tcp://{tcp.getfqdn()}:{endpoint.rpartition(':')[2]}"


def require_safe_host(host: str, keys: LearnerKeys | None, *, insecure: bool) -> None:
    """Refuses to serve other machines without keys, unless the user has asked for that.

    Args:
        host: address to listen on.
        keys: who may connect; None if the user gave no keys.
        insecure: whether anybody may connect without keys; else only workers of this machine may.

    Raises:
        GatewayError: workers of other machines would have no keys.
    """
    if keys is not None or (_is_loopback(host) and not insecure):
        return
    if not insecure:
        raise GatewayError(
            f"Workers that reach {host} from other machines need keys; make some with "
            "`iqlft keys new DIR` and give them with --keys DIR, or stay on 127.0.0.1 (--insecure "
            "lets anybody send transitions and read weights)."
        )
    _log.warning(
        "INSECURE: the learner listens on %s without keys; anybody who reaches it can send "
        "transitions and read weights.",
        host,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bind_error(host: str, port: int, error: zmq.ZMQError) -> GatewayError:
    if error.errno == zmq.EADDRINUSE:
        return PortInUseError(
            f"Port {port} of {host} is in use, perhaps by another run; choose another with "
            "--port, or let --port 0 find a free one."
        )
    return GatewayError(f"Cannot listen on {host}, port {port}: {error.strerror}.")
