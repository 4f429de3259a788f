"""The parts of a run are there, or say why they are not."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqlft.datasets.errors import DatasetError
from iqlft.gateway.journal import read_rows
from iqlft.report.run_data import EPISODES, RunData
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft_workers.transition import RowLayout


@pytest.fixture
def copy(finetuned: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(finetuned, tmp_path / "run"))


@pytest.mark.usefixtures("corner")
def test_a_run_has_its_dataset_its_new_transitions_and_its_maze(finetuned: Path) -> None:
    data = RunData(Run.open(finetuned))
    assert data.task is not None
    assert (data.task.position, data.task.goal) == (slice(0, 2), None)
    assert data.dataset.num_transitions == 903
    assert data.new is not None
    assert data.new.num_transitions == 340
    assert data.new.visits is not None
    (rows,) = read_rows(finetuned / "replay" / "journal", RowLayout(29, 8))
    counted = data.task.maze.refined(8).count(rows[:, :2])
    np.testing.assert_array_equal(data.new.visits, counted)
    assert len(data.paths) == EPISODES


@pytest.mark.usefixtures("corner")
def test_a_dataset_that_runs_share_is_read_once(
    finetuned: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets: dict[str, Any] = {}
    first = RunData(Run.open(finetuned), datasets).dataset
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    assert RunData(Run.open(pretrained), datasets).dataset is first


def test_a_dataset_that_cannot_be_read_is_named(
    finetuned: Path, corner_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(corner_root, tmp_path / "datasets"))
    (file,) = root.rglob("main_data.hdf5")
    os.truncate(file, 20_000)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    with pytest.raises(DatasetError, match=r"antmaze/corner-v1.* cannot be read"):
        _ = RunData(Run.open(finetuned)).dataset


def test_before_fine_tuning_there_are_no_new_transitions(pretrained: Path) -> None:
    assert RunData(Run.open(pretrained)).new is None


def test_new_transitions_that_are_lost_are_not_taken_for_none(copy: Path) -> None:
    (copy / "replay" / "journal").unlink()
    with pytest.raises(RunError, match=r"taken 340 environment steps and holds none of their"):
        _ = RunData(Run.open(copy)).new


@pytest.mark.usefixtures("corner")
def test_another_dataset_than_the_runs_is_refused(copy: Path) -> None:
    meta = json.loads((copy / "meta.json").read_text())
    Run.open(copy).write_meta({"dataset": meta["dataset"] | {"hash": "another"}})
    with pytest.raises(RunError, match="is not the one that"):
        _ = RunData(Run.open(copy)).dataset


def test_an_absent_dataset_is_named(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    with pytest.raises(DatasetError, match="make it with `iqlft data make antmaze-corner`"):
        _ = RunData(Run.open(copy)).dataset


def test_without_checkpoints_there_are_no_critics_but_paths(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    data = RunData(Run.open(copy))
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        _ = data.critics
    assert data.task is not None


def test_looking_changes_nothing(copy: Path, corner: str) -> None:
    assert corner
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    data = RunData(Run.open(copy))
    for part in ("history", "policy", "critics", "task", "dataset", "new"):
        assert getattr(data, part) is not None
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
