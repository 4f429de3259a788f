"""Several seeds in one process: each has a run of its own, as if it had been trained alone."""

import dataclasses
import itertools
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_fixtures import curves

from iqlft import checkpoint
from iqlft.algorithms.iql import ImplicitQLearning, UpdateResult
from iqlft.config import ConfigError, FinetuneConfig, PretrainConfig
from iqlft.finetune import finetune
from iqlft.interruption import Interrupted
from iqlft.journal import Journal
from iqlft.pretrain import pretrain
from iqlft.replay import Batch
from iqlft.resume import resume
from iqlft.runs import JOURNAL, Run, RunError
from iqlft.session import TrainingDivergedError

SEEDS = (0, 1, 2)


@pytest.fixture
def stack(pretraining: PretrainConfig, corner: str, tmp_path: Path) -> PretrainConfig:
    """Settings of a pretraining of three seeds."""
    assert corner
    return dataclasses.replace(pretraining, seeds=SEEDS, runs=tmp_path / "runs")


@pytest.fixture(scope="session")
def stacked_once(
    pretraining: PretrainConfig, corner_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Three runs that were pretrained together; to be read, not changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(corner_root))
        runs = tmp_path_factory.mktemp("stacked")
        return pretrain(dataclasses.replace(pretraining, seeds=SEEDS, runs=runs))


@pytest.fixture
def stacked(corner: str, stacked_once: list[Path], tmp_path: Path) -> list[Path]:
    """Copies of them."""
    assert corner
    task = stacked_once[0].parent
    shutil.copytree(task, tmp_path / task.name)
    return [tmp_path / task.name / folder.name for folder in stacked_once]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "checkpoints").tensors


def assert_close(one: Path, other: Path) -> None:
    """Both runs end with the same parameters, beyond the order of floating-point sums."""
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    for key, each in ours.items():
        torch.testing.assert_close(each, theirs[key], rtol=1e-4, atol=1e-5, msg=key)


def interrupted(
    config: PretrainConfig, updates: int, monkeypatch: pytest.MonkeyPatch
) -> Sequence[Path]:
    """Runs that were asked to stop after so many updates."""
    original = ImplicitQLearning.update

    def stopping(self: ImplicitQLearning, batch: Batch) -> UpdateResult:
        result = original(self, batch)
        if self.updates == updates:
            signal.raise_signal(signal.SIGINT)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(ImplicitQLearning, "update", stopping)
        with pytest.raises(Interrupted, match="continue with `iqlft resume") as caught:
            pretrain(config)
    return caught.value.folders


def test_every_seed_has_a_run_of_its_own_as_if_it_were_trained_alone(
    pretrained: Path, stacked_once: list[Path], stack: PretrainConfig
) -> None:
    assert [folder.name for folder in stacked_once] == ["iql-s0", "iql-s1", "iql-s2"]
    assert_close(stacked_once[0], pretrained)
    (alone,) = pretrain(dataclasses.replace(stack, seeds=(), seed=2))
    assert_close(stacked_once[2], alone)
    for folder in stacked_once:
        assert [row["updates"] for row in curves(folder)] == ["100", "200", "300"]
        run = Run.open(folder)
        assert run.meta["status"] == "finished"
        settings = run.config("pretrain") or {}
        assert (settings["seed"], settings["seeds"]) == (run.meta["seed"], [])
    actors = [tensors(folder)["algorithm.actor.weights.0"] for folder in stacked_once]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(actors, 2))


def test_an_interrupted_stack_is_resumed_together_and_a_member_alone(
    stack: PretrainConfig, stacked_once: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = interrupted(stack, 110, monkeypatch)
    assert {checkpoint.load(each / "checkpoints").state["updates"] for each in folders} == {110}
    resume(*folders[:2])
    resume(folders[2])
    for folder, expected in zip(folders, stacked_once, strict=True):
        assert_close(folder, expected)


def test_members_are_fine_tuned_together_each_with_workers_and_transitions_of_its_own(
    stacked: list[Path], lockstep: FinetuneConfig
) -> None:
    alone = stacked[1].with_name("alone")
    shutil.copytree(stacked[1], alone)
    finetune(dataclasses.replace(lockstep, run=tuple(stacked)))
    finetune(dataclasses.replace(lockstep, run=(alone,)))
    rows = []
    for folder in [*stacked, alone]:
        assert [row["env_steps"] for row in curves(folder)[3:]] == ["0", "170", "340"]
        journal = Journal(folder / JOURNAL)
        rewards = [entry.batch.rewards for entry in journal.entries()]
        rows.append(np.concatenate([entry.batch.observations for entry in journal.entries()]))
        journal.close()
        assert sum(map(len, rewards)) == 340
    # In lockstep the learner's arithmetic decides every step of the environment.
    np.testing.assert_allclose(rows[1], rows[3], rtol=1e-3, atol=1e-3)
    assert not np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_workers_are_shared_among_the_members(
    stacked: list[Path], lockstep: FinetuneConfig
) -> None:
    finetune(
        dataclasses.replace(
            lockstep, run=tuple(stacked[:2]), lockstep=False, workers=4, env_steps=300,
            eval_every=300,
        )
    )  # fmt: skip
    for folder in stacked[:2]:
        assert len(list((folder / "logs").glob("worker-*.log"))) == 2
        journal = Journal(folder / JOURNAL)
        assert sum(len(entry.batch.rewards) for entry in journal.entries()) == 300
        journal.close()


def test_a_member_that_fails_leaves_the_others_at_work(
    stack: PretrainConfig, stacked_once: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ImplicitQLearning.update

    def poisoned(self: ImplicitQLearning, batch: Batch) -> UpdateResult:
        if self.updates == 120:
            self.value.mlp.weights[0][1].fill_(np.nan)
            self.value.changed()
        return original(self, batch)

    monkeypatch.setattr(ImplicitQLearning, "update", poisoned)
    with pytest.raises(TrainingDivergedError, match="iql-s1"):
        pretrain(stack)
    folders = [stack.runs / stack.task / f"iql-s{seed}" for seed in SEEDS]
    assert [Run.open(each).meta["status"] for each in folders] == ["finished", "failed", "finished"]
    assert checkpoint.load(folders[1] / "checkpoints").state["updates"] == 120
    for index in (0, 2):
        assert_close(folders[index], stacked_once[index])


def test_a_stack_whose_members_were_saved_apart_goes_on_from_their_last_common_checkpoint(
    stack: PretrainConfig, stacked_once: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = folders = interrupted(stack, 110, monkeypatch)
    # As if the learner had been killed before it could save the first member.
    shutil.rmtree(first / "checkpoints" / "000000110")
    checkpoint.make_last(first / "checkpoints", "000000100")
    resume(*folders)
    for folder, expected in zip(folders, stacked_once, strict=True):
        assert_close(folder, expected)
        assert [row["updates"] for row in curves(folder)] == ["100", "200", "300"]


def test_runs_that_differ_in_more_than_their_seeds_do_not_learn_together(
    stack: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    for changes in ({"seeds": (0,)}, {"seeds": (1,), "discount": 0.9}):
        settings: dict[str, Any] = changes
        folders += interrupted(dataclasses.replace(stack, **settings), 50, monkeypatch)
    with pytest.raises(ConfigError, match="differ in discount; runs that learn together"):
        resume(*folders)


def test_runs_of_different_phases_are_not_resumed_together(
    stack: PretrainConfig, stacked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = interrupted(dataclasses.replace(stack, seeds=(7,)), 50, monkeypatch)
    Run.open(stacked[0]).write_config("finetune", {"env_steps": 10})
    Run.open(stacked[0]).write_meta({"status": "interrupted"})
    with pytest.raises(RunError, match="resume them apart"):
        resume(*offline, stacked[0])


@pytest.mark.parametrize("seeds", [(1, 1), (-1, 0)])
def test_seeds_that_make_no_sense_are_refused(
    stack: PretrainConfig, seeds: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"--seeds is .* but must be different numbers from 0"):
        pretrain(dataclasses.replace(stack, seeds=seeds))
