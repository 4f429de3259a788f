"""Several seeds in one process: each has a run of its own, as if it had been trained alone."""

import dataclasses
import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Batch, Metrics
from iqlft.algorithms.iql import IQL
from iqlft.config.layers import with_settings
from iqlft.config.settings import ConfigError, FinetuneConfig, PretrainConfig
from iqlft.gateway.journal import Journal
from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.folder import JOURNAL, Run
from iqlft.training.finetune import dry_run, finetune
from iqlft.training.interruption import Interrupted
from iqlft.training.pretrain import pretrain
from iqlft.training.progress import Status
from iqlft.training.resume import resume
from iqlft.training.session import TrainingDivergedError
from run_fixtures import curves, stopped_at

SEEDS = (0, 1, 2)


@pytest.fixture(scope="session")
def pretraining(pretraining: PretrainConfig) -> PretrainConfig:
    """Settings of a pretraining of three seeds; a moment is enough, for there are many."""
    return dataclasses.replace(
        pretraining, seeds=SEEDS, stack="always", num_updates=200, eval_episodes=1
    )


@pytest.fixture
def stack(pretraining: PretrainConfig, corner: str, tmp_path: Path) -> PretrainConfig:
    """The same, in a folder of its own."""
    assert corner
    return dataclasses.replace(pretraining, runs=tmp_path / "runs")


@pytest.fixture
def unevaluated(stack: PretrainConfig) -> PretrainConfig:
    """The same without evaluations, and so without workers, which are most of its time."""
    return dataclasses.replace(stack, eval_episodes=0)


@pytest.fixture
def lockstep(lockstep: FinetuneConfig) -> FinetuneConfig:
    """Settings of a fine-tuning of several runs in one process."""
    return dataclasses.replace(lockstep, stack="always", eval_episodes=1)


class Listening:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tasks: set[str] = set()

    def status(self, status: Status) -> None:
        """Remembers which run spoke."""
        self.tasks.add(status.task)

    def event(self, sentence: str) -> None:
        """Remembers an event."""
        self.events.append(sentence)


@pytest.fixture(scope="module")
def said() -> Listening:
    """What was said while three runs were pretrained together."""
    return Listening()


@pytest.fixture(scope="module")
def stacked_once(
    pretraining: PretrainConfig,
    corner_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    said: Listening,
) -> list[Path]:
    """Those runs; to be read, not changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(corner_root))
        runs = tmp_path_factory.mktemp("stacked")
        return pretrain(dataclasses.replace(pretraining, runs=runs), said)


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


def interrupted(config: PretrainConfig, updates: int) -> Sequence[Path]:
    """Runs that were asked to stop after so many updates."""
    with (
        stopped_at(updates),
        pytest.raises(Interrupted, match="continue with `iqlft resume") as caught,
    ):
        pretrain(config)
    return caught.value.folders


def test_every_seed_has_a_run_of_its_own_as_if_it_were_trained_alone(
    stacked_once: list[Path], stack: PretrainConfig
) -> None:
    assert [folder.name for folder in stacked_once] == ["iql-s0", "iql-s1", "iql-s2"]
    (alone,) = pretrain(dataclasses.replace(stack, seeds=(), seed=2))
    assert_close(stacked_once[2], alone)
    for folder in stacked_once:
        assert [row["updates"] for row in curves(folder)] == ["100", "200"]
        run = Run.open(folder)
        assert run.meta["status"] == "finished"
        settings = run.config("pretrain") or {}
        assert (settings["seed"], settings["seeds"]) == (run.meta["seed"], [])
    actors = [tensors(folder)["algorithm.actor.weights.0"] for folder in stacked_once]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(actors, 2))


def test_an_interrupted_stack_is_resumed_together_and_a_member_alone(
    unevaluated: PretrainConfig, stacked_once: list[Path]
) -> None:
    folders = interrupted(unevaluated, 110)
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
    config = dataclasses.replace(lockstep, env_steps=120, eval_every=120)
    finetune(dataclasses.replace(config, run=tuple(stacked)))
    finetune(dataclasses.replace(config, run=(alone,)))
    rows = []
    for folder in [*stacked, alone]:
        assert [row["env_steps"] for row in curves(folder)[2:]] == ["0", "120"]
        journal = Journal(folder / JOURNAL)
        rewards = [entry.batch.rewards for entry in journal.entries()]
        rows.append(np.concatenate([entry.batch.observations for entry in journal.entries()]))
        journal.close()
        assert sum(map(len, rewards)) == 120
    # In lockstep the learner's arithmetic decides every step of the environment.
    np.testing.assert_allclose(rows[1], rows[3], rtol=1e-3, atol=1e-3)
    assert not np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_members_are_copied_under_one_name_and_their_seeds(
    stacked: list[Path], lockstep: FinetuneConfig
) -> None:
    config = dataclasses.replace(lockstep, run=tuple(stacked), into="half", env_steps=4)
    copies = finetune(dataclasses.replace(config, precision="auto"))
    assert [folder.name for folder in copies] == [f"half-s{seed}" for seed in SEEDS]
    assert {read_run(folder).variant for folder in copies} == {"half"}
    finetuning = Run.open(copies[0]).config("finetune") or {}
    assert finetuning["precision"] in {"bf16", "float32"}  # auto is settled once.
    assert [len(curves(folder)) for folder in stacked] == [2] * 3
    with pytest.raises(RunError, match=r"half-s0.*another --into"):
        finetune(config)


def test_runs_of_one_seed_are_not_copied_to_one_folder(
    stacked: list[Path], lockstep: FinetuneConfig
) -> None:
    same = stacked[0].with_name("same")
    shutil.copytree(stacked[0], same)
    with pytest.raises(RunError, match="have the same seed and would be copied"):
        finetune(dataclasses.replace(lockstep, run=(stacked[0], same), into="half"))


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


def poison(members: Mapping[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoils the values of members after so many updates."""
    original = IQL.update

    def poisoned(self: IQL, batch: Batch) -> Metrics:
        for member, updates in members.items():
            if self.updates == updates:
                self.value.mlp.weights[0][member].fill_(np.nan)
                self.value.changed()
        return original(self, batch)

    monkeypatch.setattr(IQL, "update", poisoned)


def states(folders: Sequence[Path]) -> list[tuple[str, int]]:
    """Status of each run, and updates of its last checkpoint."""
    return [
        (Run.open(each).meta["status"], checkpoint.load(each / "checkpoints").state["updates"])
        for each in folders
    ]


def test_a_member_that_fails_leaves_the_others_at_work(
    unevaluated: PretrainConfig, stacked_once: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison({1: 120}, monkeypatch)
    with pytest.raises(TrainingDivergedError, match="iql-s1"):
        pretrain(unevaluated)
    folders = [unevaluated.runs / unevaluated.task / f"iql-s{seed}" for seed in SEEDS]
    assert states(folders) == [("finished", 200), ("failed", 120), ("finished", 200)]
    assert "The run has failed" in (folders[1] / "logs" / "learner.log").read_text()
    for index in (0, 2):
        assert_close(folders[index], stacked_once[index])


def test_where_all_members_fail_each_says_why(
    unevaluated: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison({0: 60, 1: 20, 2: 80}, monkeypatch)
    said = Listening()
    with pytest.raises(TrainingDivergedError, match="iql-s1"):
        pretrain(unevaluated, said)
    folders = [unevaluated.runs / unevaluated.task / f"iql-s{seed}" for seed in SEEDS]
    assert states(folders) == [("failed", 60), ("failed", 20), ("failed", 80)]
    failures = [each.partition(".")[0] for each in said.events if "failed" in each]
    assert failures == [
        "iql-s1: It has failed, the others go on",
        "iql-s0: It has failed, the others go on",
        "iql-s2: It has failed",
    ]


def test_an_interrupt_after_a_failure_tells_how_to_resume_the_others(
    unevaluated: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        poison({1: 20}, patch)
        with stopped_at(71), pytest.raises(Interrupted) as caught:
            pretrain(dataclasses.replace(unevaluated, num_updates=100))
    assert [folder.name for folder in caught.value.folders] == ["iql-s0", "iql-s2"]
    folders = [unevaluated.runs / unevaluated.task / f"iql-s{seed}" for seed in SEEDS]
    with pytest.raises(CheckpointError, match="iql-s1 is 51 updates behind the others"):
        resume(*folders)
    resume(folders[0], folders[2])
    assert states(folders) == [("finished", 100), ("failed", 20), ("finished", 100)]


def test_a_member_that_fails_online_leaves_the_others_at_work(
    stacked: list[Path], lockstep: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison({0: 240}, monkeypatch)
    config = dataclasses.replace(lockstep, env_steps=160, eval_every=160)
    with pytest.raises(TrainingDivergedError, match="iql-s0"):
        finetune(dataclasses.replace(config, run=tuple(stacked[:2])))
    (failed, before), finished = states(stacked[:2])
    assert (failed, finished) == ("failed", ("finished", 280))
    assert 200 <= before <= 240


def test_what_is_said_tells_of_which_run(said: Listening, stacked_once: list[Path]) -> None:
    assert stacked_once
    evaluations = sorted(each.partition(" in")[0] for each in said.events if "Evaluated" in each)
    assert len(evaluations) == 6
    assert all(each.startswith(f"iql-s{index // 2}: ") for index, each in enumerate(evaluations))
    assert said.tasks <= {f"antmaze-corner iql-s{seed}" for seed in SEEDS}


@pytest.mark.slow
def test_a_stack_whose_members_were_saved_apart_goes_on_from_their_last_common_checkpoint(
    stack: PretrainConfig, stacked_once: list[Path]
) -> None:
    first, *_ = folders = interrupted(stack, 110)
    # As if the learner had been killed before it could save the first member.
    shutil.rmtree(first / "checkpoints" / "000000110")
    checkpoint.make_last(first / "checkpoints", "000000100")
    with stopped_at(105), pytest.raises(Interrupted):
        resume(*folders)
    # Nothing is left of what came after the common checkpoint.
    assert states(folders) == [("interrupted", 105)] * 3
    resume(*folders)
    for folder, expected in zip(folders, stacked_once, strict=True):
        assert_close(folder, expected)
        assert [row["updates"] for row in curves(folder)] == ["100", "200"]


def test_runs_that_differ_in_more_than_their_seeds_do_not_learn_together(
    unevaluated: PretrainConfig,
) -> None:
    folders: list[Path] = []
    for changes in ({"seeds": (0,)}, {"seeds": (1,), "discount": 0.9}):
        settings: dict[str, Any] = changes
        folders += interrupted(with_settings(unevaluated, **settings), 50)
    with pytest.raises(ConfigError, match="differ in discount; runs that learn together"):
        resume(*folders)


def test_runs_that_are_fine_tuned_differently_are_not_resumed_together(
    stacked: list[Path], lockstep: FinetuneConfig
) -> None:
    for folder, ratio in zip(stacked[:2], (None, 0.5), strict=True):
        with stopped_at(231), pytest.raises(Interrupted):
            finetune(dataclasses.replace(lockstep, run=(folder,), offline_ratio=ratio))
    with pytest.raises(ConfigError, match="differ in offline_ratio; runs that learn together"):
        resume(*stacked[:2])


def test_a_dry_run_sizes_all_that_learn_together(
    stacked: list[Path], lockstep: FinetuneConfig
) -> None:
    rows = dict(dry_run(dataclasses.replace(lockstep, run=tuple(stacked))))
    assert rows["seeds"] == "3"


def test_runs_of_different_phases_are_not_resumed_together(
    unevaluated: PretrainConfig, stacked: list[Path]
) -> None:
    offline = interrupted(dataclasses.replace(unevaluated, seeds=(7,)), 50)
    Run.open(stacked[0]).write_config("finetune", {"env_steps": 10})
    Run.open(stacked[0]).write_meta({"status": "interrupted"})
    with pytest.raises(RunError, match="resume them separately"):
        resume(*offline, stacked[0])


@pytest.mark.parametrize("seeds", [(1, 1), (-1, 0)])
def test_seeds_that_make_no_sense_are_refused(
    stack: PretrainConfig, seeds: tuple[int, ...]
) -> None:
    with pytest.raises(
        ConfigError, match=r"--seeds is .* but must be whole numbers from 0, each once"
    ):
        pretrain(dataclasses.replace(stack, seeds=seeds))


def test_resuming_needs_runs_and_each_once(stacked: list[Path]) -> None:
    with pytest.raises(RunError, match="Name the runs to resume"):
        resume()
    with pytest.raises(RunError, match="A run is named twice"):
        resume(stacked[0], stacked[0])
