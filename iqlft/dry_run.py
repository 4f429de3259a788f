"""`--dry-run`: build everything, take real updates, and say what the run would need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iqlft.learning import load_task_dataset
from iqlft.pretrain import build
from iqlft.reporting import Silent
from iqlft.validation import check

if TYPE_CHECKING:
    from iqlft.config import FinetuneConfig, PretrainConfig
    from iqlft.session import SessionParts

TIMED_UPDATES = 50
WARM_UP_UPDATES = 10


def dry_run_pretraining(config: PretrainConfig) -> list[tuple[str, str]]:
    """What `iqlft pretrain` would do, as names and texts; leaves nothing behind."""
    check(config)
    parts = build(config, load_task_dataset(config), Silent())
    rate = _updates_per_second(parts, config.batch_size)
    return [
        *_sizes(parts),
        ("updates", f"{config.num_updates:,}, about {rate:,.0f} per second"),
        ("predicted time", f"{_duration(config.num_updates / rate)} and the evaluations"),
    ]


def dry_run_finetuning(
    config: FinetuneConfig, pretrained: PretrainConfig, parts: SessionParts
) -> list[tuple[str, str]]:
    """What `iqlft finetune` would do, as names and texts; leaves nothing behind."""
    rate = _updates_per_second(parts, pretrained.batch_size)
    updates = config.env_steps * config.utd_ratio
    return [
        *_sizes(parts),
        ("environment steps", f"{config.env_steps:,} by {config.workers} workers"),
        ("updates", f"{updates:,.0f}, about {rate:,.0f} per second"),
        ("predicted time", f"at least {_duration(updates / rate)}, if workers keep up"),
    ]


def _sizes(parts: SessionParts) -> list[tuple[str, str]]:
    dataset, algorithm, replay = parts["dataset"], parts["algorithm"], parts["replay"]
    state = algorithm.state()
    numbers = sum(each.numel() for key, each in state.items() if not key.startswith("adam"))
    return [
        ("task", parts["task"]),
        ("dataset", f"{dataset.id}: {dataset.num_transitions:,} transitions"),
        ("hash of its rows", dataset.statistics.hash),
        ("environment", dataset.environment.id),
        (
            "dimensions",
            f"{dataset.layout.observation_dim} observation, {dataset.layout.action_dim} action",
        ),
        ("device", str(algorithm.observation_mean.device)),
        ("parameters", f"{numbers:,}, targets included"),
        ("replay", f"{replay.num_bytes / 2**20:,.0f} MiB"),
    ]


def _updates_per_second(parts: SessionParts, batch_size: int) -> float:
    algorithm, replay = parts["algorithm"], parts["replay"]
    for _ in range(WARM_UP_UPDATES):
        algorithm.update(replay.sample(batch_size))
    began = time.perf_counter()
    for _ in range(TIMED_UPDATES):
        result = algorithm.update(replay.sample(batch_size))
    result.value_loss.sum().item()  # Waits for the device.
    return TIMED_UPDATES / (time.perf_counter() - began)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
