"""Demonstration 9: Ctrl-C at any moment ends a run soon, and what is left can be resumed."""

import contextlib
import dataclasses
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig
from iqlft.runs import checkpoint
from iqlft.runs.folder import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

INTERRUPTS = 50
EXIT_SECONDS, PATIENCE_SECONDS = 5.0, 120.0
HOST = "127.0.0.1"
ENV_STEPS = 600
INTERRUPTED, DIED_OF_IT = 130, -signal.SIGINT
"""A shell reports 130 for both; Python dies of the signal before it runs the program, and after."""
DISTURBED: dict[str, object] = {
    "lockstep": False, "workers": 2, "env_steps": ENV_STEPS, "utd_ratio": 0.5, "slack": 64,
    # Another number of episodes than in pretraining, so that it begins with an evaluation.
    "eval_episodes": 4, "eval_every": ENV_STEPS // 2, "checkpoint_every": 5,
}  # fmt: skip


def start(folder: Path, config: FinetuneConfig) -> subprocess.Popen[str]:
    """Begins to fine-tune a run, or goes on with it."""
    file = folder.parent / "finetune.yaml"
    file.write_text(to_yaml(config))
    begun = Run.open(folder).fine_tuned
    arguments = ["resume"] if begun else ["finetune", "--config", str(file)]
    return subprocess.Popen(
        [sys.executable, "-m", "iqlft", *arguments, str(folder)],
        text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def is_finished(folder: Path) -> bool:
    run = Run.open(folder)
    return run.fine_tuned and run.finished


def contents(folder: Path) -> dict[Path, int]:
    """When each file was written last."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def left_by(process_id: int, folder: Path) -> list[bytes]:
    """Command lines of a learner's children that still run; before their own they have its."""
    parent, learner = f"--parent\0{process_id}\0".encode(), bytes(folder)
    lines = [command_line(process) for process in Path("/proc").glob("[0-9]*")]
    return [line for line in lines if parent in line or learner in line]


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # It has ended meanwhile.
        return b""


@pytest.fixture
def port() -> int:
    """A free port before another free one."""
    while True:
        with socket.create_server((HOST, 0)) as first, contextlib.suppress(OSError):
            number = int(first.getsockname()[1])
            socket.create_server((HOST, number + 1)).close()
            return number


def assert_free(port: int) -> None:
    for each in (port, port + 1):
        socket.create_server((HOST, each)).close()


def test_an_interrupt_at_any_moment_ends_a_run_that_can_be_resumed(
    pretrained: Path,
    corner: str,
    lockstep: FinetuneConfig,
    port: int,
    tmp_path: Path,
    figure: Callable[..., None],
    scaled: Callable[[float], float],
) -> None:
    assert corner
    config = dataclasses.replace(lockstep, **DISTURBED, port=port)  # type: ignore[arg-type]
    rng, seconds, codes = random.Random(0), list[float](), Counter[int]()

    def copy() -> Path:
        return Path(shutil.copytree(pretrained, tmp_path / str(time.monotonic_ns()) / "iql-s0"))

    folder, began = copy(), time.monotonic()
    _, errors = start(folder, config).communicate(timeout=PATIENCE_SECONDS)
    duration = time.monotonic() - began
    assert (is_finished(folder), errors) == (True, "")
    while len(seconds) < round(scaled(INTERRUPTS)):
        if is_finished(folder):
            folder = copy()
        before, process = contents(folder), start(folder, config)
        time.sleep(rng.uniform(0, duration))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert left_by(process.pid, folder) == []
        assert_free(port)
        checkpoint.load(folder / "checkpoints")
        if process.returncode == 0:  # It was over before.
            assert (is_finished(folder), errors) == (True, "")
            continue
        seconds.append(time.monotonic() - began)
        codes[process.returncode] += 1
        if process.returncode == INTERRUPTED:
            assert errors.startswith(("Interrupted; continue with `iqlft resume", "Stopped."))
            assert len(errors.splitlines()) == 1
        else:
            # A package that Python was importing may take the signal for a failure of its own.
            assert process.returncode == DIED_OF_IT or "KeyboardInterrupt" in errors, errors
            assert is_finished(folder) or contents(folder) == before
    if not is_finished(folder):
        process = start(folder, config)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
    assert max(seconds) <= EXIT_SECONDS
    demonstration = "9 interrupts"
    figure(demonstration, "SIGINT at a random instant", f"{len(seconds)}")
    figure(demonstration, "  exit code 130", f"{codes[INTERRUPTED]}")
    figure(demonstration, "  while Python began or ended", f"{len(seconds) - codes[INTERRUPTED]}")
    bound = f"{EXIT_SECONDS:.0f} s"
    figure(demonstration, "gone after, at most", f"{max(seconds):.1f} s", bound)
    figure(demonstration, "children left, ports taken", "0, 0", "0, 0")
