"""Workers in a network of their own, over a cable that is bad and then cut, known by their keys.

Two network namespaces and a pair of virtual interfaces stand for two machines. Needs root and `ip`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chaos.pumping_learner import Account, PumpingLearner, open_gateway
from chaos.tallying import tally
from iqlft_workers.keys import LearnerKeys, new_keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip"),
]

SPACE, NEAR, FAR = "iqlft-test", "iqlft-near", "iqlft-far"
LEARNER, WORKER = "10.231.77.1", "10.231.77.2"
WORKERS = 2
CUT_SECONDS, BAD_SECONDS, RECOVERY_SECONDS = 15.0, 20.0, 10.0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def cable() -> Iterator[None]:
    """Joins this network and another one."""
    with ExitStack() as stack:
        ip("netns", "add", SPACE)
        stack.callback(ip, "netns", "del", SPACE)  # Its end of the cable goes with it.
        ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR)
        ip("link", "set", FAR, "netns", SPACE)
        ip("addr", "add", f"{LEARNER}/24", "dev", NEAR)
        ip("link", "set", NEAR, "up")
        ip("netns", "exec", SPACE, "ip", "addr", "add", f"{WORKER}/24", "dev", FAR)
        ip("netns", "exec", SPACE, "ip", "link", "set", FAR, "up")
        yield


@contextmanager
def remote_workers(endpoint: str, keys: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [
        "ip",
        "netns",
        "exec",
        SPACE,
        sys.executable,
        "-m",
        "iqlft_workers",
        "--connect",
        endpoint,
    ]
    processes = [
        subprocess.Popen([*command, "--keys", str(keys), "--worker-id", str(index)])
        for index in range(WORKERS)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_bad_cable_costs_nothing_and_a_cut_one_only_time(
    cable: None, tmp_path: Path, figure: Callable[..., None], scaled: Callable[[float], float]
) -> None:
    assert cable is None
    new_keys(tmp_path / "keys", WORKERS)
    keys = LearnerKeys.load(tmp_path / "keys")
    with (
        open_gateway(tmp_path, WORKERS, host=LEARNER, keys=keys) as gateway,
        remote_workers(gateway.endpoint, tmp_path / "keys") as processes,
    ):
        learner = PumpingLearner(gateway)
        learner.pump_until(lambda: len(learner.account.steps) == WORKERS, 60)
        good = learner.pump(3.0)
        until = time.monotonic() + scaled(BAD_SECONDS)
        before = learner.account.env_steps
        while time.monotonic() < until:
            # What is sent meanwhile is lost, and TCP has to send it again.
            ip("link", "set", NEAR, "down")
            learner.pump(0.02)
            ip("link", "set", NEAR, "up")
            learner.pump(0.3)
        bad = (learner.account.env_steps - before) / scaled(BAD_SECONDS)
        ip("link", "set", NEAR, "down")
        learner.pump(scaled(CUT_SECONDS))
        paused = dict(learner.account.steps)
        ip("link", "set", NEAR, "up")
        back_seconds = learner.pump_until(
            lambda: all(learner.account.steps[each] > paused[each] for each in paused), 60
        )
        learner.pump(1.0)
        assert [process.poll() for process in processes] == [None] * WORKERS
        gateway.close()
        for process in processes:
            assert process.wait(10) == 0
    assert Account.of_journal(tmp_path / "journal").steps == tally(tmp_path / "tallies")
    figure("remote", "transitions/s over a good cable", f"{good:,.0f}")
    figure("remote", "over one that drops out 3 times a second", f"{bad:,.0f}")
    figure("remote", "seconds until back after a cut", f"{back_seconds:.1f}", "10")
    assert back_seconds < RECOVERY_SECONDS
