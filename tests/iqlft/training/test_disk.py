"""What the dry run says of the disk is what a run takes."""

import dataclasses
from pathlib import Path

import pytest

from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.gateway.journal import bytes_per_step
from iqlft.runs.checkpoint import names
from iqlft.runs.folder import JOURNAL
from iqlft.training.build import load_task_dataset
from iqlft.training.disk import finetuning_need, pretraining_need
from iqlft.training.learner import build_learner
from iqlft.training.pretrain import pretrain
from iqlft.training.stack import Stack


@pytest.fixture
def stack(corner: str, pretraining: PretrainConfig) -> Stack:
    assert corner
    return build_learner(pretraining, load_task_dataset(pretraining), [0])


def size(*paths: Path) -> int:
    return sum(
        each.stat().st_size for path in paths for each in [path, *path.rglob("*")] if each.is_file()
    )


def test_a_pretraining_takes_what_was_said(
    pretrained: Path, pretraining: PretrainConfig, stack: Stack
) -> None:
    need = pretraining_need(pretraining, stack)
    assert need.checkpoints == len(names(pretrained / "checkpoints")) == 2
    assert need.total == pytest.approx(size(pretrained), rel=0.2)


def test_a_fine_tuning_takes_what_was_said(
    finetuned: Path, lockstep: FinetuneConfig, stack: Stack
) -> None:
    need = finetuning_need(lockstep, stack)
    assert need.checkpoints == len(names(finetuned / "checkpoints")) == 3
    assert need.env_steps * need.step_bytes == pytest.approx(size(finetuned / JOURNAL), rel=0.03)
    assert need.total == pytest.approx(size(finetuned), rel=0.2)


def test_longer_batches_take_less_a_step_and_seeds_add_up(
    lockstep: FinetuneConfig, stack: Stack
) -> None:
    slow = dataclasses.replace(lockstep, lockstep=False, utd_ratio=0.001)
    assert finetuning_need(slow, stack).step_bytes == bytes_per_step(stack.replay.layout, 128)
    assert bytes_per_step(stack.replay.layout, 128) < 280 < bytes_per_step(stack.replay.layout, 2)
    need = finetuning_need(slow, stack)
    assert need._replace(runs=3).total == 3 * need.total
    assert "for each seed" in need._replace(runs=3).describe()


def test_as_many_checkpoints_stay_as_are_wanted(
    corner: str, pretraining: PretrainConfig, tmp_path: Path
) -> None:
    assert corner
    config = dataclasses.replace(
        pretraining,
        runs=tmp_path,
        num_updates=50,
        eval_every=50,
        eval_episodes=1,
        checkpoint_every=10,
    )
    for wanted, found in ((1, 1), (4, 4), (20, 7)):
        config = dataclasses.replace(config, keep_checkpoints=wanted, name=f"keep-{wanted}")
        (folder,) = pretrain(config)
        assert len(names(folder / "checkpoints")) == found
        stack = build_learner(config, load_task_dataset(config), [0])
        assert pretraining_need(config, stack).checkpoints == found
