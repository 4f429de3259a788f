"""What is only slow is waited for; what hangs ends in time, and is told of."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from iqlft.gateway.credit import CREDIT
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.roster import WorkerStatus
from iqlft.training.oversight import Oversight
from iqlft_workers.actor import ActorWeights
from iqlft_workers.client import Client
from iqlft_workers.discovery import Address, Discovery, write_endpoint
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.errors import HUNG
from iqlft_workers.heartbeat import BEAT_SECONDS, AttendedEnvironment
from iqlft_workers.launchers import local as pool_module
from iqlft_workers.launchers.local import WorkerError, WorkerPool
from iqlft_workers.loop import Worker, work
from iqlft_workers.session import WorkerSession
from iqlft_workers.transition import RowLayout
from slow_environments import ID, STEPS
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("importable")
MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]
LAYOUT = RowLayout(1, 1)
SECONDS = 3.0
IMPATIENT = """
import sys
from iqlft_workers import heartbeat, loop, worker
heartbeat.GRACE_SECONDS = loop.GRACE_SECONDS = 1.0
sys.exit(worker.main())
"""
"""A worker that soon gives up a call of its environment, once the work is over."""


def slow(**kwargs: float) -> EnvironmentSpec:
    return EnvironmentSpec(ID, kwargs, trust=True)


def test_every_environment_is_closed_though_each_call_raises_what_the_heartbeat_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[Environment] = []

    def meet(_: Worker) -> float:
        raise RuntimeError("met")

    def close(environment: Environment) -> None:
        closed.append(environment)

    def work_in_two() -> None:
        client, discovery = Client("tcp://127.0.0.1:9"), Discovery(lambda: None)
        with client, Worker(client, WorkerSession(None), lambda: True, discovery) as worker:
            spec = slow(reset_seconds=4 * BEAT_SECONDS)
            worker._environments += [AttendedEnvironment(spec, worker._heartbeat) for _ in "ab"]
            worker._environments[0].reset(0)

    monkeypatch.setattr(Worker, "_beat", meet)
    monkeypatch.setattr(Environment, "close", close)
    with pytest.raises(RuntimeError, match="met"):
        work_in_two()
    assert len(closed) == 2


@pytest.mark.parametrize("what", ["build_seconds", "reset_seconds", "step_seconds"])
def test_a_worker_answers_while_its_environment_takes_its_time(
    what: str, serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(1, environment=slow(**{what: SECONDS}), layout=LAYOUT)
    gateway.publish(make_weights(1, 1))
    gateway.allow(2)
    silences, idle, received = [], [], 0
    deadline = time.monotonic() + 40
    while received < 2:
        assert time.monotonic() < deadline
        received += sum(each.num_transitions for each in gateway.receive(0.1))
        assert pool.watch() == []
        for worker in gateway.worker_status():
            assert worker.alive
            silences.append(worker.seconds_since_message)
            idle.append(worker.seconds_without_progress)
    assert max(silences) < 2.0
    # That no call has come to its end is known all the same.
    assert max(idle) > SECONDS - 1.5


def test_a_worker_whose_learner_leaves_while_its_first_episode_begins_waits_for_the_next(
    serve: Serve, make_weights: MakeWeights
) -> None:
    options = {"num_workers": 1, "layout": LAYOUT, "insecure": True}
    gateway, _ = serve(0, environment=slow(reset_seconds=1.5), **options)
    gateway.publish(make_weights(1, 1))
    gateway.allow(100)

    def leave() -> None:
        while not any(each.state == "stepping" for each in gateway.worker_status()):
            time.sleep(0.02)
        time.sleep(0.4)
        gateway.close(over=False)

    leaving = threading.Thread(target=leave)
    leaving.start()
    until = time.monotonic() + 5
    work(lambda: Address(gateway.endpoint), None, lambda: time.monotonic() < until)
    leaving.join()
    assert time.monotonic() >= until  # It was there to the end.


def test_evaluations_and_steps_of_a_slow_simulator_come_each_once(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(2, environment=slow(reset_seconds=0.7, step_seconds=0.3), layout=LAYOUT)
    gateway.publish(make_weights(1, 1))
    gateway.allow(2 * STEPS)
    pending = gateway.evaluate(make_weights(1, 1), [1, 2, 3])
    parts, deadline = [], time.monotonic() + 60
    while sum(each.num_transitions for each in parts) < 2 * STEPS or not pending.finished:
        assert time.monotonic() < deadline
        parts += gateway.receive(0.1)
        assert pool.watch() == []
    assert [each.length for each in pending.result(1)] == [STEPS] * 3
    observations = np.concatenate([each.observations[:, 0] for each in parts])
    assert len(observations) == 2 * STEPS
    assert set(observations) <= set(range(STEPS))


def test_who_is_killed_for_a_hanging_step_by_whom_and_why_is_said(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_RESTARTS", 1)
    gateway, pool = serve(1, environment=slow(hang_at=2), layout=LAYOUT)
    gateway.publish(make_weights(1, 1))
    gateway.allow(100)
    oversight = Oversight(gateway, pool, tmp_path, patience_seconds=4.0)
    events: list[str] = []
    deadline = time.monotonic() + 60
    why = r"answers, but has not stepped for \d s \(--patience 4\), and was killed by the learner"

    def watch() -> None:
        while time.monotonic() < deadline:
            events.extend(oversight.incidents(gateway.worker_status()))
            time.sleep(0.1)

    with pytest.raises(WorkerError, match=rf"died 2 times in a row; the last time it {why}\."):
        watch()
    (event,) = events
    assert event.startswith("Worker 0 answers, but has not stepped for 4 s")
    assert event.endswith("and was killed by the learner; it is started again.")


def hangs(worker: WorkerStatus) -> bool:
    return worker.state == "stepping" and worker.seconds_without_progress > 1.0


@pytest.fixture
def hanging(serve: Serve, make_weights: MakeWeights, tmp_path: Path) -> tuple[Gateway, list[str]]:
    """A learner of an environment that hangs, and the command of an impatient worker for it."""
    gateway, _ = serve(0, environment=slow(hang_at=2), layout=LAYOUT, num_workers=2)
    write_endpoint(tmp_path / "endpoint", gateway.endpoint, gateway.own_keys)
    gateway.publish(make_weights(1, 1))
    gateway.allow(2 * CREDIT)  # Else one worker would have all of it until that expires.
    file = str(tmp_path / "endpoint")
    return gateway, [sys.executable, "-c", IMPATIENT, "--connect", file, "--worker-id"]


def test_a_worker_leaves_on_a_signal_and_without_its_parent_though_its_environment_hangs(
    hanging: tuple[Gateway, list[str]],
) -> None:
    gateway, worker = hanging
    code = (
        "import os, subprocess, sys, time\n"
        "command = [*sys.argv[1:], '--parent', str(os.getpid())]\n"
        "print(subprocess.Popen(command, stderr=subprocess.DEVNULL).pid, flush=True)\n"
        "time.sleep(60)"
    )
    with ExitStack() as ended:
        first = [*worker, "0"]
        told = ended.enter_context(subprocess.Popen(first, stderr=subprocess.PIPE, text=True))
        ended.callback(told.kill)
        nested = [sys.executable, "-c", code, *worker, "1"]
        parent = ended.enter_context(subprocess.Popen(nested, stdout=subprocess.PIPE, text=True))
        ended.callback(parent.kill)
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        wait_until(lambda: sum(map(hangs, gateway.worker_status())) == 2)
        told.send_signal(signal.SIGTERM)
        parent.kill()
        words = told.communicate(timeout=60)[1]
    assert told.returncode == 0
    assert "The work is over; a call of the environment still lasts" in words
    wait_until(lambda: not any(each.alive for each in gateway.worker_status()))
    wait_until(lambda: not Path(f"/proc/{orphan}").exists())


def test_a_worker_of_another_machine_whose_environment_hangs_is_told_to_leave(
    hanging: tuple[Gateway, list[str]], tmp_path: Path
) -> None:
    gateway, worker = hanging
    oversight = Oversight(gateway, WorkerPool(0, "", tmp_path), tmp_path, patience_seconds=2.0)
    events: list[str] = []
    with subprocess.Popen([*worker, "0"], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not events and time.monotonic() < deadline:
            time.sleep(0.1)
            events += oversight.incidents(gateway.worker_status())
        try:
            words = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    (event,) = events
    assert event.startswith("Worker 0 answers, but has not stepped for 2 s (--patience 2)")
    assert event.endswith(", and was told to leave.")
    assert "The learner gives this worker up, which answers, but has not stepped" in words
    assert process.returncode == HUNG
