"""Refuses settings that make no sense, before anything is built."""

from __future__ import annotations

import dataclasses
import importlib.util
import typing
from typing import TYPE_CHECKING, Any

from iqlft.config.algorithms import Hyperparameters, registered
from iqlft.config.bounds import violated
from iqlft.config.errors import ConfigError
from iqlft.config.layers import config_fields
from iqlft.config.settings import FinetuneConfig, PretrainConfig, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable


def check(config: Any) -> None:  # noqa: ANN401
    """Refuses settings that make no sense, before anything is built.

    Args:
        config: a config dataclass, or one of hyperparameters.

    Raises:
        ConfigError: it names the flag, its value and what it must be.
    """
    if not dataclasses.is_dataclass(config):
        raise ConfigError(
            f"{config!r:.99} is no config; make one by iqlft.pretrain_config(TASK) or "
            "iqlft.finetune_config(RUN)."
        )
    for name, kind in typing.get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if must := violated(kind, value) or _breaks_rule(name, value):
            raise ConfigError(f"--{name.replace('_', '-')} is {value!r}, but must {must}.")
    if isinstance(config, Hyperparameters) and config.contradiction:
        raise ConfigError(config.contradiction)
    if isinstance(config, PretrainConfig | FinetuneConfig) and config.hyperparameters is not None:
        if not config.algorithm:
            raise ConfigError(
                f"{type(config.hyperparameters).__name__} are given, but no algorithm whose they "
                "are; name it, such as algorithm='iql'."
            )
        _require_own_hyperparameters(config.algorithm, config.hyperparameters)
        check(config.hyperparameters)
    if isinstance(config, FinetuneConfig | RunConfig):
        _require_workers(config)
        _require_one_worker_in_lockstep(config)
        _require_sensible_mixture(config)
        _require_second_environment_in_lockstep(config)
        _require_engine(config)


def require_effect(config: FinetuneConfig | RunConfig) -> None:
    """Refuses settings that would have no effect; called for new runs only, not on resuming.

    Raises:
        ConfigError: it names the flag, and the one that it needs.
    """
    if config.final_offline_ratio and not config.anneal_steps:
        raise ConfigError(
            "--final-offline-ratio is what --offline-ratio is annealed to over --anneal-steps "
            "environment steps; say how many."
        )
    if config.guide_until and not config.guide_steps:
        raise ConfigError(
            "--guide-until is the step by which the guide of --guide-steps is gone; say how long "
            "it acts."
        )


def _breaks_rule(name: str, value: Any) -> str:  # noqa: ANN401
    """The requirement in `_RULES` that a field's value violates; empty if there is none."""
    fits, must = _RULES.get(name, (bool, ""))
    return "" if value is None or fits(value) else must


def _require_own_hyperparameters(algorithm: str, given: Hyperparameters) -> None:
    # Compared by field names: a class in a script differs from the same class when imported.
    needed = config_fields(registered(algorithm).hyperparameters)
    if missing := [name for name in needed if not hasattr(given, name)]:
        raise ConfigError(
            f"The hyperparameters of {algorithm} are {', '.join(needed)}, but "
            f"{type(given).__name__} without {', '.join(missing)} is given; leave it out, or give "
            "its own."
        )


def _require_workers(config: FinetuneConfig | RunConfig) -> None:
    if not config.workers + config.remote_workers:
        raise ConfigError(
            "Fine-tuning needs at least one worker; say --workers 1, or with --remote-workers "
            "how many are started elsewhere."
        )


def _require_one_worker_in_lockstep(config: FinetuneConfig | RunConfig) -> None:
    num_workers = config.workers + config.remote_workers
    if config.lockstep and num_workers != 1:
        raise ConfigError(
            f"--lockstep works with exactly one worker, not {num_workers}; say --workers 1."
        )


def _require_sensible_mixture(config: FinetuneConfig | RunConfig) -> None:
    if config.anneal_steps and config.offline_ratio is None:
        raise ConfigError(
            "--anneal-steps anneals the dataset's share of a batch from --offline-ratio to "
            "--final-offline-ratio; say where it begins."
        )
    if config.warmup_steps >= config.env_steps:
        raise ConfigError(
            f"--warmup-steps is {config.warmup_steps}, but must be fewer than the "
            f"{config.env_steps} environment steps in all, for something to be learned."
        )


def _require_second_environment_in_lockstep(config: FinetuneConfig | RunConfig) -> None:
    if config.lockstep and config.eval_environment == "training":
        raise ConfigError(
            "--eval-environment training interrupts training episodes for evaluations, so that "
            "--lockstep could not repeat a run exactly; leave one of them out."
        )


def _require_engine(config: FinetuneConfig | RunConfig) -> None:
    if config.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise ConfigError("--engine ray needs Ray: pip install ray.")


def _is_plain_name(name: str) -> bool:
    return not name.startswith(".") and not set(name) & set("/\\")


def _are_seeds(values: tuple[int, ...]) -> bool:
    return len(set(values)) == len(values) and all(each >= 0 for each in values)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seeds": (_are_seeds, "be whole numbers from 0, each once"),
    "reference_scores": (lambda pair: pair[0] < pair[1], "be two returns, the lower first"),
    "dataset": (
        bool,
        "name at least one dataset; --task has one, in Python `iqlft.pretrain_config(TASK)`",
    ),
    "task": (_is_plain_name, "be the name of one folder"),
    "name": (_is_plain_name, "be the name of one folder"),
    "into": (_is_plain_name, "be the name of one folder"),
}
"""Rules by field: whether a value fits, and the requirement for the message."""
