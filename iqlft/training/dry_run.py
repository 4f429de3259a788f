"""`--dry-run`: build everything, take real updates, and say what the run would need."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from iqlft.analysis.quantities import duration
from iqlft.config.validation import check
from iqlft.nn.adam import STATE_PREFIX
from iqlft.training.build import require_environment
from iqlft.training.disk import finetuning_need, pretraining_need
from iqlft.training.learner import build_learner, require_sendable
from iqlft.training.pacing import updates_for
from iqlft.training.pretrain import load_for_pretraining
from iqlft.training.seeds import at_once, stacked

if TYPE_CHECKING:
    from iqlft.config.settings import FinetuneConfig, MachineConfig, PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.training.stack import Stack

TIMED_UPDATES = 50
WARM_UP_UPDATES = 10


def dry_run_pretraining(
    config: PretrainConfig, online: FinetuneConfig | None = None
) -> list[tuple[str, str]]:
    """What `iqlft pretrain` would do, as pairs of name and text; leaves nothing behind.

    Args:
        config: settings of pretraining.
        online: settings of the fine-tuning that follows, of which only its disk space counts.
    """
    check(config)
    dataset = load_for_pretraining(config)
    if online:
        require_environment(dataset)
    seeds = config.seeds or (config.seed,)
    stack = build_learner(config, dataset, seeds if stacked(config, len(seeds)) else seeds[:1])
    require_sendable(stack.algorithm.actor_weights())
    rate = _updates_per_second(stack)
    seconds = config.num_updates / rate * _turns(config, len(seeds))
    need = (
        finetuning_need(online, stack, len(seeds))
        if online
        else pretraining_need(config, stack, len(seeds))
    )
    return [
        *_sizes(config, config.task, stack, dataset, len(seeds)),
        ("disk", need.describe()),
        ("updates", f"{config.num_updates:,}, about {rate:,.0f} per second"),
        ("predicted time", f"{duration(seconds)} and the evaluations"),
    ]


def dry_run_finetuning(
    config: FinetuneConfig, task: str, stack: Stack, dataset: OfflineDataset, runs: int
) -> list[tuple[str, str]]:
    """What `iqlft finetune` would do with `runs` runs, as pairs of name and text."""
    rate = _updates_per_second(stack)
    updates = updates_for(config.env_steps, config.utd_ratio, config.warmup_steps)
    seconds = updates / rate * _turns(config, runs)
    return [
        *_sizes(config, task, stack, dataset, runs),
        ("disk", finetuning_need(config, stack, runs).describe()),
        ("environment steps", f"{config.env_steps:,} by {config.workers} workers"),
        ("updates", f"{updates:,}, about {rate:,.0f} per second"),
        ("predicted time", f"at least {duration(seconds)}, if workers keep up"),
    ]


def _turns(config: MachineConfig, runs: int) -> int:
    """Number of rounds of parallel runs until all are done."""
    return math.ceil(runs / at_once(config, runs))


def _sizes(
    config: PretrainConfig | FinetuneConfig,
    task: str,
    stack: Stack,
    dataset: OfflineDataset,
    runs: int,
) -> list[tuple[str, str]]:
    apart = "" if stacked(config, runs) else f", {at_once(config, runs)} at once, a process each"
    threads = torch.get_num_threads()
    device = str(stack.member(0).device)
    if device == "cpu":
        device += f", {threads} thread{'s' * (threads > 1)} a process"
    algorithm, replay = stack.algorithm, stack.replay
    state = algorithm.state()
    numbers = sum(each.numel() for key, each in state.items() if not key.startswith(STATE_PREFIX))
    return [
        ("task", task),
        ("dataset", f"{dataset.id}: {dataset.num_transitions:,} transitions"),
        ("hash of its rows", dataset.statistics.hash),
        ("environment", dataset.environment.id or "none recorded"),
        (
            "dimensions",
            f"{dataset.layout.observation_dim} observation, {dataset.layout.action_dim} action",
        ),
        ("device", device),
        ("seeds", f"{runs}{apart}"),
        ("parameters", f"{numbers:,} for each seed, targets included"),
        ("replay", f"{replay.num_bytes / 2**20:,.0f} MiB" + " for each process" * bool(apart)),
    ]


def _updates_per_second(stack: Stack) -> float:
    for _ in range(WARM_UP_UPDATES):
        stack.update()
    began = time.perf_counter()
    for _ in range(TIMED_UPDATES):
        stack.update()
    stack.figures(0)  # Waits for the device.
    return TIMED_UPDATES / (time.perf_counter() - began)
