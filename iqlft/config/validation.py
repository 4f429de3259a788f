"""Refuses settings that make no sense, before anything is built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from iqlft.config.errors import ConfigError
from iqlft.config.settings import (
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
    TaskConfig,
    config_fields,
    load_task,
    override,
    task_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def check(config: Any) -> None:  # noqa: ANN401
    """Refuses numbers that make no sense, before anything is built.

    Raises:
        ConfigError: with the flag, its value and what it must be.
    """
    fields = config_fields(type(config))
    if isinstance(config, PretrainConfig):
        check(config.hyperparameters)

    def refuse(names: Iterable[str], fits: Callable[[Any], bool], must: str) -> None:
        for name in names:
            value = getattr(config, name) if name in fields else None
            if value is not None and not fits(value):
                raise ConfigError(f"{_flag(name)} is {value!r}, but must {must}.")

    refuse(_FROM_ONE, lambda value: value >= 1, "be at least 1")
    refuse(_FROM_ZERO, lambda value: value >= 0, "be at least 0")
    refuse(_SHARES, lambda value: 0 <= value <= 1, "lie in [0, 1]")
    refuse(("expectile",), lambda value: 0 < value <= 1, "lie in (0, 1]")
    refuse(
        ("seeds",),
        lambda value: len(set(value)) == len(value) and all(each >= 0 for each in value),
        "be different numbers from 0",
    )
    refuse(("dropout",), lambda value: 0 <= value < 1, "lie in [0, 1)")
    refuse(_RATES, lambda value: 1e-6 <= value < math.inf, "be a number from 1e-6")
    refuse(_REALS, math.isfinite, "be finite")
    refuse(
        ("reward_scale",),
        lambda value: value == "return_range" or math.isfinite(value),
        "be finite, or return_range",
    )
    refuse(
        ("reference_scores",), lambda value: value[0] < value[1], "be two returns, the lower first"
    )
    refuse(("dataset",), bool, "name at least one dataset")
    refuse(("name", "into"), _is_plain_name, "be the name of one folder")
    if isinstance(config, TaskConfig) and config.task in task_names():
        usual = override(TaskConfig(), load_task(config.task), config.task).dataset
        if config.dataset == TaskConfig.dataset != usual:
            raise ConfigError(
                f"The task {config.task} has the dataset {' '.join(usual)}, but the settings name "
                f"{' '.join(config.dataset)}: load them with --task, or `override` and `load_task`."
            )
    if isinstance(config, FinetuneConfig | RunConfig) and config.lockstep:
        num_workers = config.workers + config.remote_workers
        if num_workers != 1:
            raise ConfigError(
                f"--lockstep is for one worker, but there are to be {num_workers}; say --workers 1."
            )


_FROM_ONE = (
    "num_updates",
    "env_steps",
    "workers",
    "batch_size",
    "hidden_size",
    "hidden_layers",
    "eval_every",
    "eval_episodes",
    "log_every",
    "checkpoint_every",
    "publish_every",
)
_FROM_ZERO = ("remote_workers", "slack", "threads", "seed", "port")
_SHARES = ("target_update_rate", "discount", "offline_ratio")
_RATES = ("utd_ratio", "learning_rate")
_REALS = ("inverse_temperature", "reward_shift")


def _is_plain_name(name: str) -> bool:
    return not name.startswith(".") and not set(name) & set("/\\")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
