"""Copies of a run with another configuration of pretraining than the run itself."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from iqlft.config.layers import to_dict
from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import Checkpoint
from iqlft.runs.recorded import plain

if TYPE_CHECKING:
    from iqlft.config.settings import PretrainConfig
    from iqlft.runs.folder import Run


def pretrained_as(made: Run, learner: PretrainConfig, saved: Checkpoint, *, keep: bool) -> None:
    """Turns a fresh copy into a run that another configuration has pretrained up to a checkpoint.

    Args:
        made: the copy, which nobody has seen yet.
        learner: the configuration of its pretraining.
        saved: what becomes its only checkpoint.
        keep: whether pretraining ends at this checkpoint, which then stays for good.
    """
    made.write_configuration({"pretrain": to_dict(learner)})
    folder = made.folder / "checkpoints"
    for name in checkpoint.names(folder):
        shutil.rmtree(folder / name)
    state = {**saved.state, "config": plain(made.configuration())}
    checkpoint.save(folder, state["updates"], Checkpoint(saved.tensors, state), keep=keep)
