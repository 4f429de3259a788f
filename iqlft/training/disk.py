"""What a run needs on disk: its journal and its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import safetensors.torch

from iqlft.analysis.quantities import mebibytes
from iqlft.gateway.journal import bytes_per_step
from iqlft.training.pacing import updates_for
from iqlft_workers.loop import full_batch

if TYPE_CHECKING:
    from iqlft.config.settings import FinetuneConfig, OutputConfig, PretrainConfig
    from iqlft.training.stack import Stack
    from iqlft_workers.transition import RowLayout


class DiskNeed(NamedTuple):
    """Disk space that finished runs take; metrics and logs are small beside it.

    Attributes:
        runs: number of runs.
        env_steps: environment steps of each run.
        step_bytes: bytes per step in the journal, at most.
        checkpoints: checkpoints of each run.
        checkpoint_bytes: bytes of each checkpoint.
    """

    runs: int
    env_steps: int
    step_bytes: float
    checkpoints: int
    checkpoint_bytes: int

    @property
    def total(self) -> float:
        """Bytes of all runs."""
        journal = self.env_steps * self.step_bytes
        return self.runs * (journal + self.checkpoints * self.checkpoint_bytes)

    def describe(self) -> str:
        """As a text."""
        each = f"{self.checkpoints} checkpoints of {mebibytes(self.checkpoint_bytes)}"
        if self.env_steps:
            each = (
                f"{self.env_steps:,} steps of {self.step_bytes:,.0f} bytes in the journal, {each}"
            )
        return f"about {mebibytes(self.total)}: {each}{' for each seed' if self.runs > 1 else ''}"


def pretraining_need(config: PretrainConfig, stack: Stack, runs: int = 1) -> DiskNeed:
    """Need of pretraining: as many of its checkpoints, first and last included, as stay."""
    written = 2 + config.num_updates // config.checkpoint_every
    checkpoints = min(config.keep_checkpoints, written) + _kept(config, config.num_updates)
    return DiskNeed(runs, 0, 0.0, checkpoints, _checkpoint_bytes(stack))


def finetuning_need(config: FinetuneConfig, stack: Stack, runs: int = 1) -> DiskNeed:
    """Need of fine-tuning, with the checkpoint at the end of pretraining."""
    staying = _kept(config, updates_for(config.env_steps, config.utd_ratio, config.warmup_steps))
    return DiskNeed(
        runs,
        config.env_steps,
        bytes_per_step(stack.replay.layout, _batch(config, stack.replay.layout)),
        1 + config.keep_checkpoints + staying,
        _checkpoint_bytes(stack),
    )


def _kept(config: OutputConfig, updates: int) -> int:
    """Number of checkpoints during `updates` updates that stay for good."""
    return updates // config.keep_every if config.keep_every else 0


def _batch(config: FinetuneConfig, layout: RowLayout) -> int:
    """Least number of transitions in a batch: a worker sends at once what its credit allows."""
    if config.lockstep:
        return 1
    return min(full_batch(layout), max(1, int(1 / config.utd_ratio)))


def _checkpoint_bytes(stack: Stack) -> int:
    return len(safetensors.torch.save(stack.member(0).state()))
