"""Fixtures of small real runs, and of processes that make them; `conftest` takes them over."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iqlft.algorithms.base import Algorithm, Batch, Metrics
from iqlft.algorithms.iql import IQL
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.report.page import write_report
from iqlft.runs import checkpoint
from iqlft.runs.curves import read_run
from iqlft.runs.folder import Run
from iqlft.training.finetune import finetune
from iqlft.training.pretrain import pretrain
from waiting import wait_until

MACHINE: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "eval_episodes": 2,
    "log_every": 50,
    "workers": 1,
    "tensorboard": False,
}
PRETRAINING = PretrainConfig(
    task="antmaze-corner",
    dataset="iqlft/antmaze/corner-v1",
    goal="evaluation",
    reward_shift=-1.0,
    normalize_observations=True,
    hyperparameters=IQLHyperparameters(hidden_size=16, batch_size=16),
    num_updates=300,
    eval_every=100,
    checkpoint_every=20,
    **MACHINE,
)
LOCKSTEP = FinetuneConfig(
    env_steps=340, utd_ratio=0.5, eval_every=170, checkpoint_every=10, lockstep=True, **MACHINE
)
"""An episode, of 300 steps, ends within it."""


def curves(run: Path) -> list[dict[str, str]]:
    """The rows of curves.csv without their times."""
    with (run / "curves.csv").open() as file:
        return [row | {"seconds": ""} for row in csv.DictReader(file)]


def rewind(run: Path, name: str) -> None:
    """Takes a run back to one of its checkpoints, as if it had been interrupted there."""
    folder = run / "checkpoints"
    for later in checkpoint.names(folder):
        if later > name:
            shutil.rmtree(folder / later)
    checkpoint.make_last(folder, name)
    Run.open(run).write_meta({"status": "interrupted"})


@pytest.fixture(scope="session")
def pretraining() -> PretrainConfig:
    """Settings of a pretraining of a second."""
    return PRETRAINING


@pytest.fixture(scope="session")
def lockstep() -> FinetuneConfig:
    """Settings of a fine-tuning of a few seconds that is exactly reproducible."""
    return LOCKSTEP


def _patched(root: Path) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setenv("MINARI_DATASETS_PATH", str(root))
    return patch


@pytest.fixture(scope="session")
def pretrained(corner_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was pretrained without interruption; to be read, not changed."""
    patch = _patched(corner_root)
    try:
        runs = tmp_path_factory.mktemp("pretrained")
        (folder,) = pretrain(dataclasses.replace(PRETRAINING, runs=runs))
        return folder
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def finetuned(
    corner_root: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same, fine-tuned in lockstep without interruption; to be read, not changed."""
    folder = tmp_path_factory.mktemp("finetuned") / "antmaze-corner" / pretrained.name
    shutil.copytree(pretrained, folder)
    patch = _patched(corner_root)
    try:
        return finetune(dataclasses.replace(LOCKSTEP, run=(folder,)))[0]
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def reported(corner_root: Path, finetuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that run, in a folder of its own; to be read, not changed."""
    patch = _patched(corner_root)
    try:
        return write_report([read_run(finetuned)], tmp_path_factory.mktemp("reported"))
    finally:
        patch.undo()


@pytest.fixture
def fresh(corner: str, pretrained: Path, tmp_path: Path) -> Path:  # noqa: ARG001
    """A pretrained run that a test may do with as it likes."""
    return Path(shutil.copytree(pretrained, tmp_path / "runs" / "antmaze-corner" / "iql-s0"))


@contextmanager
def stopped_at(
    updates: int,
    kind: type[Algorithm[Any]] = IQL,
    number: signal.Signals = signal.SIGINT,
) -> Iterator[None]:
    """Context in which training is asked to stop, as by Ctrl-C, after so many updates in all."""
    original = kind.update

    def update(self: Algorithm[Any], batch: Batch) -> Metrics:
        metrics = original(self, batch)
        if self.updates == updates:
            signal.raise_signal(number)
        return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "update", update)
        yield


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(corner: str, tmp_path: Path) -> Iterator[Start]:  # noqa: ARG001
    """Starts `iqlft` as a user does, in an empty folder; what is left is killed after the test."""
    processes: list[subprocess.Popen[str]] = []
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "workers")])

    def run(command: str, config: object, *arguments: str) -> subprocess.Popen[str]:
        variables = {**os.environ, "PYTHONPATH": path}
        file = tmp_path / f"{command}.yaml"
        file.write_text(to_yaml(config))
        process = subprocess.Popen(
            [sys.executable, "-m", "iqlft", command, "--config", str(file), *arguments],
            cwd=tmp_path, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


Stop = Callable[[subprocess.Popen[str], Path, int, signal.Signals], int]


@pytest.fixture
def stop_at() -> Stop:
    """Sends a signal to a run when it has checkpointed so many updates, and waits for its end.

    Neither of its workers may be left a little later. Returns the exit code.
    """

    def stop(
        process: subprocess.Popen[str], folder: Path, updates: int, number: signal.Signals
    ) -> int:
        last = folder / "checkpoints" / "last"
        wait_until(lambda: last.is_file() and int(last.read_text().split("-")[0]) >= updates)
        workers = _children(process.pid)
        assert workers
        process.send_signal(number)
        process.communicate(timeout=60)
        wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in workers))
        return process.returncode

    return stop


def _children(process_id: int) -> list[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(each) for each in text.split()]
