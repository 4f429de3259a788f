"""The commands that `results/` gives are ones that the program takes; tables are of its runs."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from iqlft import cli
from iqlft.config import load_yaml
from iqlft.curves import find_runs, read_run
from iqlft.datasets.tasks import find_task
from iqlft.published import published_rows
from iqlft.runs import Run
from iqlft.table import format_table

RESULTS = Path(__file__).parents[1] / "results"
KEPT = find_runs(RESULTS / "runs") + find_runs(RESULTS / "ablations")


def commands(script: str) -> list[list[str]]:
    """Arguments of every call of `iqlft` in a script, which bash reads but nothing carries out."""
    lines = subprocess.run(
        [
            "bash",
            "-c",
            f"iqlft() {{ printf '%q ' \"$@\"; echo; }}; . {shlex.quote(str(RESULTS / script))}",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [shlex.split(line) for line in lines]


TABLE, ABLATIONS = commands("table.sh"), commands("ablations.sh")
CELLS = [command for command in TABLE if command[0] == "run"]
TRAINING = [command for command in ABLATIONS if command[0] in {"pretrain", "finetune"}]


def settings(command: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main([*command, "--print-config"]) == 0
    read: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return read


def test_every_task_of_the_published_table_has_its_data_and_its_cell() -> None:
    made = [command[2] for command in TABLE if command[:2] == ["data", "make"]]
    assert {find_task(name).name for name in made} == set(made)
    assert sorted(made) == sorted(command[2] for command in CELLS)
    assert set(made) >= {row.task for row in published_rows()}


@pytest.mark.parametrize("command", CELLS, ids=lambda command: command[2])
def test_a_cell_has_the_published_budget(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    read = settings(command, capsys)
    assert read["num_updates"] == read["env_steps"] == 1_000_000
    assert (read["eval_every"], read["eval_episodes"]) == (100_000, 100)
    assert read["seeds"] == [0, 1, 2, 3, 4]


def test_ablations_differ_in_what_they_are_named_for(capsys: pytest.CaptureFixture[str]) -> None:
    read = [settings(command, capsys) for command in TRAINING]
    pretraining = [each for each in read if "seeds" in each]
    fine_tuning = {each["into"]: each for each in read if "into" in each}
    differ = {"name": "", "normalize_observations": "", "actor_schedule": ""}
    assert len(pretraining) == 3
    assert len({str({**each, **differ}) for each in pretraining}) == 1
    differ = {"run": "", "into": "", "offline_ratio": "", "lockstep": "", "workers": ""}
    assert len({str({**each, **differ}) for each in fine_tuning.values()}) == 1
    assert fine_tuning["half"]["offline_ratio"] == 0.5
    assert fine_tuning["lockstep"]["lockstep"]
    assert fine_tuning["eight-workers"]["workers"] == 4 * fine_tuning["union"]["workers"]


@pytest.mark.parametrize("run", KEPT, ids=lambda run: f"{run.parent.name}/{run.name}")
def test_a_kept_run_says_how_it_was_made_and_nothing_of_its_machine(run: Path) -> None:
    meta = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    assert meta["task"] == read_run(run).task == run.parent.name
    assert meta["dataset"]["hash"]
    assert {"pretrain"} <= load_yaml(run / "config.yaml").keys()
    assert "host" not in meta


def test_keeping_a_run_copies_its_numbers_without_paths(finetuned: Path, tmp_path: Path) -> None:
    run = tmp_path / "here" / finetuned.parent.name / finetuned.name
    shutil.copytree(finetuned, run)
    program = [str(tmp_path / "bin" / "iqlft"), "finetune", str(run), "--workers", "2"]
    Run.open(run).write_meta({"finetune": {"argv": program, "host": "here"}})
    keep = [sys.executable, RESULTS / "keep.py", tmp_path / "kept", run]
    subprocess.run(keep, check=True, capture_output=True)
    kept = tmp_path / "kept" / run.parent.name / run.name
    assert read_run(kept).rows == read_run(run).rows
    argv = json.loads((kept / "meta.json").read_text())["finetune"]["argv"]
    assert argv == ["iqlft", "finetune", f"runs/antmaze-corner/{run.name}", "--workers", "2"]
    assert "here" not in "".join(path.read_text(encoding="utf-8") for path in kept.iterdir())


def test_a_run_with_another_path_of_its_machine_is_not_kept(
    finetuned: Path, tmp_path: Path
) -> None:
    keep = [sys.executable, RESULTS / "keep.py", tmp_path, tmp_path / finetuned.name]
    shutil.copytree(finetuned, tmp_path / finetuned.name)
    Run.open(tmp_path / finetuned.name).write_meta({"dataset": "/home/data/set"})
    done = subprocess.run(keep, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "holds a path of this machine" in done.stderr


def test_the_table_is_the_one_of_the_kept_runs() -> None:
    runs = [read_run(run) for run in find_runs(RESULTS / "runs")]
    written = (RESULTS / "table.md").read_text(encoding="utf-8")
    assert written.strip() == format_table(runs, style="markdown").strip()
