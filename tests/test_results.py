"""The commands that `results/` gives are ones that the program takes; tables are of its runs."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from iqlft.analysis.published import published_rows
from iqlft.analysis.table import format_table
from iqlft.cli import main as cli
from iqlft.config.settings import load_yaml
from iqlft.datasets.antmaze.tasks import find_task
from iqlft.runs.curves import find_runs, read_run
from iqlft.runs.folder import Run

RESULTS = Path(__file__).parents[1] / "results"
V0 = RESULTS / "v0"
KEPT = find_runs(RESULTS)


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


TABLE, ABLATIONS = commands("table.sh"), commands("v0/ablations.sh")
CELLS = [command for command in TABLE if command[0] == "run"]
BASE, COSINE, RAW = (
    [f"runs-ablations/antmaze-umaze/{name}-s{seed}" for seed in (0, 1)]
    for name in ("iql", "cosine", "raw-observations")
)
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
    assert read["seeds"] == [0]
    assert not read["normalize_observations"]


DIFFER = {
    "union": {"workers": 4},
    "half": {"workers": 4, "offline_ratio": 0.5},
    "dataset-only": {"workers": 4, "offline_ratio": 1.0},
    "lockstep": {"workers": 1, "lockstep": True},
    "stale": {"workers": 4, "publish_every": 1000},
    "eight-workers": {"workers": 16},
    "cosine": {"workers": 4, "run": COSINE},
    "raw-observations": {"workers": 4, "run": RAW},
}


def test_ablations_differ_in_what_they_are_named_for(capsys: pytest.CaptureFixture[str]) -> None:
    read = [settings(command, capsys) for command in TRAINING]
    pretraining = {each["name"]: each for each in read if "seeds" in each}
    assert pretraining.pop("cloning")["inverse_temperature"] == 0
    base = pretraining[""]
    assert pretraining == {
        "": base,
        "cosine": base | {"name": "cosine", "actor_schedule": "climbing-cosine"},
        "raw-observations": base | {"name": "raw-observations", "normalize_observations": False},
    }
    fine_tuning = [each for each in read if "into" in each]
    base = fine_tuning[0] | {"into": "", "run": BASE}
    named = {
        each["into"] or Path(each["run"][0]).name.removesuffix("-s0"): each for each in fine_tuning
    }
    assert named == {
        name: base | differs | {"into": "" if "run" in differs else name}
        for name, differs in DIFFER.items()
    }


@pytest.mark.parametrize("run", KEPT, ids=lambda run: f"{run.parent.name}/{run.name}")
def test_a_kept_run_says_how_it_was_made_and_nothing_of_its_machine(run: Path) -> None:
    meta = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    assert meta["task"] == read_run(run).task == run.parent.name
    assert meta["dataset"]["hash"]
    assert {"pretrain"} <= load_yaml(run / "config.yaml").keys()
    assert "host" not in meta.get("finetune", meta)


def test_keeping_a_run_copies_its_numbers_without_paths(finetuned: Path, tmp_path: Path) -> None:
    run = tmp_path / "here" / finetuned.parent.name / finetuned.name
    shutil.copytree(finetuned, run)
    program = [str(tmp_path / "bin" / "iqlft"), "finetune", str(run), "--host", "10.1.2.3"]
    Run.open(run).write_meta({"finetune": {"argv": program, "host": "lab-machine"}})
    keep = [sys.executable, RESULTS / "keep.py", tmp_path / "kept", run]
    subprocess.run(keep, check=True, capture_output=True)
    kept = tmp_path / "kept" / run.parent.name / run.name
    assert read_run(kept).rows == read_run(run).rows
    argv = json.loads((kept / "meta.json").read_text())["finetune"]["argv"]
    assert argv == ["iqlft", "finetune", f"runs/antmaze-corner/{run.name}"]
    text = "".join(path.read_text(encoding="utf-8") for path in kept.iterdir())
    assert not [word for word in ("lab-machine", "10.1.2.3", str(tmp_path)) if word in text]


def test_a_run_is_kept_under_another_name(finetuned: Path, tmp_path: Path) -> None:
    keep = [sys.executable, RESULTS / "keep.py", tmp_path, f"{finetuned}=again"]
    subprocess.run(keep, check=True, capture_output=True)
    kept = read_run(tmp_path / finetuned.parent.name / "again-s0")
    assert (kept.variant, kept.rows) == ("again", read_run(finetuned).rows)


@pytest.mark.parametrize(
    "path", ["/home/me/set", "/data", "a,/home/me", "[~/sets]", "../../home/me", "file:///home/me"]
)
def test_a_run_with_another_path_of_its_machine_is_not_kept(
    path: str, finetuned: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / finetuned.parent.name / finetuned.name
    shutil.copytree(finetuned, run)
    program = ["iqlft", "finetune", str(run)]
    Run.open(run).write_meta({"note": path, "argv": program, "finetune": {"argv": program}})
    keep = [sys.executable, RESULTS / "keep.py", tmp_path / "kept", run]
    done = subprocess.run(keep, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "holds a path of this machine" in done.stderr
    assert not (tmp_path / "kept").exists()


def test_the_course_is_the_one_of_the_kept_runs() -> None:
    written = (V0 / "course.md").read_text(encoding="utf-8")
    course = [sys.executable, RESULTS / "course.py", V0 / "runs"]
    done = subprocess.run(course, check=True, capture_output=True, text=True)
    assert written == done.stdout
    run = read_run(V0 / "runs" / "antmaze-umaze" / "iql-s0")
    assert run.after is not None
    last = f"| 1000k environment steps | {run.after.score('success'):.0f} | 95 to 98 |"
    assert written.splitlines()[-1].startswith(last)


def test_the_table_is_the_one_of_the_kept_runs() -> None:
    runs = [read_run(run) for run in find_runs(V0 / "runs")]
    written = (V0 / "table.md").read_text(encoding="utf-8")
    assert written == format_table(runs, style="markdown")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the scripts and the page as they are, and no runs."""
    for name in ("page.py", "keep.py", "course.py", "corl.csv", "README.md"):
        shutil.copy(RESULTS / name, tmp_path)
    return tmp_path


def make_page(folder: Path, *runs: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, folder / "page.py", *runs]
    return subprocess.run(program, check=False, capture_output=True, text=True)


def test_the_page_is_the_one_of_the_kept_runs(page: Path) -> None:
    if (RESULTS / "runs").exists():
        shutil.copytree(RESULTS / "runs", page / "runs")
    assert make_page(page).returncode == 0
    for name in ("README.md", "table.md", "course.md"):
        made, kept = page / name, RESULTS / name
        assert made.exists() == kept.exists()
        assert not made.exists() or made.read_text() == kept.read_text()


def on_v1_data(task: str, folder: Path, *, num_rows: int | None = None) -> Path:
    """A run that says it is of v1 data, cut off after some evaluations."""
    run = folder / "runs" / task / "iql-s0"
    shutil.copytree(V0 / "runs" / task / "iql-s0", run)
    meta = json.loads((run / "meta.json").read_text())
    meta["dataset"]["id"] = meta["dataset"]["id"].replace("-v0", "-v1")
    (run / "meta.json").write_text(json.dumps(meta))
    lines = (run / "curves.csv").read_text().splitlines(keepends=True)
    (run / "curves.csv").write_text("".join(lines[: num_rows and num_rows + 1]))
    return run


@pytest.mark.parametrize(
    ("num_rows", "cells"),
    [
        (3, "69.0 [59, 77] | - | - | 1 | 150k of 1M + 0 of 1M"),
        (22, "73.0 [64, 81] | 74.0 [65, 82] | +1.0 [-11, 13] | 1 | 1M + 50k of 1M"),
        (None, "73.0 [64, 81] | 99.0 [95, 100] | +26.0 [17, 35] | 1 | 1M + 1M"),
    ],
)
def test_a_row_of_the_page_stands_there_with_the_steps_that_it_has_reached(
    num_rows: int | None, cells: str, page: Path, tmp_path: Path
) -> None:
    run = on_v1_data("antmaze-medium-play", tmp_path / "lab", num_rows=num_rows)
    done = make_page(page, run)
    assert done.returncode == 0, done.stderr
    text = (page / "README.md").read_text()
    assert f"| medium-play | {cells} | 72.0 -> 95.0 | 71.8 -> 89.8 |" in text
    assert text.count("| not begun |") == 5
    links = re.findall(r"\]\(([a-z_]+\.(?:png|md))\)", text)
    assert {"before_after.png", "table.md", "course.md"} <= set(links)
    assert all((page / link).exists() or (RESULTS / link).exists() for link in links)
    assert make_page(page).returncode == 0
    assert (page / "README.md").read_text() == text


def test_the_page_takes_no_runs_of_other_data(page: Path) -> None:
    done = make_page(page, V0 / "runs" / "antmaze-umaze" / "iql-s0")
    assert done.returncode != 0
    assert "learned from iqlft/antmaze/umaze-v0" in done.stderr
    assert (page / "README.md").read_text() == (RESULTS / "README.md").read_text()
