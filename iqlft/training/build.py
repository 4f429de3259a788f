"""Builds algorithm and replay from a configuration and a dataset, and picks their device."""

from __future__ import annotations

import dataclasses
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from iqlft.algorithms.base import Spec, algorithm_class
from iqlft.config.settings import ConfigError, MachineConfig
from iqlft.datasets.loading import check_fits, load_dataset
from iqlft.datasets.time_limit import KEY, limit_episodes
from iqlft_workers.environment import Environment, EnvironmentSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iqlft.algorithms.base import Algorithm
    from iqlft.config.algorithms import Hyperparameters
    from iqlft.config.settings import Precision, TaskConfig
    from iqlft.datasets.offline_dataset import OfflineDataset

Training = TypeVar("Training", bound=MachineConfig)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Flushes denormal numbers to zero inside the block, or in the function that it decorates.

    Adam's moments of weights that hardly matter decay to denormals, which slow down a CPU. The
    setting belongs to the thread, and is restored afterwards.
    """
    # torch cannot be asked for the setting; half of the smallest normal number shows it.
    before = bool(torch.full((1,), torch.finfo(torch.float32).tiny).div_(2) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def set_threads(threads: int) -> None:
    """Sets how many threads torch computes with; 0: leaves it as it is."""
    torch.set_num_threads(threads or torch.get_num_threads())


@contextmanager
def own_threads(threads: int) -> Iterator[None]:
    """Applies `set_threads` inside the block, and restores the caller's number afterwards."""
    before = torch.get_num_threads()
    set_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA where it is available.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}); take "
            "--device cpu, or auto."
        ) from error
    return device


def hidden_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype in which hidden layers are computed."""
    return torch.bfloat16 if settled(precision, device) == "bf16" else torch.float32


def settled(precision: Precision, device: torch.device) -> Precision:
    """The precision with `auto` resolved: bf16 on a CPU that has it, else float32.

    On such a CPU it is faster, and no loss was seen (docs/performance.md); on a GPU neither has
    been measured.
    """
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cpu" and processor_has_bf16() else "float32"


def with_settled_precision(config: Training) -> Training:
    """A configuration with `auto` resolved, so that a run keeps its precision on any machine."""
    precision = settled(config.precision, pick_device(config.device))
    return dataclasses.replace(config, precision=precision)


def processor_has_bf16() -> bool:
    """Whether this processor has instructions for bf16; others compute in it too, but slowly."""
    return torch.cpu._is_avx512_bf16_supported()


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_task_dataset(config: TaskConfig, *, trust: bool = False) -> OfflineDataset:
    """The datasets that a task names, opened with the task's settings.

    Args:
        config: the task.
        trust: whether their environment's code may be run even if the task does not trust it.

    Raises:
        DatasetError: a dataset is missing, or cannot be read with these settings.
        EnvironmentMismatchError: its dimensions are not those of the environment.
    """
    # Whoever names an environment vouches for it.
    named = EnvironmentSpec(config.environment, trust=True) if config.environment else None
    limit = {KEY: config.max_episode_steps} if config.max_episode_steps else {}
    dataset = load_dataset(
        *config.dataset,
        goal=config.goal,
        after_success=config.after_success,
        environment=named,
        environment_kwargs={**config.environment_kwargs, **limit},
        trust=config.trust or trust,
        reward_scale=config.reward_scale,
        reward_shift=config.reward_shift,
        reference_scores=config.reference_scores,
        success_key=config.success_key,
        observation_keys=config.observation_keys,
        appended=config.appended,
    )
    if not dataset.environment.id:
        return dataset
    probe = Environment(dataset.environment)
    try:
        check_fits(dataset, probe)
        limit_episodes(dataset, probe.gym)
        own = probe.gym.spec.max_episode_steps if probe.gym.spec else None
        dataset.time_limit = dataset.environment.kwargs.get(KEY, own)
    finally:
        probe.close()
    return dataset


def require_environment(dataset: OfflineDataset, *, pretrained: bool = False) -> None:
    """Refuses a dataset without an environment in which to run episodes.

    Args:
        dataset: the dataset to learn from.
        pretrained: whether a run was pretrained on it, so that it is too late to name one.

    Raises:
        ConfigError: no environment is recorded or named.
    """
    if not dataset.environment.id:
        advice = (
            "pretrain again with --environment ID, or learn on from newly logged data (--append "
            "DATASET --into NAME)"
            if pretrained
            else "name one (--environment ID), or pretrain without evaluations (--eval-episodes 0)"
        )
        raise ConfigError(f"{dataset.id} records no environment, and none is named: {advice}.")


def build_algorithm(
    name: str,
    hyperparameters: Hyperparameters,
    dataset: OfflineDataset,
    seeds: Sequence[int],
    *,
    normalize_observations: bool = False,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    num_updates: int | None = None,
) -> Algorithm[Any]:
    """An algorithm with networks that fit a dataset."""
    mean = std = None
    if normalize_observations:
        mean = torch.from_numpy(dataset.statistics.mean)
        std = torch.from_numpy(dataset.statistics.std)
    layout = dataset.layout
    spec = Spec(layout.observation_dim, layout.action_dim, mean, std, num_updates)
    kind = hidden_dtype(precision, torch.device(device))
    build = algorithm_class(name)
    return build(spec, hyperparameters, seeds, device=device, hidden_dtype=kind)
