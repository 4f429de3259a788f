import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gateways import open_gateway, receive
from iqlft.gateway.gateway import Gateway
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.transition import RowLayout, Transitions
from synthetic_worker import ID, SESSION, indices_by_session, started
from tcp_proxy import HOST, LEARNER, TcpProxy, free_ports
from transitions import concatenate

MakeWeights = Callable[..., ActorWeights]
COUNTING = EnvironmentSpec(ID)
LAYOUT = RowLayout(29, 8)


class Ends:
    """A proxy with the sockets on both of its sides."""

    def __init__(self, stack: ExitStack) -> None:
        self.ports = free_ports()
        self._stack = stack
        self._listeners = {
            port: stack.enter_context(socket.create_server((LEARNER, port))) for port in self.ports
        }
        self.proxy = stack.enter_context(TcpProxy(self.ports))

    def connect(self, port: int) -> tuple[socket.socket, socket.socket]:
        """The worker's and the learner's end of a new connection."""
        worker = self._stack.enter_context(socket.create_connection((HOST, port), 5))
        return worker, self.accept(port)

    def accept(self, port: int) -> socket.socket:
        """The learner's end of the next connection."""
        self._listeners[port].settimeout(5)
        learner = self._stack.enter_context(self._listeners[port].accept()[0])
        learner.settimeout(5)
        return learner


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack)


def read(end: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        chunk = end.recv(size - len(data))
        assert chunk, "the connection was closed"
        data += chunk
    return data


def silent(end: socket.socket, seconds: float = 0.2) -> bool:
    """Whether nothing comes, not even an end."""
    end.settimeout(seconds)
    try:
        end.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        end.settimeout(5)
    return False


def test_bytes_pass_in_order_both_ways_and_on_every_port(ends: Ends) -> None:
    data = np.random.default_rng(0).bytes(3_000_000)
    for port in ends.ports:
        worker, learner = ends.connect(port)
        for index in range(0, len(data), 250_000):
            part = data[index : index + 250_000]
            worker.sendall(part)
            assert read(learner, len(part)) == part
            learner.sendall(part[::-1])
            assert read(worker, len(part)) == part[::-1]
    assert ends.proxy.accepted == 2


def test_a_cut_holds_everything_and_restoring_delivers_it_in_order(ends: Ends) -> None:
    worker, learner = ends.connect(ends.ports[0])
    worker.sendall(b"before")
    assert read(learner, 6) == b"before"
    ends.proxy.cut()
    for index in range(100):
        worker.sendall(b"w%06d" % index)
        learner.sendall(b"l%06d" % index)
    assert silent(worker)
    assert silent(learner)
    ends.proxy.restore()
    assert read(learner, 700) == b"".join(b"w%06d" % index for index in range(100))
    assert read(worker, 700) == b"".join(b"l%06d" % index for index in range(100))
    assert ends.proxy.accepted == 1


@pytest.mark.parametrize("way", ["to_learner", "to_workers"])
def test_one_way_can_be_cut_alone(ends: Ends, way: str) -> None:
    worker, learner = ends.connect(ends.ports[0])
    ends.proxy.cut(way)  # type: ignore[arg-type]
    worker.sendall(b"up")
    learner.sendall(b"down")
    assert silent(learner) == (way == "to_learner")
    assert silent(worker) == (way == "to_workers")
    ends.proxy.restore()
    assert (read(learner, 2), read(worker, 4)) == (b"up", b"down")


def test_what_is_held_is_bounded_so_that_the_sender_has_to_wait(ends: Ends) -> None:
    worker, _ = ends.connect(ends.ports[0])
    ends.proxy.cut()
    worker.settimeout(0.5)
    with pytest.raises(TimeoutError):
        worker.sendall(bytes(2**25))


def test_a_connection_made_or_closed_during_a_cut_is_seen_afterwards(ends: Ends) -> None:
    worker, learner = ends.connect(ends.ports[0])
    ends.proxy.cut()
    worker.sendall(b"last words")
    worker.close()
    with socket.create_connection((HOST, ends.ports[0]), 5) as late:
        late.sendall(b"hello")
        assert silent(learner)
        ends.proxy.restore()
        assert read(learner, 10) == b"last words"
        assert learner.recv(1) == b""
        assert read(ends.accept(ends.ports[0]), 5) == b"hello"


def test_a_delay_holds_for_each_byte_without_narrowing_the_line(ends: Ends) -> None:
    worker, learner = ends.connect(ends.ports[0])
    ends.proxy.delay(0.15)
    began = time.monotonic()
    for index in range(20):
        worker.sendall(bytes([index]))
        time.sleep(0.005)
    assert read(learner, 1) == b"\0"
    assert time.monotonic() - began > 0.14
    assert read(learner, 19) == bytes(range(1, 20))
    assert time.monotonic() - began < 1.0
    learner.sendall(b"back")
    assert silent(worker, 0.1)
    assert read(worker, 4) == b"back"


def test_dropped_connections_end_on_both_sides_and_new_ones_are_welcome(ends: Ends) -> None:
    worker, learner = ends.connect(ends.ports[0])
    ends.proxy.drop_connections()
    assert worker.recv(1) == b""
    assert learner.recv(1) == b""
    worker, learner = ends.connect(ends.ports[0])
    worker.sendall(b"again")
    assert read(learner, 5) == b"again"
    assert ends.proxy.accepted == 2


def test_a_learner_that_is_not_there_ends_the_connection() -> None:
    ports = free_ports()
    with TcpProxy(ports), socket.create_connection((HOST, ports[0]), 5) as worker:
        assert worker.recv(1) == b""


# -- workers behind the proxy -------------------------------------------------------------------


def assert_whole(transitions: Transitions, sessions: int) -> None:
    """Every step of every session is there once, in order."""
    indices = indices_by_session(transitions)
    assert len(indices) == sessions
    for each in indices.values():
        np.testing.assert_array_equal(each, np.arange(len(each)))


def set_to_work(gateway: Gateway, workers: int) -> Transitions:
    """Gives a step to each until all of them have come, so that the first does not take all."""
    parts: list[Transitions] = []
    while not parts or len(indices_by_session(concatenate(parts))) < workers:
        gateway.allow(workers * (len(parts) + 1))
        parts.append(receive(gateway, workers))
    return concatenate(parts)


@pytest.fixture
def behind_proxy(make_weights: MakeWeights) -> Iterator[tuple[Gateway, TcpProxy, str]]:
    """A gateway for two workers in `Counting`, a proxy in front of it, and its endpoint."""
    ports = free_ports()
    with (
        open_gateway(COUNTING, LAYOUT, num_workers=2, port=ports[0]) as gateway,
        TcpProxy(ports) as proxy,
    ):
        gateway.publish(make_weights(29, 8, version=1))
        yield gateway, proxy, f"tcp://{HOST}:{ports[0]}"


@pytest.mark.usefixtures("importable")
def test_real_workers_go_on_where_a_partition_left_them(
    behind_proxy: tuple[Gateway, TcpProxy, str],
    make_weights: MakeWeights,
    tmp_path: Path,
) -> None:
    gateway, proxy, endpoint = behind_proxy
    with WorkerPool(2, endpoint, tmp_path, gateway.own_keys) as pool:
        first = set_to_work(gateway, 2)
        allowed = first.num_transitions + 1000
        gateway.allow(allowed)
        before = receive(gateway, 1000)
        proxy.cut()
        gateway.publish(make_weights(29, 8, version=2))
        allowed += 1000
        gateway.allow(allowed)
        assert gateway.receive(0.5) == []
        proxy.restore()
        after = receive(gateway, 1000)
        # The published weights pass through the proxy too, as soon as their connection is back.
        parts, deadline = [after], time.monotonic() + 20
        while 2 not in parts[-1].versions:
            assert time.monotonic() < deadline, "no steps with the new weights came"
            allowed += 500
            gateway.allow(allowed)
            parts.append(receive(gateway, 500))
        assert pool.watch() == []
        # Before the gateway is closed: from then on the workers keep asking for it.
        accepted = proxy.accepted
        gateway.close()
    everything = concatenate([first, before, *parts])
    assert_whole(everything, sessions=2)
    np.testing.assert_array_equal(everything.rewards, everything.next_observations[:, 2])
    assert accepted == 4


def test_synthetic_workers_send_whole_batches_at_their_own_speed(
    behind_proxy: tuple[Gateway, TcpProxy, str],
) -> None:
    gateway, _, endpoint = behind_proxy
    arguments = (
        "--connect",
        endpoint,
        "--keys",
        str(gateway.own_keys),
        "--batch",
        "64",
        "--seconds-per-step",
        "0.001",
    )
    parts: list[Transitions] = []
    with started(2, *arguments) as processes:
        gateway.allow(10**9)
        while not parts or len(indices_by_session(concatenate(parts))) < 2:
            parts += gateway.receive(5)
        began, before = time.monotonic(), len(parts)
        while time.monotonic() < began + 1:
            parts += gateway.receive(0.1)
        seconds = time.monotonic() - began
        gateway.close()
        assert [process.wait(30) for process in processes] == [0, 0]
    everything = concatenate(parts)
    assert {part.num_transitions for part in parts} == {64}
    assert_whole(everything, sessions=2)
    assert (everything.observations[:, SESSION] == 0).all()
    # Slower where other programs use the machine, never faster.
    assert 64 * (len(parts) - before) / seconds < 2500
