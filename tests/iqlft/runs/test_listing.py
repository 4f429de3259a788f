"""Every run is listed, whatever state it is in."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.cli import main as cli
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft.runs.listing import list_runs

MakeRun = Callable[..., Path]


def test_runs_are_listed_with_what_they_have(make_run: MakeRun, tmp_path: Path) -> None:
    done = make_run(offline=[0.2, 0.5], online=[0.5, 0.9])
    Run(done).write_meta({"status": "finished"})
    killed = make_run(seed=1, offline=[0.2], updates=100)
    Run(killed).write_meta({"status": "running"})
    (killed / "metrics.jsonl").write_text('{"updates": 150, "env_steps": 0}\n{"upda')
    held = make_run(seed=2, offline=())
    run = Run(held)
    run.claim()
    run.write_meta({"status": "running"})
    damaged = make_run(seed=3)
    (damaged / "meta.json").write_text("{")
    found = {each.folder: each for each in list_runs(tmp_path / "runs")}
    run.close()

    assert {folder: each.status for folder, each in found.items()} == {
        done: "finished", killed: "killed", held: "running", damaged: "damaged"
    }  # fmt: skip
    assert (found[done].updates, found[done].env_steps) == (2_000_000, 1_000_000)
    assert (found[killed].updates, found[held].updates) == (150, 0)
    last = found[done].last
    assert last is not None
    assert last.success == 0.9
    assert found[held].last is None
    assert found[done].size_bytes == sum(path.stat().st_size for path in done.iterdir())
    assert 0 <= found[done].age_seconds < 60


def test_one_that_was_interrupted_before_its_first_row_is_as_far_as_its_checkpoint(
    fresh: Path,
) -> None:
    (fresh / "metrics.jsonl").write_bytes(b"")
    (fresh / "curves.csv").write_bytes((fresh / "curves.csv").read_bytes().split(b"\n")[0] + b"\n")
    # A file of a run that goes on may be gone when it is asked for.
    (fresh / "gone").symlink_to(fresh / "was.here")
    (listed,) = list_runs(fresh)
    assert (listed.updates, listed.env_steps, listed.last) == (300, 0, None)


def test_the_command_lists_them_for_people_and_for_programs(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(offline=[0.25])
    assert cli.main(["list", "--runs", str(tmp_path / "runs")]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "run"
    for part in ("antmaze-umaze/iql-s0", "1,000,000", "success 25% [18%, 34%]", "MiB"):
        assert part in row
    assert cli.main(["list", "--runs", str(tmp_path / "runs"), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["task"], run["updates"], run["last"]["success"]) == ("antmaze-umaze", 1e6, 0.25)


def test_runs_of_several_folders_are_in_one_order_and_each_is_there_once(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folders = [make_run(task=task, offline=[0.5]) for task in ("one", "two", "one-more")]
    for age, folder in enumerate(folders):
        for path in folder.rglob("*"):
            os.utime(path, (time.time(), time.time() - 100 * (age + 1)))
    roots = [tmp_path / "runs" / "one-more", tmp_path / "runs", tmp_path / "runs" / "two"]
    assert [each.folder for each in list_runs(*roots)] == folders


def test_a_run_that_is_linked_to_is_there(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(offline=[0.5])
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "round").symlink_to(tmp_path / "runs")
    assert [each.folder for each in list_runs(tmp_path / "runs")] == [folder]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no folder"):
        list_runs(tmp_path / "absent")
