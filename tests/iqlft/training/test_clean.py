"""A cleaned run has lost what only resuming needs, and nothing else."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqlft.analysis.restored import pretrained_policy, restored
from iqlft.cli import main as cli
from iqlft.config.settings import FinetuneConfig
from iqlft.report.run_data import RunData
from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.errors import RunError
from iqlft.runs.folder import ENDPOINT, JOURNAL, Run
from iqlft.runs.pretrained import end_of_pretraining
from iqlft.training import clean as module
from iqlft.training.clean import clean
from iqlft.training.finetune import finetune
from iqlft.training.resume import resume


@pytest.fixture
def copy(finetuned: Path, tmp_path: Path) -> Path:
    """A finished run that a test may clean."""
    return Path(shutil.copytree(finetuned, tmp_path / "runs" / "antmaze-corner" / "iql-s0"))


def size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def contents(folder: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture(scope="module")
def before(finetuned: Path) -> RunData:
    """What there is to see of the run, read once."""
    return RunData(Run.open(finetuned))


def assert_shows(cleaned: Path, before: RunData, finetuned: Path) -> None:
    """What there is to see of a run is what there was before."""
    data = RunData(Run.open(cleaned))
    for found, expected in zip(data.new or (), before.new or (), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        data.critics.advantages(before.dataset.observations, before.dataset.actions),
        before.critics.advantages(before.dataset.observations, before.dataset.actions),
    )
    observation = np.zeros(29)
    for policy, other in (
        (data.policy, before.policy),
        (pretrained_policy(Run.open(cleaned)), pretrained_policy(Run.open(finetuned))),
    ):
        np.testing.assert_array_equal(policy(observation), other(observation))


@pytest.mark.usefixtures("corner")
def test_a_cleaned_run_shows_what_it_showed_before(
    copy: Path, finetuned: Path, before: RunData
) -> None:
    size_before = size(copy)
    freed = clean(Run.open(copy))
    assert freed.keys() == {"journal", "checkpoints", "optimiser"}
    assert (copy / ENDPOINT).read_bytes() == (finetuned / ENDPOINT).read_bytes()
    assert freed["journal"] == (finetuned / JOURNAL).stat().st_size
    assert not (copy / JOURNAL).exists()
    survey = (copy / "replay" / "survey.safetensors").stat().st_size
    assert size_before - size(copy) == pytest.approx(sum(freed.values()) - survey, rel=0.05)
    assert_shows(copy, before, finetuned)


@pytest.mark.usefixtures("corner")
def test_every_command_that_reads_a_run_reads_a_cleaned_one(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["clean", str(copy)]) == 0
    assert f"{copy}: Freed " in capsys.readouterr().out
    for command in (
        ["evaluate", "--episodes", "1", "--workers", "1"], ["plot"], ["table"], ["report"],
        ["export"],
    ):  # fmt: skip
        assert cli.main([command[0], str(copy), *command[1:]]) == 0
    capsys.readouterr()
    page = (copy / "plots" / "report.html").read_text()
    assert "in dataset transitions and new transitions" in page
    for command, sentence in (("resume", "there is no more to do"), ("finetune", "with --into")):
        assert cli.main([command, str(copy)]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("corner")
def test_a_copy_is_fine_tuned_from_a_cleaned_run_as_from_another(
    copy: Path, finetuned: Path, lockstep: FinetuneConfig
) -> None:
    clean(Run.open(copy))
    (again,) = finetune(dataclasses.replace(lockstep, run=(copy,), into="again"))
    tensors, expected = (
        checkpoint.load(each / "checkpoints").tensors for each in (again, finetuned)
    )
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_a_cleaned_pretraining_is_fine_tuned_as_another(
    fresh: Path, finetuned: Path, lockstep: FinetuneConfig
) -> None:
    assert clean(Run.open(fresh)).keys() == {"checkpoints"}
    assert len(checkpoint.names(fresh / "checkpoints")) == 1
    finetune(dataclasses.replace(lockstep, run=(fresh,)))
    tensors, expected = (
        checkpoint.load(each / "checkpoints").tensors for each in (fresh, finetuned)
    )
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("which", ["the end of pretraining", "the last"])
def test_while_a_checkpoint_that_stays_is_damaged_no_other_is_removed(
    which: str, copy: Path, *, dry_run: bool
) -> None:
    run = Run.open(copy)
    name = end_of_pretraining(run) if which[4] == "e" else checkpoint.last(copy / "checkpoints")
    with (copy / "checkpoints" / name / "tensors.safetensors").open("ab") as file:
        file.write(b"x")
    there = contents(copy)
    with pytest.raises(CheckpointError, match=f"{name}/tensors.safetensors is damaged"):
        clean(run, dry_run=dry_run)
    assert contents(copy) == there


def test_cleaning_twice_finds_nothing(copy: Path, corner: str) -> None:
    assert corner
    clean(Run.open(copy))
    before = contents(copy)
    assert clean(Run.open(copy)) == {}
    assert contents(copy) == before


def test_a_dry_run_says_what_cleaning_frees_and_changes_nothing(copy: Path, corner: str) -> None:
    assert corner
    before = contents(copy)
    said = clean(Run.open(copy), dry_run=True)
    assert contents(copy) == before
    assert clean(Run.open(copy)) == said


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_may_go_on_is_refused(
    status: str, fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run.open(fresh).write_meta({"status": status})
    before = contents(fresh)
    assert cli.main(["clean", str(fresh)]) == 2
    errors = capsys.readouterr().err
    assert f"is not finished (its status is {status})" in errors
    assert "iqlft resume" in errors
    assert contents(fresh) == before


def test_a_run_in_which_another_process_trains_is_refused(copy: Path) -> None:
    other = Run.open(copy)
    other.claim()
    with pytest.raises(RunError, match="Another process"):
        clean(Run.open(copy))
    other.close()


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.usefixtures("corner")
@pytest.mark.parametrize("call", range(8))
def test_a_cleaning_that_is_killed_leaves_a_run_that_is_read_and_cleaned_again(
    call: int, copy: Path, finetuned: Path, before: RunData, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_once = Path(shutil.copytree(copy, copy.with_name("once")))
    clean(Run.open(clean_once))
    calls = iter(range(100))

    def killed_at(original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            if next(calls) == call:
                raise KilledError
            return original(*arguments, **options)

        return function

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed_at(Path.unlink))
        patch.setattr(Path, "replace", killed_at(Path.replace))
        patch.setattr(Path, "rename", killed_at(Path.rename))
        patch.setattr(module.shutil, "rmtree", killed_at(shutil.rmtree))
        try:
            clean(Run.open(copy))
        except KilledError:
            pass
        else:
            assert call >= 5, "nothing was interrupted"
    assert_shows(copy, before, finetuned)
    assert Run.open(copy).meta["status"] == "finished"
    clean(Run.open(copy))
    assert_shows(copy, before, finetuned)
    assert size(copy) == pytest.approx(size(clean_once), rel=0.01)
    assert clean(Run.open(copy)) == {}


def test_a_cleaned_checkpoint_holds_networks_alone(copy: Path, corner: str) -> None:
    assert corner
    clean(Run.open(copy))
    saved = checkpoint.load(copy / "checkpoints")
    assert not [key for key in saved.tensors if "adam" in key or key.startswith("replay")]
    start, last = checkpoint.names(copy / "checkpoints")
    assert any("adam" in key for key in checkpoint.load(copy / "checkpoints", start).tensors)
    assert restored(Run.open(copy), RunData(Run.open(copy)).policy).updates == int(last[:9])
    with pytest.raises(RunError, match="no more to do"):
        resume(copy)
