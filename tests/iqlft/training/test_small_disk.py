"""A disk without room, a real one: a run stops in order, says what it needs, and can be resumed."""

import dataclasses
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.runs import checkpoint
from iqlft.runs.folder import JOURNAL, Run
from iqlft.runs.metrics_log import read_history
from run_fixtures import curves
from waiting import wait_until

IQLFT = [sys.executable, "-m", "iqlft"]


class SmallDisk:
    """A file system in memory that is small, or full.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._filling = folder, folder / "filling"

    def resize(self, kibibytes: int) -> None:
        options = f"remount,size={kibibytes}k"
        subprocess.run(["mount", "-o", options, self.folder], check=True)

    def fill(self) -> None:
        """Until not a byte is left."""
        with self._filling.open("ab", buffering=0) as file:
            try:
                while file.write(b"0" * 4096):
                    pass
            except OSError:
                pass
        assert shutil.disk_usage(self.folder).free == 0

    def clear(self) -> None:
        self._filling.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin(corner: str, tmp_path: Path) -> Iterator[Begin]:
    """Starts a command; what is left is killed after the test."""
    assert corner
    processes = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*IQLFT, *map(str, arguments)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, and what was said of it."""
    _, errors = process.communicate(timeout=100)
    return process.returncode, errors


def assert_no_room(process: subprocess.Popen[str], folder: Path) -> str:
    """It has ended with 2 and one sentence: what, where, how much is needed, how to go on."""
    code, errors = end(process)
    assert code == 2, errors
    (said,) = [each for each in errors.splitlines() if each.startswith("iqlft ")]
    assert "Traceback" not in errors
    assert str(folder) in said
    assert re.search(r"cannot be written \(.*\): its disk has [\d.,]+ MiB free, and at least", said)
    assert re.search(
        r"free some space, then (continue with `iqlft resume|repeat the command)", said
    )
    return said


def assert_whole(folder: Path) -> None:
    """Whatever is read of a run can be read."""
    checkpoint.load(folder / "checkpoints")
    Run.open(folder).config("pretrain")
    if (folder / "metrics.jsonl").stat().st_size:
        read_history(folder)


def assert_equal(one: Path, other: Path) -> None:
    ours, theirs = (checkpoint.load(each / "checkpoints").tensors for each in (one, other))
    assert all(torch.equal(each, theirs[key]) for key, each in ours.items())
    assert curves(one) == curves(other)


def test_a_checkpoint_without_room_ends_a_run_that_is_resumed_to_the_same_end(
    disk: SmallDisk, begin: Begin, pretraining: PretrainConfig, pretrained: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "config.yaml", disk.folder / "antmaze-corner" / "iql-s0"
    file.write_text(to_yaml(dataclasses.replace(pretraining, runs=disk.folder)))
    disk.resize(200)
    said = assert_no_room(begin("pretrain", "--config", file), folder)
    assert "The checkpoint" in said
    assert "the previous one is intact" in said
    checkpoint.load(folder / "checkpoints")
    disk.resize(20_000)
    assert end(begin("resume", folder)) == (0, "")
    assert_equal(folder, pretrained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rhythm",
    [
        {"log_every": 1, "checkpoint_every": 10**6},  # metrics
        {"log_every": 10**6, "checkpoint_every": 1},  # checkpoints and policy
        {"log_every": 3, "checkpoint_every": 10**6, "tensorboard": True},
    ],
)
def test_whatever_pretraining_has_no_room_for_it_stops_in_order(
    rhythm: dict[str, int],
    disk: SmallDisk,
    begin: Begin,
    pretraining: PretrainConfig,
    tmp_path: Path,
) -> None:
    file, folder = tmp_path / "config.yaml", disk.folder / "antmaze-corner" / "iql-s0"
    config = dataclasses.replace(pretraining, runs=disk.folder, num_updates=10**6)
    file.write_text(to_yaml(dataclasses.replace(config, **rhythm)))  # type: ignore[arg-type]
    process = begin("pretrain", "--config", file)
    wait_until((folder / "checkpoints" / "last").exists)
    time.sleep(1.0)
    disk.fill()
    assert_no_room(process, folder)
    checkpoint.load(folder / "checkpoints")
    assert_no_room(begin("resume", folder), folder)
    disk.clear()
    before, metrics = updates(folder), folder / "metrics.jsonl"
    length = metrics.stat().st_size
    resumed = begin("resume", folder)
    if rhythm["checkpoint_every"] == 1:
        wait_until(lambda: updates(folder) > before + 1)
    else:  # It is cut back to the checkpoint's length, and grows again.
        wait_until(lambda: metrics.stat().st_size < length)
        wait_until(metrics.read_bytes)
    resumed.terminate()
    assert end(resumed)[0] == 130
    assert_whole(folder)


@pytest.mark.slow
def test_whatever_fine_tuning_has_no_room_for_it_loses_nothing(
    disk: SmallDisk,
    begin: Begin,
    pretrained: Path,
    finetuned: Path,
    lockstep: FinetuneConfig,
    tmp_path: Path,
) -> None:
    file, folder = tmp_path / "finetune.yaml", disk.folder / "antmaze-corner" / "iql-s0"
    shutil.copytree(pretrained, folder)
    file.write_text(to_yaml(lockstep))
    disk.fill()
    assert_no_room(begin("finetune", folder, "--config", file), folder)
    assert Run.open(folder).meta["status"] == "finished"
    disk.clear()
    process = begin("finetune", folder, "--config", file)
    journal = folder / JOURNAL
    wait_until(lambda: journal.exists() and journal.stat().st_size > 10_000)
    disk.fill()
    # The journal waits for room; whatever else is written next does not find it.
    wait_until(lambda: b"The journal" in (folder / "logs" / "learner.log").read_bytes() or
                process.poll() is not None, 60)  # fmt: skip
    if process.poll() is None:
        process.terminate()
    assert_no_room(process, folder)
    assert_no_room(begin("resume", folder), folder)
    disk.clear()
    assert end(begin("resume", folder))[0] == 0
    assert_equal(folder, finetuned)


@pytest.mark.slow
def test_a_file_longer_than_is_allowed_is_a_mistake_with_a_sentence(
    corner: str, pretraining: PretrainConfig, tmp_path: Path
) -> None:
    assert corner
    file, folder = tmp_path / "config.yaml", tmp_path / "runs" / "antmaze-corner" / "iql-s0"
    file.write_text(to_yaml(dataclasses.replace(pretraining, runs=tmp_path / "runs")))
    words = " ".join([*IQLFT, "pretrain", "--config", str(file)])
    limited = subprocess.run(
        ["bash", "-c", f"ulimit -f 16; {words}"],
        capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False,
    )  # fmt: skip
    assert limited.returncode == 2
    assert "File too large" in limited.stderr
    assert f"remove {folder}, and begin anew" in limited.stderr


def updates(folder: Path) -> int:
    return int(checkpoint.load(folder / "checkpoints").state["updates"])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux")
@pytest.mark.parametrize(("limit", "works"), [("-n 60", False), ("-Sn 60", True)])
def test_too_few_files_are_said_before_anything_is_begun(
    limit: str, works: bool, corner: str, pretraining: PretrainConfig, tmp_path: Path
) -> None:
    assert corner
    file = tmp_path / "config.yaml"
    config = dataclasses.replace(pretraining, runs=tmp_path / "runs", num_updates=20, eval_every=20)
    file.write_text(to_yaml(config))
    words = " ".join([*IQLFT, "pretrain", "--config", str(file)])
    done = subprocess.run(
        ["bash", "-c", f"ulimit {limit}; {words}"],
        capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False,
    )  # fmt: skip
    if works:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 2
    assert "but this process is allowed 60; raise the hard limit (as root `ulimit -n" in done.stderr
    assert not (tmp_path / "runs").exists()
