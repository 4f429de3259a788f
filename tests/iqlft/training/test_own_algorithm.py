"""A user's own algorithm, from a folder on PYTHONPATH, goes through every command by its name."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from iqlft.cli import main as cli
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


class Uncounted(Mine):
    """Does not say that it has made an update."""

    def update(self, batch: Batch) -> Metrics:
        metrics = super().update(batch)
        self.updates -= 1
        return metrics


class Silent(Mine):
    """Returns nothing."""

    def update(self, batch: Batch) -> Metrics:
        super().update(batch)


class Scalar(Mine):
    """Returns a number that is none per member."""

    def update(self, batch: Batch) -> Metrics:
        return {name: each.mean() for name, each in super().update(batch).items()}


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
Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with the user's module."""
    package = tmp_path / "code" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "algorithms.py").write_text(SOURCE)
    (package / "syntax.py").write_text("class Mine(")
    (package / "script.py").write_text("import sys\nsys.exit(0)")
    (package / "unknown.py").write_text("\nclass Mine(Nameless): ...")
    return package.parent


@pytest.fixture
def main(
    code: Path, corner: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Main]:
    """Runs a command where the user's module can be imported; exit code, output and errors."""
    assert corner
    monkeypatch.syspath_prepend(code)
    monkeypatch.chdir(code.parent)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            exit_code = cli.main([*arguments])
        except SystemExit as error:
            exit_code = int(error.code or 0)
        return exit_code, *capsys.readouterr()

    yield run
    for name in ("mine", "mine.algorithms"):
        sys.modules.pop(name, None)


def test_an_own_algorithm_is_pretrained_evaluated_and_fine_tuned(
    main: Main, code: Path, tmp_path: Path
) -> None:
    # As a user does it, who has the module's folder in PYTHONPATH.
    path = os.pathsep.join(map(str, [code, ROOT, ROOT / "workers"]))
    arguments = ("pretrain", "--algorithm", MINE, "--laziness", "0.5", *TINY, *MACHINE)
    done = subprocess.run(
        [sys.executable, "-m", "iqlft", *arguments], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": path}, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "antmaze-corner" / "mine-s0"
    run = Run.open(folder)
    assert run.meta["algorithm"] == MINE
    assert (run.config("pretrain") or {})["laziness"] == 0.5
    assert yaml.safe_load((folder / "config.yaml").read_text())
    assert run.meta["status"] == "finished"

    assert main("evaluate", str(folder), "--episodes", "1")[0] == 0
    assert main("finetune", "--env-steps", "20", "--eval-every", "20", *MACHINE)[0] == 0
    assert Run.open(folder).meta["phase"] == "online"
    state = checkpoint.load(folder / "checkpoints").state
    assert state["updates"] == 40

    exit_code, _, errors = main("resume", str(folder))
    assert exit_code == 2
    assert "finished" in errors


def test_the_help_of_an_own_algorithm_shows_its_flags(main: Main) -> None:
    exit_code, output, errors = main("pretrain", "--algorithm", MINE, "--help")
    assert (exit_code, errors) == (0, "")
    assert "--laziness" in output
    assert "--expectile" not in output


def test_its_flags_are_known_though_there_is_no_run(main: Main) -> None:
    _, _, errors = main("finetune", "--algorithm", MINE, "--laziness", "0.5")
    assert "no run" in errors
    assert "no flag" not in errors
    _, _, errors = main("finetune", "--algorithm", MINE, "--lazyness", "0.5")
    assert "there is no flag --lazyness. Did you mean '--laziness'?" in errors


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.algorithms:Absent", "no class 'Absent'"),
        ("mine.algorithms:Nothing", "is not an algorithm"),
        ("absent.algorithms:Mine", "cannot be imported"),
        ("mine.syntax:Mine", "SyntaxError: '(' was never closed (syntax.py, line 1)"),
        ("mine.script:Mine", "(SystemExit: 0 at "),
        ("mine.unknown:Mine", "unknown.py:2); mend the module"),
    ],
)
def test_what_is_no_algorithm_is_refused_in_a_sentence(
    name: str, words: str, main: Main, tmp_path: Path
) -> None:
    exit_code, _, errors = main("pretrain", "--algorithm", name, *TINY, *MACHINE)
    assert exit_code == 2
    assert words in errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Uncounted", "raised its `updates` by 0"),
        ("Silent", "must return what is logged"),
        ("Scalar", "must return what is logged"),
    ],
)
def test_an_update_that_keeps_no_contract_ends_training_in_a_sentence(
    name: str, words: str, main: Main
) -> None:
    exit_code, _, errors = main(
        "pretrain", "--algorithm", f"mine.algorithms:{name}", *TINY, *MACHINE, "--eval-episodes=0"
    )
    assert exit_code == 2
    assert f"An update of {name}" in errors
    assert words in errors
    assert "Traceback" not in errors
