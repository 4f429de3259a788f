"""Copies of a run that were pretrained otherwise than the run itself."""

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
    """Makes of a fresh copy one that another configuration has pretrained, so far as it came.

    Args:
        made: that nobody has seen yet.
        learner: its pretraining.
        saved: what becomes its only checkpoint.
        keep: whether that is its end.
    """
    made.write_configuration({"pretrain": to_dict(learner)})
    folder = made.folder / "checkpoints"
    for name in checkpoint.names(folder):
        shutil.rmtree(folder / name)
    state = {**saved.state, "config": plain(made.configuration())}
    checkpoint.save(folder, state["updates"], Checkpoint(saved.tensors, state), keep=keep)
