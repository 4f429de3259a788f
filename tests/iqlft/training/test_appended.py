"""A run learns on from data that were logged since, exactly, and says so; nothing is simulated."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import iqlft
from iqlft.cli.main import main
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.config.settings import PretrainConfig
from iqlft.runs import checkpoint
from iqlft.runs.folder import Run, pretrain_config
from iqlft.runs.policy import load_policy
from iqlft.training.build import load_task_dataset
from iqlft.training.pretrain import pretrain
from iqlft.training.resume import resume
from robot_logs import log
from run_fixtures import rewind

MINE, MORE, LAST = "mine/robot-v0", "mine/robot-more-v0", "mine/robot-last-v0"
WIDE = "mine/wide-v0"
APPEND = ["finetune", "--quiet"]


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of 40 updates on 200 transitions; to be read, not changed. 30 more are there."""
    root = tmp_path_factory.mktemp("robot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        log(MINE, 20, seed=0)
        log(MORE, 3, seed=1, scale=50)
        log(LAST, 1, seed=3)
        log(WIDE, 3, seed=2, width=4)
        (folder,) = pretrain(
            PretrainConfig(
                dataset=(MINE,),
                normalize_observations=True,
                hyperparameters=IQLHyperparameters(
                    hidden_size=8, batch_size=16, actor_schedule="cosine"
                ),
                num_updates=40,
                eval_episodes=0,
                log_every=10,
                checkpoint_every=10,
                keep_checkpoints=9,
                device="cpu",
                tensorboard=False,
                runs=root / "runs",
            )
        )
        yield folder


@pytest.fixture(scope="module")
def learned_on(robot: Path) -> Path:
    """Its copy that has learned on, with 2 updates for each of the 30 transitions."""
    before = everything(robot)
    assert main([*APPEND, str(robot), "--append", MORE, "--into", "later", "--utd-ratio", "2"]) == 0
    assert everything(robot) == before
    return robot.with_name("later")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def assert_same_end(run: Path, other: Path) -> None:
    one, two = (checkpoint.load(each / "checkpoints") for each in (run, other))
    assert one.state["updates"] == two.state["updates"] == 100
    assert one.tensors.keys() == two.tensors.keys()
    assert [key for key in one.tensors if not torch.equal(one.tensors[key], two.tensors[key])] == []


def test_a_copy_learns_on_from_both(learned_on: Path) -> None:
    assert load_policy(learned_on).weights.version == 40 + 60
    run = Run.open(learned_on)
    assert run.meta["status"] == "finished"
    (entry,) = run.meta["appended"]
    assert (entry["dataset"], entry["transitions"]) == ([MORE], 30)
    assert (entry["after_updates"], entry["num_updates"]) == (40, 60)
    assert run.meta["dataset"]["id"] == f"{MINE} + {MORE}"
    # The cosine of its pretraining is at its end.
    h = pretrain_config(run).hyperparameters
    assert isinstance(h, IQLHyperparameters)
    assert h.actor_schedule == "constant"
    updates = [
        json.loads(line)["updates"]
        for line in (learned_on / "metrics.jsonl").read_text().splitlines()
    ]
    assert updates == list(range(10, 101, 10))
    dataset = load_task_dataset(pretrain_config(run))
    expected = [iqlft.load_dataset(each).rows() for each in (MINE, MORE)]
    np.testing.assert_array_equal(dataset.rows(), np.concatenate(expected))


def test_appended_data_do_not_move_what_normalises(robot: Path, learned_on: Path) -> None:
    old, new = (load_policy(each).weights.arrays for each in (robot, learned_on))
    for name in ("observation_mean", "observation_std"):
        np.testing.assert_array_equal(new[name], old[name])
    assert not np.array_equal(new["weight.0"], old["weight.0"])
    # The new data are so wide that they would have moved it.
    dataset = load_task_dataset(pretrain_config(Run.open(learned_on)))
    assert dataset.statistics.greatest[:3].max() > 10 * old["observation_std"].max()


def test_an_interrupted_one_goes_on_as_if_it_had_not_been(learned_on: Path, tmp_path: Path) -> None:
    part = Path(shutil.copytree(learned_on, tmp_path / "part"))
    rewind(part, "000000050")
    resume(part)
    assert_same_end(learned_on, part)


def test_killed_before_its_first_update_it_can_be_resumed_and_appended_to(
    robot: Path, learned_on: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("iqlft.training.appended._resume", lambda *_: None)
        arguments = [str(robot), "--append", MORE, "--into", "begun", "--utd-ratio", "2"]
        assert main([*APPEND, *arguments]) == 0
    begun = robot.with_name("begun")
    assert Run.open(begun).meta["status"] == "interrupted"
    resume(begun)
    assert_same_end(learned_on, begun)

    assert main([*APPEND, str(begun), "--append", LAST, "--into", "third"]) == 0
    run = Run.open(robot.with_name("third"))
    assert [each["transitions"] for each in run.meta["appended"]] == [30, 10]
    assert load_policy(run.folder).weights.version == 100 + 10


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "pretrain again with --environment ID, or learn on"),
        (["--append", MORE], "name this copy with --into"),
        (["--append", "mine/absent-v0", "--into", "x"], "is not on this machine"),
        (["--append", MINE, "--into", "x"], "learned from twice"),
        (["--append", WIDE, "--into", "x"], "(observations of 4 values against 3)"),
        (["--append", MORE, "--into", "x", "--env_steps", "5"], "leave out --env-steps, or"),
        (["--append", MORE, "--into", "x", "--learning-rate", "1e-5"], "out --learning-rate, or"),
        (["--append", MORE, "--into", "x", "--algorithm", "awac"], "leave out --algorithm, or"),
        (["--append", MORE, "--into", "x", "--dry-run"], "--dry-run does not work with --append"),
        (["--append", MORE, "--into", "mine-robot-v0/../x"], "be the name of one folder"),
        (["--append", MORE, "--into", "x", "--runs", "other"], "leave --runs out where runs are"),
    ],
)
def test_what_cannot_be_appended_is_refused_before_anything_is_made(
    flags: list[str], message: str, robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(robot.parent)
    assert main(["finetune", str(robot), *flags]) == 2
    assert message in capsys.readouterr().err
    assert everything(robot.parent) == before


def test_a_copy_computes_in_the_precision_that_is_asked_for(robot: Path) -> None:
    flags = ["--append", MORE, "--into", "coarse", "--precision", "bf16"]
    # The folder in which the run is may be said too.
    assert main([*APPEND, str(robot), *flags, "--runs", str(robot.parents[1])]) == 0
    assert pretrain_config(Run.open(robot.with_name("coarse"))).precision == "bf16"


def test_data_that_have_changed_since_pretraining_are_refused(
    robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(Path(shutil.copytree(robot, tmp_path / "other")))
    run.write_meta({"dataset": run.meta["dataset"] | {"hash": "0" * 32}})
    assert main(["finetune", str(run.folder), "--append", MORE, "--into", "x"]) == 2
    assert "is not the one that" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
