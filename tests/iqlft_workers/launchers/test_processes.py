"""`iqlft-worker --processes N`: a machine full of workers for a learner on another one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from gateways import at_work
from iqlft.datasets.value_bounds import Range, ValueBounds
from iqlft.gateway.attendance import ATTENDANCE_SECONDS, Attendance
from iqlft.gateway.gateway import Gateway
from iqlft_workers.actor import ActorWeights
from iqlft_workers.discovery import write_endpoint
from iqlft_workers.errors import LOST, UNFIT
from iqlft_workers.keys import LearnerKeys, new_keys
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.launchers.processes import Processes
from scarcity import no_more_files
from waiting import wait_until

MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]


@contextmanager
def started(connect: str | Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "iqlft_workers", "--connect", str(connect), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def children(process_id: int) -> list[int]:
    tasks = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(word) for each in tasks for word in each.read_text().split()]


def test_all_of_them_work_are_started_again_and_leave_together_and_the_learner_says_so(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    gateway, _ = serve(0, num_workers=3)
    write_endpoint(tmp_path / "endpoint", gateway.endpoint, gateway.own_keys)
    gateway.publish(make_weights(3, 1))
    attendance, said, clock = Attendance(0), list[str](), count(step=ATTENDANCE_SECONDS)

    def look() -> int:
        said.extend(attendance.changes(gateway.worker_status(), next(clock)))
        return at_work(gateway)

    with started(tmp_path / "endpoint", "--processes", "3") as process:
        wait_until(lambda: look() == 3 and said[-1].endswith("3 of other machines are here."))
        sessions = {each.session for each in gateway.worker_status()}
        os.kill(children(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: look() == 3 and {e.session for e in gateway.worker_status()} != sessions)
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=60)[1]
        assert process.returncode == 0
    assert "A worker process was killed (signal 9)" in words
    wait_until(lambda: not look() and said[-1].endswith("left; 0 of other machines are here."))


def test_a_machine_without_room_for_a_process_is_waited_for() -> None:
    looks = iter((False, False, True))
    with no_more_files():
        assert Processes("tcp://127.0.0.1:9", 2).run(lambda: next(looks)) == 0


def test_who_finds_no_place_says_so_and_the_others_work_to_the_end(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    gateway, _ = serve(0, num_workers=2)
    write_endpoint(tmp_path / "endpoint", gateway.endpoint, gateway.own_keys)
    gateway.publish(make_weights(3, 1))
    with started(tmp_path / "endpoint", "--processes", "3") as process:
        wait_until(lambda: at_work(gateway) == 2 and len(children(process.pid)) == 2)
        gateway.close()
        words = process.communicate(timeout=60)[1]
        assert process.returncode == 0
    assert words.count("has no place for this one") == 1


def test_who_is_sent_away_for_what_its_simulation_gave_is_started_again(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    narrow = ValueBounds(Range(-1e-3, 1e-3), Range(-1e-3, 1e-3))
    gateway, _ = serve(0, num_workers=2, bounds=narrow)
    write_endpoint(tmp_path / "endpoint", gateway.endpoint, gateway.own_keys)
    gateway.publish(make_weights(3, 1))
    gateway.allow(10**6)
    with started(tmp_path / "endpoint", "--processes", "2") as process:
        wait_until(lambda: gateway.counts().departures.total > 3)
        process.terminate()
        words = process.communicate(timeout=60)[1]
    counts = gateway.counts()
    assert "was sent away: The learner cannot use this batch" in counts.departures.sentence
    assert counts.failed.total == 0
    assert words.count("it is started again") >= 2


def test_each_has_a_key_of_its_own(serve: Serve, make_weights: MakeWeights, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    new_keys(folder, 3)
    (folder / "worker-0.secret").unlink()
    gateway, _ = serve(0, num_workers=3, keys=LearnerKeys.load(folder))
    gateway.publish(make_weights(3, 1))
    with started(gateway.endpoint, "--keys", str(folder), "--processes", "3") as process:
        words = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "3 processes need as many keys, but" in words
    with started(gateway.endpoint, "--keys", str(folder), "--processes", "2"):
        wait_until(lambda: at_work(gateway) == 2)
        assert [each.worker_id for each in gateway.worker_status()] == [1, 2]


def test_a_folder_of_keys_that_is_not_there_is_said(tmp_path: Path) -> None:
    flags = ("--keys", str(tmp_path / "absent"), "--processes", "2")
    with started("tcp://127.0.0.1:9", *flags) as process:
        assert f"There is no folder {tmp_path / 'absent'}" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


@pytest.mark.parametrize("number", ["0", "many"])
def test_at_least_one_works(number: str) -> None:
    with started("tcp://127.0.0.1:9", "--processes", number) as process:
        assert "argument --processes" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("codes", "expected"), [([LOST, LOST], LOST), ([LOST, UNFIT], LOST), ([UNFIT, UNFIT], UNFIT)]
)
def test_they_end_as_their_workers_do(
    codes: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes("tcp://127.0.0.1:9", len(codes))
    ends = iter(codes)

    def child(_: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({next(ends)})"])

    monkeypatch.setattr("iqlft_workers.launchers.processes.start_worker", child)
    assert processes.run(lambda: False) == expected
