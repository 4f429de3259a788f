"""Who may connect to a learner, over real sockets."""

import functools
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq

import gateways
import iqlft_workers
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.sockets import Arrival, GatewayError, LearnerSockets, require_safe_host
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.client import Client, KeyRefusedError, has_ipv6_alone
from iqlft_workers.keys import KeyFileError, LearnerKeys, WorkerKeys, new_keys
from iqlft_workers.messages import Message
from iqlft_workers.wire import decode, encode
from tcp_proxy import free_ports


class Keys:
    """Two folders of keys that do not belong together."""

    def __init__(self, root: Path) -> None:
        self.ours, self.theirs = root / "ours", root / "theirs"
        for folder in (self.ours, self.theirs):
            new_keys(folder, 2)
        self.learner = LearnerKeys.load(self.ours)

    def worker(self, worker_id: int) -> WorkerKeys:
        return WorkerKeys.load(self.ours, worker_id)

    @property
    def stranger(self) -> WorkerKeys:
        """Knows the learner, but the learner does not know its key."""
        known, unknown = self.worker(0), WorkerKeys.load(self.theirs, 0)
        return WorkerKeys(0, known.learner, unknown.public, unknown.secret)

    @property
    def lost(self) -> WorkerKeys:
        """Is known to the learner, but takes another for its learner."""
        known, unknown = self.worker(0), WorkerKeys.load(self.theirs, 0)
        return WorkerKeys(0, unknown.learner, known.public, known.secret)

    def in_text(self, text: str) -> bool:
        """Whether a text gives any key away."""
        files = [*self.ours.iterdir(), *self.theirs.iterdir()]
        return any(file.read_text().strip() in text for file in files)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@contextmanager
def listening(
    keys: LearnerKeys | None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[LearnerSockets]:
    sockets = LearnerSockets(host, port, keys)
    try:
        yield sockets
    finally:
        sockets.close()
        sockets.terminate()


def exchange(
    sockets: LearnerSockets, client: Client, until: Callable[[list[Arrival]], object]
) -> list[Arrival]:
    """Lets the client say hello again and again; what has come to the learner."""
    came: list[Arrival] = []
    deadline = time.monotonic() + 30
    while not until(came):
        assert time.monotonic() < deadline, "it took too long"
        client.send([b"hello"])
        sockets.wait(0.01)
        came += sockets.receive()
        client.receive(0.001)
    return came


def refusal(sockets: LearnerSockets, keys: WorkerKeys | None) -> str:
    """The sentence of a worker that is refused, which takes a moment."""
    began_at = time.monotonic()
    came: list[Arrival] = []
    with Client(sockets.endpoint, keys) as client, pytest.raises(KeyRefusedError) as caught:
        exchange(sockets, client, lambda newly: bool(came.extend(newly)))
    assert time.monotonic() - began_at < 5.0
    assert came == []
    return str(caught.value)


def test_workers_with_a_shared_key_are_served_and_have_no_id_of_their_own(tmp_path: Path) -> None:
    new_keys(tmp_path / "keys", 1, shared=True)
    shared = WorkerKeys.load(tmp_path / "keys")
    with (
        listening(LearnerKeys.load(tmp_path / "keys")) as sockets,
        Client(sockets.endpoint, shared) as one,
        Client(sockets.endpoint, shared) as other,
    ):
        (first, *_) = exchange(sockets, one, lambda came: came)
        came = exchange(sockets, other, lambda came: {each.route for each in came} - {first.route})
        assert {each.worker_id for each in [first, *came]} == {None}


def test_a_worker_with_its_key_is_served_and_known_by_its_id(keys: Keys) -> None:
    with (
        listening(keys.learner) as sockets,
        Client(sockets.endpoint, keys.worker(1)) as one,
        Client(sockets.endpoint, keys.worker(0)) as zero,
    ):
        (first, *_) = exchange(sockets, one, lambda came: came)
        assert (first.frames, first.worker_id) == ([b"hello"], 1)
        assert sockets.send(first.route, [b"welcome", b"twice"])
        assert one.receive(1.0) == [[b"welcome", b"twice"]]
        # What the first has said again and again may come before.
        exchange(sockets, zero, lambda came: any(each.worker_id == 0 for each in came))
        assert sockets.rejected == 0


def test_without_keys_nobody_is_known(keys: Keys) -> None:
    assert keys.learner
    with listening(None) as sockets, Client(sockets.endpoint) as client:
        assert exchange(sockets, client, lambda came: came)[0].worker_id is None


def published(sockets: LearnerSockets, keys: WorkerKeys, seconds: float) -> bytes | None:
    """What a subscriber gets in so long; it needs no connection for messages."""
    with Client(sockets.endpoint, keys) as client:
        client.subscribe(sockets.weights_port)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sockets.publish(b"weights")
            sockets.wait(0.01)
            list(sockets.receive())
            if packed := client.published_weights():
                return packed
    return None


def test_weights_go_only_to_workers_whose_key_is_known(keys: Keys) -> None:
    with listening(keys.learner) as sockets:
        assert published(sockets, keys.worker(0), 5.0) == b"weights"
        assert sockets.rejected == 0
        assert published(sockets, keys.stranger, 0.3) is None
        # Of the connection for messages, and of that for weights.
        receive_nothing_until_rejected(sockets, 2)
        assert sockets.rejected == 2


@pytest.mark.parametrize("keyed", [True, False])
def test_weights_go_on_when_the_connection_for_them_is_made_again(
    keys: Keys, *, keyed: bool
) -> None:
    learner, worker = (keys.learner, keys.worker(0)) if keyed else (None, None)
    port = free_ports()[0]
    with Client(f"tcp://127.0.0.1:{port}", worker) as client:
        client.subscribe(port + 1)
        for packed in (b"first", b"second"):
            with listening(learner, port=port) as sockets:
                assert published_to(sockets, client, packed, 20.0)


def published_to(sockets: LearnerSockets, client: Client, packed: bytes, seconds: float) -> bool:
    """Whether a client gets what is published in so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sockets.publish(packed)
        sockets.wait(0.01)
        list(sockets.receive())
        if client.published_weights() == packed:
            return True
    return False


def test_an_unknown_key_is_refused(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    with listening(keys.learner) as sockets:
        sentence = refusal(sockets, keys.stranger)
        assert "refused this worker's key" in sentence
        assert sockets.rejected == 1
    assert "from 127.0.0.1 with an unknown key" in caplog.text
    assert not keys.in_text(caplog.text + sentence)


def test_a_worker_without_keys_is_told_to_use_them(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(keys.learner) as sockets:
        assert "asks for keys; give this worker's with --keys DIR" in refusal(sockets, None)
    assert not keys.in_text(caplog.text)


def test_a_peer_without_keys_that_does_not_leave_by_itself_is_cut_off_and_counted(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(52, b"\0")
    with listening(keys.learner) as sockets:
        for port in (int(sockets.endpoint.rpartition(":")[2]), sockets.weights_port):
            with socket.create_connection(("127.0.0.1", port), 1.0) as peer:
                peer.sendall(greeting)
                hang_up_of(peer)
        receive_nothing_until_rejected(sockets, 2)
        assert sockets.rejected == 2
    assert "with a wrong key, or with none" in caplog.text
    assert not keys.in_text(caplog.text)


def receive_nothing_until_rejected(sockets: LearnerSockets, count: int) -> None:
    """Waits until so many connections have been refused, of which ZeroMQ tells in its own time."""
    deadline = time.monotonic() + 30.0
    while sockets.rejected < count and time.monotonic() < deadline:
        sockets.wait(0.01)
        assert list(sockets.receive()) == []


def hang_up_of(peer: socket.socket) -> None:
    """Waits until the other end has hung up."""
    with suppress(ConnectionResetError):
        while peer.recv(1024):
            pass


def test_the_key_of_another_learner_is_noticed(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(keys.learner) as sockets:
        sentence = refusal(sockets, keys.lost)
        assert "is not the one of learner.public" in sentence
        receive_nothing_until_rejected(sockets, 2)
        assert sockets.rejected >= 2
    assert not keys.in_text(caplog.text + sentence)


def test_a_worker_with_keys_does_not_talk_to_a_learner_without(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(None) as sockets:
        assert "works without keys" in refusal(sockets, keys.worker(0))
    assert not keys.in_text(caplog.text)


def test_many_refusals_are_counted_but_told_once(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(keys.learner) as sockets, Client(sockets.endpoint, keys.worker(1)) as honest:
        for _ in range(5):
            refusal(sockets, keys.stranger)
        assert sockets.rejected == 5
        assert exchange(sockets, honest, lambda came: came)[0].worker_id == 1
    assert len(caplog.records) == 1


def test_a_tunnel_that_leads_nowhere_is_not_taken_for_a_wrong_key(keys: Keys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            port = server.getsockname()[1]
            with Client(f"tcp://127.0.0.1:{port}", keys.worker(0)) as client:
                until = time.monotonic() + 0.7
                while time.monotonic() < until:
                    assert client.receive(0.1) == []
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.slow
def test_a_learner_that_is_busy_for_long_is_not_taken_for_another(keys: Keys) -> None:
    with listening(keys.learner) as sockets, Client(sockets.endpoint, keys.worker(0)) as client:
        until = time.monotonic() + 12
        while time.monotonic() < until:
            assert client.receive(0.1) == []
        assert exchange(sockets, client, lambda came: came)[0].worker_id == 0


def test_an_address_of_ipv6_is_served_with_keys(keys: Keys) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("this machine has no IPv6")
    with (
        listening(keys.learner, "::1") as sockets,
        Client(sockets.endpoint, keys.worker(1)) as client,
    ):
        assert sockets.endpoint.startswith("tcp://[::1]:")
        assert exchange(sockets, client, lambda came: came)[0].worker_id == 1
        assert published(sockets, keys.worker(0), 5.0) == b"weights"
        assert "learner.public" in refusal(sockets, keys.lost)


@pytest.mark.parametrize("host", ["::1", "[::1]", "127.0.0.1", "localhost", "no-such-host.invalid"])
def test_ipv6_is_used_for_what_has_no_other_address(host: str) -> None:
    assert has_ipv6_alone(host) == (":" in host)


@pytest.mark.parametrize("name", ["ip6-localhost", "localhost6"])
def test_a_learner_is_reached_by_a_name_of_ipv6_alone(name: str, keys: Keys) -> None:
    if not has_ipv6_alone(name):
        pytest.skip(f"{name} is no name of ::1 alone on this machine")
    with listening(keys.learner, "::1") as sockets:
        endpoint = sockets.endpoint.replace("[::1]", name)
        with Client(endpoint, keys.worker(1)) as client:
            assert exchange(sockets, client, lambda came: came)[0].worker_id == 1


def test_a_learner_is_reached_by_its_name(keys: Keys) -> None:
    with listening(keys.learner, "localhost") as sockets:
        endpoint = sockets.endpoint.replace("127.0.0.1", "localhost")
        with Client(endpoint, keys.worker(1)) as client:
            assert exchange(sockets, client, lambda came: came)[0].worker_id == 1


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "::", "[::]", "192.168.0.2", "node7", "eth0"])
def test_other_machines_are_served_only_with_keys_or_at_the_users_own_risk(
    host: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(GatewayError, match=r"`iqlft keys new DIR` .* --keys DIR"):
        require_safe_host(host, None, insecure=False)
    require_safe_host(host, keys.learner, insecure=False)
    assert caplog.text == ""
    require_safe_host(host, None, insecure=True)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"INSECURE: the learner listens on {host}" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_this_machine_is_served_without_named_keys_and_insecurely_only_with_a_word_about_it(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    require_safe_host(host, None, insecure=False)
    assert caplog.text == ""
    require_safe_host(host, None, insecure=True)
    assert f"INSECURE: the learner listens on {host}" in caplog.text


open_gateway = functools.partial(gateways.open_gateway, num_workers=2)


@pytest.fixture
def gateway(keys: Keys) -> Iterator[Gateway]:
    with open_gateway(keys=keys.learner) as gateway:
        yield gateway


def test_a_learner_makes_new_keys_at_every_start_for_its_user_alone(tmp_path: Path) -> None:
    with open_gateway() as first, open_gateway() as second:
        folders = [first.own_keys, second.own_keys]
        assert folders[0]
        assert folders[1]
        assert stat.S_IMODE(folders[0].stat().st_mode) == 0o700
        names = ["learner.public", "worker-0.secret", "worker-1.secret", "worker.secret"]
        assert sorted(path.name for path in folders[0].iterdir()) == names
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders[0].iterdir()} == {0o600}
        texts = [path.read_text() for folder in folders if folder for path in folder.iterdir()]
        assert len(set(texts)) == 8
        # Nothing is left to be found where there are other keys, or to be none.
        new_keys(tmp_path / "keys", 2)
        for options in ({"keys": LearnerKeys.load(tmp_path / "keys")}, {"insecure": True}):
            with open_gateway(**options) as other:
                assert other.own_keys is None
    assert not any(folder.exists() for folder in folders if folder)


def test_a_gateway_that_cannot_be_opened_leaves_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(GatewayError, match="Cannot listen"):
        open_gateway(host="203.0.113.1")
    assert list(tmp_path.iterdir()) == []


def test_on_this_machine_too_nobody_without_a_key_gets_a_place_or_the_weights(
    make_weights: Callable[..., ActorWeights],
) -> None:
    with open_gateway() as gateway, zmq.Context() as context:
        assert gateway.own_keys
        with Client(gateway.endpoint, WorkerKeys.load(gateway.own_keys)) as worker:
            welcome = answer(worker, hello(None, str(uuid.uuid4())))
            assert isinstance(welcome, messages.Welcome)
            worker.subscribe(welcome.weights_port)
            with context.socket(zmq.SUB) as stranger:
                stranger.set(zmq.LINGER, 0)
                stranger.set(zmq.SUBSCRIBE, b"")
                stranger.connect(f"tcp://127.0.0.1:{welcome.weights_port}")
                deadline, version = time.monotonic() + 30.0, 0
                while worker.published_weights() is None:
                    assert time.monotonic() < deadline, "the worker got no weights"
                    version += 1
                    gateway.publish(make_weights(3, 1, version=version))
                    time.sleep(0.01)
                assert stranger.poll(300) == 0

        def is_counted() -> bool:
            refused = pytest.raises(KeyRefusedError, match="--keys")
            with Client(gateway.endpoint) as stranger, refused:
                answer(stranger, hello(None, str(uuid.uuid4())))
            return gateway.wait_for(lambda: gateway.counts().rejected >= 1, 2)

        # One that has left again before the learner reads how it greets is none that is refused.
        assert any(is_counted() for _ in range(10))
        assert [each.worker_id for each in gateway.worker_status()] == [welcome.worker_id]


def test_a_worker_that_asks_for_an_id_has_the_key_of_that_id() -> None:
    with open_gateway() as gateway:
        assert gateway.own_keys
        with Client(gateway.endpoint, WorkerKeys.load(gateway.own_keys, 1)) as one:
            assert isinstance(answer(one, hello(0, str(uuid.uuid4()))), messages.Reject)
            welcome = answer(one, hello(None, str(uuid.uuid4())))
            assert isinstance(welcome, messages.Welcome)
            assert welcome.worker_id == 1


def test_without_curve_in_pyzmq_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda _: False)
    with pytest.raises(KeyFileError, match=r"pyzmq was built without CURVE.*from its wheel"):
        open_gateway()
    open_gateway(insecure=True).close()


def answer(client: Client, hello: messages.Hello) -> Message:
    """What the learner says to a HELLO."""
    until = time.monotonic() + 30.0
    while time.monotonic() < until:
        client.send(encode(hello))
        if received := client.receive(0.05):
            return decode(received[0])
    raise AssertionError("the learner is silent")


def hello(worker_id: int | None, session: str) -> messages.Hello:
    return messages.Hello(worker_id, session, iqlft_workers.__version__)


@pytest.mark.parametrize("wanted", [1, None])
def test_a_worker_works_under_the_id_of_its_key(
    wanted: int | None, keys: Keys, gateway: Gateway
) -> None:
    with Client(gateway.endpoint, keys.worker(1)) as client:
        welcome = answer(client, hello(wanted, str(uuid.uuid4())))
        assert isinstance(welcome, messages.Welcome)
        assert welcome.worker_id == 1
    assert gateway.counts().rejected == 0


def test_a_key_does_not_open_the_place_of_another_worker(
    keys: Keys, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(gateway.endpoint, keys.worker(1)) as client:
        reject = answer(client, hello(0, str(uuid.uuid4())))
    assert isinstance(reject, messages.Reject)
    assert reject.code == "UNAUTHORISED"
    assert "that of worker 1, not of worker 0" in reject.sentence
    assert gateway.counts().rejected >= 1
    assert gateway.worker_status() == []
    assert not keys.in_text(caplog.text)


@pytest.mark.parametrize("wanted", [0, 1, None])
def test_a_replayed_hello_does_not_take_over_the_session_of_another_worker(
    wanted: int | None, keys: Keys, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    session = str(uuid.uuid4())
    with (
        Client(gateway.endpoint, keys.worker(0)) as victim,
        Client(gateway.endpoint, keys.worker(1)) as thief,
    ):
        assert isinstance(answer(victim, hello(0, session)), messages.Welcome)
        reject = answer(thief, hello(wanted, session))
        assert isinstance(reject, messages.Reject)
        assert reject.code == "UNAUTHORISED"
        (status,) = gateway.worker_status()
        assert (status.worker_id, status.alive) == (0, True)
    assert gateway.counts().rejected >= 1
    assert not keys.in_text(caplog.text)


@pytest.mark.parametrize("mistake", ["stranger", "without"])
def test_a_worker_process_that_is_refused_ends_with_a_sentence(
    mistake: str, keys: Keys, gateway: Gateway
) -> None:
    arguments = {"stranger": ["--keys", str(keys.theirs), "--worker-id", "0"], "without": []}
    # The stranger knows the learner: its public key is no secret.
    public = (keys.ours / "learner.public").read_bytes()
    (keys.theirs / "learner.public").write_bytes(public)
    process = subprocess.run(
        [sys.executable, "-m", "iqlft_workers", "--connect", gateway.endpoint, *arguments[mistake]],
        env={**os.environ, "PYTHONPATH": str(Path(iqlft_workers.__file__).parents[1])},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    looking, refused = process.stderr.splitlines()
    assert looking.endswith(f"Looking for the learner at {gateway.endpoint}.")
    assert refused.startswith("iqlft worker: The learner")
    assert not keys.in_text(process.stderr + process.stdout)
    if mistake == "stranger":
        assert gateway.counts().rejected == 1
