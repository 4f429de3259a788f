"""Local workers run this package's code, whatever lies in the folder where they are started."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.launchers import local as pool_module
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.transition import RowLayout
from scarcity import no_more_files
from slow_environments import ID


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGTERM, "was ended by SIGTERM"),
        (-35, "was ended by signal 35"),
        (3, "died with exit code 3"),
    ],
)
def test_how_a_worker_ended_is_said_in_words(code: int, words: str) -> None:
    assert pool_module.exit_reason(code) == words


@pytest.mark.parametrize("name", ["workers.py", "msgpack.py", "iqlft_workers.py"])
def test_files_of_the_current_folder_do_not_stand_in_for_modules_of_a_worker(
    name: str,
    serve: Callable[..., Any],
    make_weights: Callable[..., ActorWeights],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker = tmp_path / "was imported"
    (tmp_path / name).write_text(f"open({str(marker)!r}, 'w').close()\nraise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    gateway, pool = serve()
    gateway.publish(make_weights(3, 1))
    gateway.allow(100)
    count = 0
    while count < 100:
        count += sum(part.num_transitions for part in gateway.receive(20.0))
        assert pool.watch() == []
    assert not marker.exists()


def test_a_worker_that_cannot_be_started_at_present_ends_no_run(
    serve: Callable[..., Any], make_weights: Callable[..., ActorWeights]
) -> None:
    gateway, pool = serve()
    gateway.publish(make_weights(3, 1))
    os.kill(pool.process_ids[0], signal.SIGKILL)
    events: list[str] = []
    with no_more_files():
        deadline = time.monotonic() + 20
        while len(events) < 3 and time.monotonic() < deadline:
            events += pool.watch()
            time.sleep(0.05)
    assert "is started again in 1.0 s: Too many open files" in events[2]
    gateway.allow(100)
    while not any(each.env_steps for each in gateway.worker_status()):
        assert time.monotonic() < deadline + 20, "it is not started again"
        gateway.receive(0.1)
        pool.watch()


@pytest.mark.usefixtures("importable")
def test_the_log_of_a_worker_that_says_much_is_kept_short(
    serve: Callable[..., Any],
    make_weights: Callable[..., ActorWeights],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "LOG_BYTES", 20_000)
    spec = EnvironmentSpec(ID, {"says": "x" * 999}, trust=True)
    gateway, pool = serve(environment=spec, layout=RowLayout(1, 1))
    gateway.publish(make_weights(1, 1))
    log, older = tmp_path / "logs" / "worker-0.log", tmp_path / "logs" / "worker-0.log.1"
    count = 0
    while count < 200:
        gateway.allow(count + 10)
        count += sum(part.num_transitions for part in gateway.receive(20.0))
        assert pool.watch() == []
        # Since then the worker may have taken the ten steps by which it may be ahead.
        assert log.stat().st_size <= 20_000 + 10 * 1000
    assert 20_000 < older.stat().st_size < 100_000
    # It is the end of it that is kept, and written on.
    assert set(log.read_text() + older.read_text()[1000:]) <= set("x\n")
    pool.stop()
    pool.start()
    assert older.read_text().endswith("x\n")


def test_a_cluster_that_is_not_there_is_said_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    events: list[str] = []
    deadline = time.monotonic() + 60
    with WorkerPool(8, "tcp://127.0.0.1:9", tmp_path, engine="ray") as pool:
        while len(events) < 2:
            assert time.monotonic() < deadline
            events += pool.watch()
            time.sleep(0.01)
    for pause, event in zip(("0.5", "1.0"), events, strict=True):
        said = f"The launcher on ray cannot begin, and is started again in {pause} s: There is no"
        assert event.startswith(said)
