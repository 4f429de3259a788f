"""The commands that `results/` gives are ones that the program takes; tables are of its runs."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from iqlft.analysis.published import published_rows
from iqlft.analysis.survey import maze_task
from iqlft.analysis.table import format_table
from iqlft.cli import main as cli
from iqlft.config.layers import load_yaml
from iqlft.datasets.antmaze.tasks import find_task
from iqlft.report import run_data
from iqlft.report.page import write_report
from iqlft.runs.curves import find_runs, read_run
from iqlft.runs.folder import Run
from iqlft.runs.metrics_log import read_history
from iqlft.runs.policy import load_policy
from iqlft.training.new_transitions import survey_new

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


def carry_out(script: Path, *arguments: object) -> dict[str, Any]:
    """Runs a script in this process, as `python SCRIPT ARGUMENT...`; without any only defines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        patch.syspath_prepend(script.parent)
        for name in ("keep", "course"):  # Those beside it, whatever another folder has.
            patch.setitem(sys.modules, name, None)
            del sys.modules[name]
        return runpy.run_path(str(script), run_name="__main__")


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
    subprocess.run(keep, check=True, capture_output=True)  # As it is called, once.
    kept = tmp_path / "kept" / run.parent.name / run.name
    assert read_run(kept).rows == read_run(run).rows
    argv = json.loads((kept / "meta.json").read_text())["finetune"]["argv"]
    assert argv == ["iqlft", "finetune", f"runs/antmaze-corner/{run.name}"]
    text = b"".join(path.read_bytes() for path in kept.rglob("*") if path.is_file())
    words = ("lab-machine", "10.1.2.3", str(tmp_path))
    assert not [word for word in words if word.encode() in text]


def lengthened(finetuned: Path, folder: Path) -> Path:
    """The run with a row of metrics at every update, whose incidents name a machine."""
    run = Path(shutil.copytree(finetuned, folder / finetuned.parent.name / finetuned.name))
    rows = []
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line) | {"incidents": ["lab-machine hangs"]}
        clock = "env_steps" if row["phase"] == "online" else "updates"
        rows += [json.dumps(row | {clock: row[clock] - back}) for back in reversed(range(50))]
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    meta = Run.open(run).meta
    meta["files"].pop("metrics.jsonl")
    Run.open(run).write_meta({"files": meta["files"]})
    return run


def test_a_kept_run_has_its_diagnostics_in_a_report(
    corner: str,  # noqa: ARG001
    finetuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_data, "EPISODES", 1)
    run = lengthened(finetuned, tmp_path / "lab")
    kept = carry_out(RESULTS / "keep.py")["keep"](tmp_path / "kept", run)
    assert kept == tmp_path / "kept" / run.parent.name / run.name
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert not [path for path in files if b"lab-machine" in path.read_bytes()]
    whole, thin = read_history(run), read_history(kept)
    for phase, rows in (("offline", 200), ("online", 200)):
        (xs, values), (all_xs, all_values) = (
            each.column("dataset/q", phase) for each in (thin, whole)
        )
        assert (len(xs), xs[0], xs[-1]) == (rows, all_xs[0], all_xs[-1])
        assert values == pytest.approx(all_values[np.isin(all_xs, xs)], rel=1e-4)
    text = write_report([read_run(kept)], tmp_path / "out").read_text(encoding="utf-8")
    assert {"before_after.png", "diagnostics.png", "maze.png"} == {
        path.name for path in (tmp_path / "out").glob("*.png")
    }
    left_out = re.findall(r"eft out: ([^<]*)", text)
    assert len(left_out) == 2  # The advantages and the map of V.
    assert all("only the small files of this run were kept" in each for each in left_out)
    visits, none = survey_of(run), survey_of(kept)
    assert np.array_equal(visits.visits, none.visits)
    assert (none.num_transitions, len(none.actions)) == (visits.num_transitions, 0)


def survey_of(run: Path) -> Any:  # noqa: ANN401
    """What is known of a run's new transitions."""
    policy = load_policy(run)
    return survey_new(run, policy, maze_task(policy.environment))


def test_a_run_that_is_only_pretrained_is_kept_too(pretrained: Path, tmp_path: Path) -> None:
    kept = carry_out(RESULTS / "keep.py")["keep"](tmp_path, pretrained)
    assert read_run(kept).rows == read_run(pretrained).rows


def test_a_report_says_once_that_numbers_are_all_that_was_kept_of_a_run(tmp_path: Path) -> None:
    run = RESULTS / "door-human" / "d4rl-door-human" / "iql-s0"
    text = write_report([read_run(run)], tmp_path).read_text(encoding="utf-8")
    (left_out,) = re.findall(r"Left out[^<]*", text)
    assert "only its configuration, its evaluations" in left_out


def test_a_run_is_kept_under_another_name(finetuned: Path, tmp_path: Path) -> None:
    carry_out(RESULTS / "keep.py", tmp_path, f"{finetuned}=again")
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
    with pytest.raises(ValueError, match="holds a path of this machine"):
        carry_out(RESULTS / "keep.py", tmp_path / "kept", run)
    assert not (tmp_path / "kept").exists()


def test_the_course_is_the_one_of_the_kept_runs(capsys: pytest.CaptureFixture[str]) -> None:
    written = (V0 / "course.md").read_text(encoding="utf-8")
    carry_out(RESULTS / "course.py", V0 / "runs")
    assert written == capsys.readouterr().out
    run = read_run(V0 / "runs" / "antmaze-umaze" / "iql-s0")
    assert run.after is not None
    last = f"| 1000k environment steps | {run.after.score('success'):.0f} | 95 to 98 |"
    assert written.splitlines()[-1].startswith(last)


@pytest.mark.parametrize("table", [V0 / "table.md", RESULTS / "offline" / "table.md"])
def test_the_table_is_the_one_of_the_kept_runs(table: Path) -> None:
    runs = [read_run(run) for run in find_runs(V0 / "runs" if table.parent == V0 else table.parent)]
    written = table.read_text(encoding="utf-8")
    assert written == format_table(runs, style="markdown")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the scripts and the page as they are, and no runs."""
    for name in ("page.py", "keep.py", "course.py", "corl.csv", "README.md"):
        shutil.copy(RESULTS / name, tmp_path)
    return tmp_path


def test_the_page_is_the_one_of_the_kept_runs(page: Path) -> None:
    if (RESULTS / "runs").exists():
        shutil.copytree(RESULTS / "runs", page / "runs")
    carry_out(page / "page.py")
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
    carry_out(page / "page.py", run)
    text = (page / "README.md").read_text()
    assert f"| medium-play | {cells} | 72.0 -> 95.0 | 71.8 -> 89.8 |" in text
    assert text.count("| not begun |") == 5
    links = re.findall(r"\]\(([a-z_]+\.(?:png|md))\)", text)
    assert {"before_after.png", "table.md", "course.md"} <= set(links)
    assert all((page / link).exists() or (RESULTS / link).exists() for link in links)
    carry_out(page / "page.py")
    assert (page / "README.md").read_text() == text


def test_the_page_takes_no_runs_of_other_data(page: Path) -> None:
    with pytest.raises(ValueError, match="learned from iqlft/antmaze/umaze-v0"):
        carry_out(page / "page.py", V0 / "runs" / "antmaze-umaze" / "iql-s0")
    assert (page / "README.md").read_text() == (RESULTS / "README.md").read_text()
