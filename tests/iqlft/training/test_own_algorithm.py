"""A user's own algorithm, from a folder on PYTHONPATH, goes through every command by its name."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from iqlft.runs import checkpoint
from iqlft.runs.folder import Run

ROOT = Path(__file__).parents[3]
MINE = "mine.algorithms:Mine"
SOURCE = '''
"""Regression onto the data's actions, pulled towards no action at all."""

from dataclasses import dataclass
from typing import Any

from iqlft.algorithms.base import Algorithm, Batch, Metrics
from iqlft.config.algorithms import Hyperparameters
from iqlft.nn.networks import DeterministicActor


@dataclass(frozen=True)
class MineHyperparameters(Hyperparameters):
    """Hyperparameters of Mine."""

    laziness: float = 0.25
    """Weight of the actions' squares."""


class Mine(Algorithm[MineHyperparameters]):
    """Lazy cloning."""

    Hyperparameters = MineHyperparameters

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        mlp = self.mlp(self.spec.observation_dim, self.spec.action_dim)
        self.actor = self.learned("actor", DeterministicActor(mlp, 0.1))

    def update(self, batch: Batch) -> Metrics:
        h = self.hyperparameters
        actions = self.actor(self.normalize(batch.observations))
        cloning = (actions - batch.actions).square().mean((-2, -1))
        loss = cloning + h.laziness * actions.square().mean((-2, -1))
        self.minimize("actor", loss, h.learning_rate)
        self.updates += 1
        return {"actor/loss": loss}


class Nothing:
    pass
'''
TINY = (
    "--task", "antmaze-corner", "--dataset", "iqlft/antmaze/corner-v1", "--hidden-size", "16",
    "--batch-size", "16", "--num-updates", "20", "--eval-every", "20", "--checkpoint-every", "10",
)  # fmt: skip
MACHINE = (
    "--device", "cpu", "--threads", "1", "--eval-episodes", "1", "--log-every", "10",
    "--workers", "1",
)  # fmt: skip
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(corner: str, tmp_path: Path) -> Command:
    """Runs `iqlft` as a user does, in a folder beside that of the user's module."""
    assert corner
    package = tmp_path / "code" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "algorithms.py").write_text(SOURCE)
    folders = [tmp_path / "code", ROOT, ROOT / "workers"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "iqlft", *arguments],
            cwd=tmp_path, env=variables, text=True, capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    return run


def test_an_own_algorithm_is_pretrained_evaluated_and_fine_tuned(
    command: Command, tmp_path: Path
) -> None:
    done = command("pretrain", "--algorithm", MINE, "--laziness", "0.5", *TINY, *MACHINE)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "antmaze-corner" / "mine-s0"
    run = Run.open(folder)
    assert run.meta["algorithm"] == MINE
    assert (run.config("pretrain") or {})["laziness"] == 0.5
    assert yaml.safe_load((folder / "config.yaml").read_text())
    assert run.meta["status"] == "finished"

    done = command("evaluate", str(folder), "--episodes", "1")
    assert done.returncode == 0, done.stderr

    done = command("finetune", "--env-steps", "20", "--eval-every", "20", *MACHINE)
    assert done.returncode == 0, done.stderr
    assert Run.open(folder).meta["phase"] == "online"
    state = checkpoint.load(folder / "checkpoints").state
    assert state["updates"] == 40

    done = command("resume", str(folder))
    assert done.returncode == 2
    assert "finished" in done.stderr


def test_the_help_of_an_own_algorithm_shows_its_flags(command: Command) -> None:
    done = command("pretrain", "--algorithm", MINE, "--help")
    assert done.returncode == 0, done.stderr
    assert "--laziness" in done.stdout
    assert "--expectile" not in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.algorithms:Absent", "no class 'Absent'"),
        ("mine.algorithms:Nothing", "is not an algorithm"),
        ("absent.algorithms:Mine", "cannot be imported"),
    ],
)
def test_what_is_no_algorithm_is_refused_in_a_sentence(
    name: str, words: str, command: Command, tmp_path: Path
) -> None:
    done = command("pretrain", "--algorithm", name, *TINY, *MACHINE)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
