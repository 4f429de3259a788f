import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

import iqlft_workers
from gateways import at_work, open_gateway
from iqlft.gateway.gateway import BYE_SECONDS, Gateway
from iqlft.gateway.journal import Journal
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.client import Client
from iqlft_workers.discovery import write_endpoint, write_finished
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.keys import WorkerKeys, temporary_keys
from iqlft_workers.launchers import local as pool_module
from iqlft_workers.launchers.local import WorkerError, WorkerPool
from iqlft_workers.transition import RowLayout, Transitions
from iqlft_workers.wire import encode
from tcp_proxy import free_ports
from transitions import concatenate
from waiting import wait_until

MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]


def receive(gateway: Gateway, count: int, watch: Callable[[], object] = bool) -> Transitions:
    """Receives at least `count` transitions, watching meanwhile."""
    parts: list[Transitions] = []

    def enough() -> bool:
        watch()
        parts.extend(gateway.receive(0.1))
        return sum(part.num_transitions for part in parts) >= count

    wait_until(enough)
    return concatenate(parts)


def alive(process_id: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        os.kill(process_id, 0)
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


@contextmanager
def started(endpoint: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A worker as a user starts it on another machine."""
    command = [sys.executable, "-m", "iqlft_workers", "--connect", endpoint, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def file_of(gateway: Gateway, folder: Path) -> str:
    """The path of an endpoint file, by which workers of this machine join without flags."""
    write_endpoint(folder / "endpoint", gateway.endpoint, gateway.own_keys)
    return str(folder / "endpoint")


def last_words(process: subprocess.Popen[str]) -> str:
    """What a process that ends has written."""
    return process.communicate(timeout=60)[1]


def test_a_worker_rolls_out_where_torch_minari_and_matplotlib_cannot_be_imported(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "minari", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not on a rollout machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    blocked = subprocess.run(
        [sys.executable, "-c", "import torch"], capture_output=True, text=True, check=False
    )
    assert "not on a rollout machine" in blocked.stderr
    spec = EnvironmentSpec(
        "iqlft/AntMaze-Corner-v0", observation_keys=("achieved_goal", "observation")
    )
    gateway, pool = serve(1, environment=spec)
    gateway.publish(make_weights(29, 8))
    gateway.allow(50)
    assert receive(gateway, 50, pool.watch).observations.shape == (50, 29)
    assert len(gateway.evaluate(make_weights(29, 8), [1]).result(20)) == 1


def test_a_killed_worker_is_restarted_and_never_repeats_an_episode(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(1)
    gateway.publish(make_weights(3, 1))
    gateway.allow(250)
    before = receive(gateway, 250)
    victim = pool.process_ids[0]
    os.kill(victim, signal.SIGKILL)
    events: list[str] = []
    gateway.allow(500)
    after = receive(gateway, 250, lambda: events.extend(pool.watch()))
    (event,) = events
    assert event.startswith("Worker 0 was killed (signal 9)")
    assert event.endswith("it is started again.")
    assert pool.process_ids[0] != victim
    everything = concatenate([before, after])
    assert everything.num_transitions == 500
    # A row that comes twice would be a step that was repeated.
    assert len(np.unique(everything.observations, axis=0)) == 500
    # The unfinished episode is left: the new worker's first transition does not chain.
    assert not np.array_equal(after.observations[0], before.next_observations[-1])


def test_workers_take_exactly_the_steps_that_are_allowed(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, _ = serve(2)
    gateway.publish(make_weights(3, 1))
    gateway.allow(100)
    assert receive(gateway, 100).num_transitions == 100
    assert gateway.receive(0.5) == []
    gateway.allow(101)
    gateway.allow(90)
    assert receive(gateway, 1).num_transitions == 1
    assert gateway.receive(0.5) == []
    gateway.allow(2000)
    assert receive(gateway, 1899).num_transitions == 1899


def test_nobody_steps_before_there_are_weights(serve: Serve) -> None:
    gateway, _ = serve(1)
    gateway.allow(100)
    wait_until(gateway.worker_status)
    assert gateway.receive(1.0) == []


def test_no_process_is_left_after_the_end(serve: Serve, make_weights: MakeWeights) -> None:
    gateway, pool = serve(2)
    gateway.publish(make_weights(3, 1))
    gateway.allow(10_000_000)
    receive(gateway, 100)
    process_ids = pool.process_ids
    assert all(alive(process_id) for process_id in process_ids)
    began = time.monotonic()
    gateway.close()
    pool.stop()
    assert time.monotonic() - began < 5
    assert not any(alive(process_id) for process_id in process_ids)
    pool.stop()


def test_a_process_is_not_replaced_for_what_was_wrong_before_it_was_started(
    tmp_path: Path,
) -> None:
    with WorkerPool(1, "tcp://127.0.0.1:9", tmp_path) as pool:
        assert not pool.replace(0, "has been silent for 7084 s", 7084.0)
        assert pool.watch() == []
        assert pool.replace(0, "is stuck")
        killed = "Worker 0 is stuck, and was killed by the learner; it is started again."
        wait_until(lambda: pool.watch() == [killed])


def test_a_process_that_does_nothing_but_hang_is_not_started_again_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "HEALTHY_SECONDS", 0.5)
    monkeypatch.setattr(pool_module, "MAX_RESTARTS", 1)
    with WorkerPool(1, "tcp://127.0.0.1:9", tmp_path) as pool:

        def hang() -> list[str]:
            began = time.monotonic()
            time.sleep(1.0)
            assert pool.replace(0, "hangs", time.monotonic() - began)
            wait_until(lambda: (said.extend(pool.watch())) or said)
            return said

        said: list[str] = []
        assert hang() == ["Worker 0 hangs, and was killed by the learner; it is started again."]
        said.clear()
        with pytest.raises(WorkerError, match="died 2 times in a row; the last time it hangs, and"):
            hang()


@pytest.mark.parametrize("age_seconds", [0.0, 0.2, 1.0])
def test_workers_without_a_learner_are_stopped_by_the_pool_at_any_age(
    age_seconds: float, tmp_path: Path
) -> None:
    with WorkerPool(1, "tcp://127.0.0.1:9", tmp_path) as pool:
        time.sleep(age_seconds)
        (process_id,) = pool.process_ids
        assert pool.watch() == []
        began = time.monotonic()
        pool.stop()
        assert time.monotonic() - began < 3
        assert not alive(process_id)


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from iqlft_workers.launchers.local import WorkerPool\n"
        "pool = WorkerPool(2, 'tcp://127.0.0.1:9', pathlib.Path(sys.argv[1])); pool.start()\n"
        "print(*pool.process_ids, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process_ids = [int(word) for word in parent.stdout.readline().split()]
        # Signals reach a worker that has begun, and one that is still importing.
        time.sleep(1.0)
        assert len(process_ids) == 2
        assert all(alive(process_id) for process_id in process_ids)
        parent.kill()
    wait_until(lambda: not any(alive(process_id) for process_id in process_ids), 5)


def test_local_workers_leave_the_interrupt_to_the_learner(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(1)
    gateway.publish(make_weights(3, 1))
    gateway.allow(10)
    receive(gateway, 10)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pool.process_ids[0], number)
    gateway.allow(20)
    assert receive(gateway, 10).num_transitions == 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_remote_worker_takes_a_free_id_and_leaves_on_a_signal(
    number: signal.Signals, serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    gateway, _ = serve(0, num_workers=1)
    gateway.publish(make_weights(3, 1))
    gateway.allow(10)
    with started(file_of(gateway, tmp_path)) as process:
        receive(gateway, 10)
        assert gateway.worker_status()[0].worker_id == 0
        process.send_signal(number)
        assert process.wait(30) == 0
    # It has said goodbye, so that nobody waits for it.
    wait_until(lambda: not gateway.worker_status()[0].alive, 1)


def test_workers_wait_for_a_learner_that_leaves_and_is_resumed(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    """One that does not say goodbye keeps the learner for as long as the others may come back."""
    port, _ = free_ports()
    weights = make_weights(3, 1)
    gateway, _ = serve(0, num_workers=4, port=port)
    file, keys = file_of(gateway, tmp_path), gateway.own_keys
    assert keys is not None
    gateway.publish(weights)

    with ExitStack() as all_of_them:
        workers = [all_of_them.enter_context(started(file)) for _ in range(3)]
        wait_until(lambda: at_work(gateway) == 3)
        stubborn = all_of_them.enter_context(Client(gateway.endpoint, WorkerKeys.load(keys)))
        hello = messages.Hello(None, "stubborn", iqlft_workers.__version__)
        while not stubborn.receive(0.1):
            stubborn.send(encode(hello))
        began = time.monotonic()
        gateway.close(over=False)
        assert time.monotonic() - began > 0.9 * BYE_SECONDS
        assert not any(each.alive for each in gateway.worker_status() if each.env_steps)
        time.sleep(1.0)
        assert [each.poll() for each in workers] == [None] * 3
        resumed, _ = serve(0, num_workers=4, port=port)
        file_of(resumed, tmp_path)
        resumed.publish(weights)
        wait_until(lambda: at_work(resumed) == 3)
        resumed.close(over=True)
        assert [each.wait(30) for each in workers] == [0] * 3


def test_a_worker_without_a_place_is_told_so(serve: Serve, tmp_path: Path) -> None:
    gateway, _ = serve(1)
    wait_until(gateway.worker_status)
    file = file_of(gateway, tmp_path)
    with started(file) as full, started(file, "--worker-id", "0") as double:
        assert "has no place" in last_words(full)
        assert "Another worker with the id 0 is at work" in last_words(double)
    assert (full.returncode, double.returncode) == (2, 2)
    assert gateway.worker_status()[0].alive


def test_a_foreign_worker_that_was_there_first_leaves_the_local_ones_their_places(
    make_weights: MakeWeights, tmp_path: Path
) -> None:
    with learner(tmp_path / "journal", num_workers=2, local_workers=1) as gateway:
        gateway.publish(make_weights(3, 1))
        with started(file_of(gateway, tmp_path)):
            wait_until(gateway.worker_status)
            with WorkerPool(1, gateway.endpoint, tmp_path, gateway.own_keys) as pool:
                wait_until(lambda: len(gateway.worker_status()) == 2)
                assert pool.watch() == []
                wait_until(lambda: at_work(gateway) == 2)


def test_a_local_worker_that_is_rejected_tries_again_and_the_run_goes_on(
    make_weights: MakeWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pool_module, "BACK_OFF_SECONDS", 0.01)
    monkeypatch.setattr(pool_module, "MAX_RESTARTS", 1)
    events: list[str] = []
    with learner(tmp_path / "journal") as gateway:
        gateway.publish(make_weights(3, 1))
        gateway.allow(100)
        with started(file_of(gateway, tmp_path), "--worker-id", "0") as other:
            wait_until(gateway.worker_status)
            with WorkerPool(1, gateway.endpoint, tmp_path, gateway.own_keys) as pool:
                # More often than a worker that dies is started again.
                wait_until(lambda: events.extend(pool.watch()) or len(events) > 2, 60)
                other.terminate()
                other.wait(30)
                gateway.allow(200)
                wait_until(
                    lambda: (
                        events.extend(pool.watch()) or gateway.worker_status()[0].env_steps == 200
                    )
                )
    assert all("was rejected" in event and "id 0 is at work" in event for event in events)


def test_an_environment_of_other_dimensions_ends_the_pool_with_the_reason(serve: Serve) -> None:
    _, pool = serve(1, layout=RowLayout(29, 8))
    with pytest.raises(WorkerError, match=r"3 observation and 1 action .* expects 29 and 8"):
        wait_until(pool.watch)


def test_an_environment_that_cannot_be_built_ends_the_pool_with_the_reason(serve: Serve) -> None:
    _, pool = serve(1, environment=EnvironmentSpec("Pendulum-v9"), layout=RowLayout(3, 1))
    with pytest.raises(WorkerError, match="Pendulum-v"):
        wait_until(pool.watch)


def test_a_worker_that_keeps_dying_ends_the_pool_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zmq.py").write_text("raise RuntimeError('a broken machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(pool_module, "BACK_OFF_SECONDS", 0.01)
    with (
        WorkerPool(1, "tcp://127.0.0.1:9", tmp_path) as pool,
        pytest.raises(WorkerError, match=r"died 6 times in a row(.|\n)*a broken machine"),
    ):
        wait_until(lambda: pool.watch() and False)


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:5555", "tcp://:1", "udp://a:1", "tcp://a:b", "tcp://[:5", "tcp://[::1]"]
)
def test_an_address_that_is_none_is_refused_in_one_sentence(endpoint: str) -> None:
    with started(endpoint) as process:
        words = last_words(process)
    assert process.returncode == 2
    assert "tcp://HOST:PORT" in words
    assert "Traceback" not in words


def test_a_worker_of_another_protocol_version_is_rejected(serve: Serve) -> None:
    gateway, _ = serve(0, insecure=True)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(gateway.endpoint)
        dealer.send_multipart([msgpack.packb([1, "HELLO", {"new": 1}, []])])
        assert dealer.poll(5000)
        _, name, values, _ = msgpack.unpackb(dealer.recv())
    assert (name, values["code"]) == ("REJECT", "VERSION")
    assert "IQLP/1" in values["sentence"]


def test_a_worker_leaves_a_learner_of_another_protocol_version() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with started(f"tcp://127.0.0.1:{port}") as process:
            assert router.poll(10_000)
            route, *_ = router.recv_multipart()
            router.send_multipart([route, msgpack.packb([3, "WELCOME", {}, []])])
            words = last_words(process)
    assert process.returncode == 2
    assert "IQLP/3" in words


def learner(
    path: Path, port: int = 0, position: int = 0, num_workers: int = 1, local_workers: int = 0
) -> Gateway:
    """A learner of the same run, whenever it is started."""
    gateway = open_gateway(
        port=port, num_workers=num_workers, local_workers=local_workers, last_version=100
    )
    gateway.recover(Journal(path, position))
    return gateway


@pytest.mark.parametrize("same_port", [True, False])
def test_a_worker_goes_on_with_a_learner_that_was_killed_and_started_again(
    make_weights: MakeWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, same_port: bool
) -> None:
    # The first learner vanishes without a word to its worker, and is set back a little.
    monkeypatch.setattr("iqlft.gateway.gateway.BYE_SECONDS", 0.0)
    journal, file = tmp_path / "journal", tmp_path / "endpoint"
    # With a named port the next one is the weights', which must be the first learner's already.
    port = free_ports()[0] if same_port else 0
    with learner(journal, port) as first:
        write_endpoint(file, first.endpoint, first.own_keys)
        with started(str(file)) as process:
            first.publish(make_weights(3, 1, version=90))
            first.allow(100)
            before = receive(first, 100)
            for name in ("stop", "drain"):
                monkeypatch.setattr(
                    f"iqlft.gateway.state.GatewayState.{name}", lambda *_, **__: None
                )
            first.close()
            with learner(journal, port) as second:
                write_endpoint(file, second.endpoint, second.own_keys)
                second.publish(make_weights(3, 1, version=2))
                second.allow(200)
                after = receive(second, 200)
                for name in ("observations", "rewards"):
                    both = (getattr(each, name) for each in (first_of(100, after), before))
                    np.testing.assert_array_equal(*both)
                # The same session, in the middle of the same episode.
                np.testing.assert_array_equal(after.observations[100], before.next_observations[-1])
                assert (after.versions[100:] == 2).all()
                second.publish(make_weights(3, 1, version=3))
                time.sleep(0.3)
                second.allow(264)
                assert (receive(second, 64).versions == 3).all()
            assert process.poll() is None


def first_of(count: int, transitions: Transitions) -> Transitions:
    return Transitions(*(array[:count] for array in transitions))


def test_a_worker_takes_the_keys_of_the_learner_that_comes_after_a_killed_one(
    make_weights: MakeWeights, tmp_path: Path
) -> None:
    port, file = free_ports()[0], tmp_path / "endpoint"
    # The first one has left its endpoint file, and its keys too.
    with temporary_keys(1) as left:
        write_endpoint(file, f"tcp://127.0.0.1:{port}", left.folder)
        with started(str(file)) as process:
            assert process.stderr is not None
            assert "Looking for the learner" in process.stderr.readline()
            file.unlink()
            with learner(tmp_path / "journal", port) as second:
                wait_until(lambda: second.counts().rejected > 0)
                write_endpoint(file, second.endpoint, second.own_keys)
                second.publish(make_weights(3, 1, version=2))
                second.allow(64)
                receive(second, 64)
            process.wait(30)
    assert process.returncode == 0


def test_a_worker_that_finds_its_run_finished_leaves(tmp_path: Path) -> None:
    # The learner came to its end while this worker still looked for the one before.
    file = tmp_path / "endpoint"
    write_endpoint(file, f"tcp://127.0.0.1:{free_ports()[0]}", None)
    with started(str(file)) as process:
        assert process.stderr is not None
        assert "Looking for the learner" in process.stderr.readline()
        write_finished(file)
        assert "The run has finished." in last_words(process)
    assert process.returncode == 0


def test_keys_of_another_user_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(0o777)
    write_endpoint(tmp_path / "endpoint", "tcp://127.0.0.1:9", tmp_path / "keys")
    with started(str(tmp_path / "endpoint")) as process:
        assert "Others can write to" in last_words(process)
    assert process.returncode == 2


@pytest.mark.parametrize("port", [0, 65536, 70000])
def test_a_port_that_there_cannot_be_is_refused(port: int) -> None:
    with started(f"tcp://127.0.0.1:{port}") as process:
        assert "a port in [1, 65535]" in last_words(process)
    assert process.returncode == 2


def test_a_worker_waits_for_a_learner_that_is_not_there_yet(
    make_weights: MakeWeights, tmp_path: Path
) -> None:
    with started(str(tmp_path / "endpoint")) as process:
        time.sleep(1.5)
        assert process.poll() is None
        with learner(tmp_path / "journal") as gateway:
            file_of(gateway, tmp_path)
            gateway.publish(make_weights(3, 1, version=2))
            gateway.allow(64)
            receive(gateway, 64)
        process.wait(30)
    assert process.returncode == 0


@pytest.mark.parametrize(
    "content",
    [b"\xff\x00", b"\xff\xfe\x00", b"[]", b"\x00" * 300, b"no address\n", b"tcp://127.0.0.1:99999"],
)
def test_an_endpoint_file_of_other_content_is_refused_in_one_sentence(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "endpoint").write_bytes(content)
    with started(str(tmp_path / "endpoint")) as process:
        words = last_words(process)
    assert process.returncode == 2
    assert "Traceback" not in words
    assert "holds no address" in words or "address is tcp://HOST:PORT" in words


@pytest.mark.parametrize("connect", ["127.0.0.1:5555", "nowhere/endpoint"])
def test_what_is_neither_an_address_nor_a_file_is_refused(connect: str) -> None:
    with started(connect) as process:
        words = last_words(process)
    assert process.returncode == 2
    assert f"--connect is {connect!r}, but must be tcp://HOST:PORT" in words
