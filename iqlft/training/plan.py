"""What one run of a stack is to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from iqlft.config.settings import FinetuneConfig, PretrainConfig

if TYPE_CHECKING:
    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.runs.folder import Run

Settings = TypeVar("Settings", PretrainConfig, FinetuneConfig)


@dataclass(frozen=True)
class RunPlan(Generic[Settings]):
    """Where a run is written, how it proceeds, and from which checkpoint it goes on.

    Attributes:
        run: its folder.
        learned: what it learns, and with which networks.
        config: how this phase proceeds.
        saved: the checkpoint from which it goes on; None where it begins.
    """

    run: Run
    learned: PretrainConfig
    config: Settings
    saved: Checkpoint | None = None
