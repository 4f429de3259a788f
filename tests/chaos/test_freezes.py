"""Demonstration 4: a learner that is frozen for a while, and a worker that is far too slow."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from chaos import pumping_learner
from chaos.pumping_learner import Account, PumpingLearner, open_gateway
from chaos.tallying import SECONDS_PER_STEP, tally
from iqlft.gateway.credit import CREDIT
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.watchdog import Incident, Watchdog
from iqlft_workers.keys import new_keys
from iqlft_workers.launchers.local import WorkerPool
from tcp_proxy import HOST, TcpProxy, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS = 2
FREEZE_SECONDS, RECOVERY_SECONDS = 30.0, 5.0
LAST_SECONDS, SETTLED_SECONDS = 1.0, 3.0
PATIENCE_SECONDS = 60.0
MEBIBYTE = 2**20
Process = subprocess.Popen[bytes]
MOST_BYTES = 16 * MEBIBYTE
"""By which no process may grow while the learner is frozen, and afterwards."""


def resident_bytes(process: int) -> int:
    """Memory of a process."""
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def wait_for(condition: Callable[[], bool]) -> float:
    """Waits until a condition holds; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + PATIENCE_SECONDS, "it took too long"
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def learner_process(folder: Path, port: int, hold_seconds: float) -> Iterator[Process]:
    """A learner that pumps, and its folder of keys; it leaves in good order afterwards."""
    new_keys(folder / "keys", WORKERS)
    command = [
        sys.executable, pumping_learner.__file__, str(folder), f"--port={port}",
        f"--workers={WORKERS}", f"--hold-seconds={hold_seconds:.0f}",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            yield process
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


@contextmanager
def stopped(learner: Process) -> Iterator[None]:
    """None of its threads run."""
    learner.send_signal(signal.SIGSTOP)
    yield
    learner.send_signal(signal.SIGCONT)


@contextmanager
def held(learner: Process) -> Iterator[None]:
    """None of its Python runs, for the time that it was started with, but ZeroMQ's threads do."""
    learner.send_signal(signal.SIGUSR1)
    yield


@pytest.mark.parametrize("freeze", [stopped, held])
def test_a_frozen_learner_and_its_workers_go_on_where_they_were(
    freeze: Callable[[Process], AbstractContextManager[None]],
    tmp_path: Path,
    figure: Callable[..., None],
    scaled: Callable[[float], float],
) -> None:
    ports, seconds, tallies = free_ports(), scaled(FREEZE_SECONDS), tmp_path / "tallies"
    with (
        learner_process(tmp_path, ports[0], seconds) as learner,
        # It counts the connections that the workers make.
        TcpProxy(ports) as proxy,
        WorkerPool(
            WORKERS, f"tcp://{HOST}:{ports[0]}", tmp_path / "logs", tmp_path / "keys"
        ) as pool,
    ):
        wait_for(lambda: tallies.exists() and len(tally(tallies)) == WORKERS)
        time.sleep(SETTLED_SECONDS)
        processes, accepted, begun = pool.process_ids, proxy.accepted, tally(tallies)
        watched = [learner.pid, *processes]
        before = [resident_bytes(process) for process in watched]
        with freeze(learner):
            time.sleep(seconds / 2)
            halfway = tally(tallies)
            time.sleep(seconds / 2 - LAST_SECONDS)
            paused = tally(tallies)
            time.sleep(LAST_SECONDS)
        # For a step that is more than these a worker needs an answer of the learner.
        back_seconds = wait_for(lambda: all(tally(tallies)[each] > paused[each] for each in paused))
        time.sleep(SETTLED_SECONDS)
        growth = [resident_bytes(p) - b for p, b in zip(watched, before, strict=True)]
        again = proxy.accepted - accepted
        assert pool.watch() == []
    made, journal = tally(tallies), Account.of_journal(tmp_path / "journal")
    # The same processes, with the same sessions: nobody began anew.
    assert sorted(process for process, _ in made) == sorted(processes)
    assert journal.steps == made
    during = max(paused[source] - begun[source] for source in paused)
    demonstration, bound = f"4 learner {freeze.__name__}", f"{RECOVERY_SECONDS:.0f} s"
    figure(demonstration, "seconds of it", f"{seconds:.0f}")
    figure(demonstration, "transitions lost, doubled", "0, 0", "0, 0")
    figure(demonstration, "connections made again", f"{again}")
    figure(demonstration, "most steps of a worker meanwhile", f"{during}", f"{CREDIT}")
    grown = ", ".join(f"{each / MEBIBYTE:.1f}" for each in growth)
    figure(demonstration, "MiB grown: learner, workers", grown, f"{MOST_BYTES / MEBIBYTE:.0f} each")
    figure(demonstration, "all workers at work again after", f"{back_seconds:.1f} s", bound)
    assert paused == halfway
    assert during <= CREDIT
    assert max(growth) <= MOST_BYTES
    assert back_seconds <= RECOVERY_SECONDS
    if freeze is held:
        assert again == 0


OTHERS, FAST, SLOW = 3, 0.005, 0.06
"""Workers beside the slow one, and seconds per step; what a worker itself needs comes on top."""
COMPARED_SECONDS, TURNS = 30.0, 8
LEAST_SHARE = 0.95


@contextmanager
def slow_worker(gateway: Gateway, folder: Path) -> Iterator[Process]:
    """A worker process with the last id."""
    command = [
        sys.executable, "-m", "iqlft_workers", "--connect", gateway.endpoint,
        "--worker-id", str(OTHERS), "--parent", str(os.getpid()), "--keys", str(gateway.own_keys),
    ]  # fmt: skip
    variables = {**os.environ, SECONDS_PER_STEP: str(SLOW)}
    with (
        (folder / "slow.log").open("wb") as log,
        subprocess.Popen(command, env=variables, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_ten_times_slower_is_named_and_does_not_slow_the_others(
    tmp_path: Path, figure: Callable[..., None], scaled: Callable[[float], float]
) -> None:
    seconds = scaled(COMPARED_SECONDS) / (2 * TURNS)
    with (
        open_gateway(tmp_path, OTHERS + 1, seconds_per_step=FAST) as gateway,
        WorkerPool(OTHERS, gateway.endpoint, tmp_path / "logs", gateway.own_keys) as pool,
        slow_worker(gateway, tmp_path) as slow,
    ):
        learner, watchdog = PumpingLearner(gateway, pool), Watchdog()
        incidents: list[Incident] = []

        def named() -> bool:
            incidents.extend(watchdog.check(gateway.worker_status()))
            return bool(incidents)

        def steps() -> int:
            made = tally(tmp_path / "tallies").items()
            return sum(count for (process, _), count in made if process != slow.pid)

        def rate() -> float:
            """Steps per second of each of the others."""
            began, before = time.monotonic(), steps()
            learner.pump(seconds)
            return (steps() - before) / (time.monotonic() - began) / OTHERS

        learner.pump_until(lambda: len(learner.account.steps) > OTHERS, PATIENCE_SECONDS)
        named_seconds = learner.pump_until(named, PATIENCE_SECONDS)
        # In turns, for the machine may have other things to do at times.
        rates: dict[int, list[float]] = {signal.SIGSTOP: [], signal.SIGCONT: []}
        for _ in range(TURNS):
            for number, measured in rates.items():
                slow.send_signal(number)
                measured.append(rate())
        gateway.close()
    alone, beside = map(statistics.mean, rates.values())
    demonstration = "4 a slow worker"
    figure(demonstration, "steps/s of each other: alone, beside it", f"{alone:.0f}, {beside:.0f}")
    share = f"{beside / alone:.1%}"
    figure(demonstration, "share that they keep", share, f"{LEAST_SHARE:.0%}")
    figure(demonstration, f"named ({incidents[0].reason}) after", f"{named_seconds:.0f} s")
    assert [incident.worker_id for incident in incidents] == [OTHERS]
    assert beside >= LEAST_SHARE * alone
