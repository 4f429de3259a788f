"""Workers on a Ray cluster: they die, a node is taken away, then the head, and nothing is lost.

The cluster is a real one of three nodes, each of them processes of this machine.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gateways
from chaos.pumping_learner import LAYOUT, Account, PumpingLearner, open_gateway
from chaos.tallying import tally
from iqlft.config.settings import FinetuneConfig
from iqlft.gateway.credit import CREDIT
from iqlft.gateway.gateway import Gateway
from iqlft.runs.folder import Run
from iqlft_workers.discovery import write_endpoint
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.keys import LearnerKeys, new_keys
from waiting import wait_until

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TESTS = Path(__file__).parents[1]
CLUSTER = TESTS / "chaos" / "ray_cluster.py"
WORKERS = 3
PATIENCE_SECONDS = 120.0
"""Ray and its workers start in seconds, or in many where the machine is busy."""
Start = Callable[..., subprocess.Popen[str]]


class RunningCluster:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def obey(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._line() == "done"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), str(TESTS.parent / "workers")])
    with subprocess.Popen(
        [sys.executable, str(CLUSTER)], text=True, env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        yield RunningCluster(process)


@pytest.fixture(autouse=True)
def _address(cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)


@contextmanager
def workers(
    connect: str | Path, *arguments: str, num: int = WORKERS
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "iqlft", "workers", "--engine", "ray", "--num", str(num)]
    with subprocess.Popen(
        [*command, "--connect", str(connect), *arguments],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def running(word: str) -> list[int]:
    """Processes whose command line has a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def all_at_work(learner: PumpingLearner, gateway: Gateway) -> Callable[[], bool]:
    """Whether, from now on, something has come from as many living processes as there should be."""
    before = dict(learner.account.steps)

    def come() -> bool:
        steps = learner.account.steps
        moved = {source[0] for source in steps if steps[source] > before.get(source, 0)}
        here = {each for each in moved if Path(f"/proc/{each}").exists()}
        return len(here) == WORKERS == sum(each.alive for each in gateway.worker_status())

    return come


def seconds_after(
    disturb: Callable[[], object], learner: PumpingLearner, gateway: Gateway
) -> float:
    """How long it takes from the end of a worker until all are at work again."""
    before = {source[0] for source in learner.account.steps if Path(f"/proc/{source[0]}").exists()}
    disturb()
    learner.pump_until(
        lambda: not all(Path(f"/proc/{each}").exists() for each in before), PATIENCE_SECONDS
    )
    return learner.pump_until(all_at_work(learner, gateway), PATIENCE_SECONDS)


def test_refused_workers_are_not_started_again_and_one_sentence_says_why(tmp_path: Path) -> None:
    spec = EnvironmentSpec("Nowhere-v0")
    with gateways.open_gateway(spec, LAYOUT) as gateway:
        write_endpoint(tmp_path / "endpoint", gateway.endpoint, gateway.own_keys)
        with workers(tmp_path / "endpoint", num=1) as process:
            out, words = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert out == ""
    assert words.count("cannot work: ") == 1
    assert "Nowhere" in words
    assert "Traceback" not in words


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense", "ray://127.0.0.1:10001"])
def test_a_cluster_that_is_not_there_is_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with workers("tcp://127.0.0.1:9") as process:
        out, words = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (2, "")
    assert words.startswith(f"iqlft worker: There is no Ray cluster at {address}")
    assert words.count("\n") == 1


def test_they_have_keys_of_their_own_and_leave_with_ctrl_c(tmp_path: Path) -> None:
    new_keys(tmp_path / "keys", WORKERS)
    keys = LearnerKeys.load(tmp_path / "keys")
    with open_gateway(tmp_path, WORKERS, keys=keys) as gateway:
        learner = PumpingLearner(gateway)
        with workers(gateway.endpoint, "--keys", str(tmp_path / "keys")) as process:
            learner.pump_until(all_at_work(learner, gateway), PATIENCE_SECONDS)
            learner.pump(2.0)
            process.send_signal(signal.SIGINT)
            learner.pump_until(lambda: process.poll() is not None, PATIENCE_SECONDS)
            words = process.communicate()[1]
        gateway.close()
    assert process.returncode == 0
    assert "3 workers on 2 nodes" in words
    assert Account.of_journal(tmp_path / "journal").steps == tally(tmp_path / "tallies")
    assert not running(gateway.endpoint)


def test_a_learner_has_its_workers_on_the_cluster_and_they_leave_with_it(
    fresh: Path, start: Start, lockstep: FinetuneConfig
) -> None:
    config = dataclasses.replace(lockstep, lockstep=False, workers=2, engine="ray", eval_episodes=4)
    process = start("finetune", config, str(fresh))
    out, words = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out + words
    assert Run.open(fresh).meta["status"] == "finished"
    said = (fresh / "logs" / "ray.log").read_text()
    assert "2 workers on 2 nodes" in said
    wait_until(lambda: not running(f"--parent\0{process.pid}\0"), PATIENCE_SECONDS)


def test_a_worker_a_node_and_the_head_are_killed_and_nothing_accepted_is_lost(
    tmp_path: Path, cluster: RunningCluster, figure: Callable[..., None]
) -> None:
    with open_gateway(tmp_path, WORKERS) as gateway:
        write_endpoint(tmp_path / "endpoint", gateway.endpoint, gateway.own_keys)
        learner = PumpingLearner(gateway)
        with workers(tmp_path / "endpoint") as process:
            learner.pump_until(all_at_work(learner, gateway), PATIENCE_SECONDS)
            worker, actor = next(iter(learner.account.steps))[0], running("ray::_Actor")[0]
            back = [
                seconds_after(disturb, learner, gateway)
                for disturb in (
                    lambda: os.kill(worker, signal.SIGKILL),
                    lambda: os.kill(actor, signal.SIGKILL),
                    lambda: cluster.obey("remove"),
                )
            ]
            cluster.obey("behead")
            left = learner.pump_until(lambda: process.poll() is not None, PATIENCE_SECONDS)
            words = process.communicate()[1]
        learner.pump_until(lambda: not running(str(tmp_path / "endpoint")), PATIENCE_SECONDS)
        learner.pump(1.0)
        gateway.close()
    assert process.returncode == 2
    assert "The head of the Ray cluster" in words
    assert "Traceback" not in words
    made, journal = tally(tmp_path / "tallies"), Account.of_journal(tmp_path / "journal")
    received = Account.of_journal(tmp_path / "journal", learner.account.batches)
    assert received.checksum == learner.account.checksum
    missing = {source: steps - journal.steps.get(source, 0) for source, steps in made.items()}
    assert set(journal.steps) <= set(made)
    assert all(0 <= steps <= CREDIT for steps in missing.values())
    figure("Ray", "duplicates, gaps", "0, 0", "0, 0")
    figure("Ray", "most steps of a session never sent", f"{max(missing.values())}", f"{CREDIT}")
    seconds = ", ".join(f"{each:.1f}" for each in back)
    figure("Ray", "seconds until back after a worker, an actor, a node is gone", seconds)
    figure("Ray", "seconds until the launcher leaves a lost head", f"{left:.1f}")
