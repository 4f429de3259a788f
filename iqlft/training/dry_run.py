"""`--dry-run`: build everything, take real updates, and say what the run would need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iqlft.analysis.quantities import duration
from iqlft.config.validation import check
from iqlft.training.build import load_task_dataset
from iqlft.training.disk import finetuning_need, pretraining_need
from iqlft.training.pacing import updates_for
from iqlft.training.pretrain import build

if TYPE_CHECKING:
    from iqlft.config.settings import FinetuneConfig, PretrainConfig
    from iqlft.datasets.loading import OfflineDataset
    from iqlft.training.stack import Stack

TIMED_UPDATES = 50
WARM_UP_UPDATES = 10


def dry_run_pretraining(
    config: PretrainConfig, online: FinetuneConfig | None = None
) -> list[tuple[str, str]]:
    """What `iqlft pretrain` would do, as names and texts; leaves nothing behind.

    Args:
        config: of pretraining.
        online: of the fine-tuning that follows, which counts on the disk alone.
    """
    check(config)
    dataset = load_task_dataset(config)
    stack = build(config, dataset, config.seeds or [config.seed])
    rate = _updates_per_second(stack)
    need = finetuning_need(online, stack) if online else pretraining_need(config, stack)
    return [
        *_sizes(config.task, stack, dataset),
        ("disk", need.describe()),
        ("updates", f"{config.num_updates:,}, about {rate:,.0f} per second"),
        ("predicted time", f"{duration(config.num_updates / rate)} and the evaluations"),
    ]


def dry_run_finetuning(
    config: FinetuneConfig, pretrained: PretrainConfig, stack: Stack, dataset: OfflineDataset
) -> list[tuple[str, str]]:
    """What `iqlft finetune` would do, as names and texts; leaves nothing behind."""
    rate = _updates_per_second(stack)
    updates = updates_for(config.env_steps, config.utd_ratio)
    return [
        *_sizes(pretrained.task, stack, dataset),
        ("disk", finetuning_need(config, stack).describe()),
        ("environment steps", f"{config.env_steps:,} by {config.workers} workers"),
        ("updates", f"{updates:,}, about {rate:,.0f} per second"),
        ("predicted time", f"at least {duration(updates / rate)}, if workers keep up"),
    ]


def _sizes(task: str, stack: Stack, dataset: OfflineDataset) -> list[tuple[str, str]]:
    algorithm, replay = stack.algorithm, stack.replay
    state = algorithm.state()
    numbers = sum(each.numel() for key, each in state.items() if not key.startswith("adam"))
    return [
        ("task", task),
        ("dataset", f"{dataset.id}: {dataset.num_transitions:,} transitions"),
        ("hash of its rows", dataset.statistics.hash),
        ("environment", dataset.environment.id),
        (
            "dimensions",
            f"{dataset.layout.observation_dim} observation, {dataset.layout.action_dim} action",
        ),
        ("device", str(stack.member(0).device)),
        ("seeds", f"{algorithm.num_members}"),
        ("parameters", f"{numbers:,} for each seed, targets included"),
        ("replay", f"{replay.num_bytes / 2**20:,.0f} MiB"),
    ]


def _updates_per_second(stack: Stack) -> float:
    for _ in range(WARM_UP_UPDATES):
        stack.update()
    began = time.perf_counter()
    for _ in range(TIMED_UPDATES):
        stack.update()
    stack.figures(0)  # Waits for the device.
    return TIMED_UPDATES / (time.perf_counter() - began)
