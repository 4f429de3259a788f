"""Which runs learn in one stack or in parallel processes, and from which checkpoints they go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from iqlft.config.algorithms import short_name
from iqlft.config.bounds import LAST_PORT
from iqlft.config.layers import config_fields, override, to_dict
from iqlft.config.settings import ConfigError, PretrainConfig, TaskConfig
from iqlft.config.validation import check
from iqlft.runs import checkpoint
from iqlft.runs.best import cut_best
from iqlft.runs.folder import pretrain_config
from iqlft.training import loggers
from iqlft.training.build import pick_device, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from iqlft.config.settings import FinetuneConfig, MachineConfig
    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.runs.folder import Run

    Config = TypeVar("Config", PretrainConfig, FinetuneConfig)

_OF_ONE_RUN = {
    "seed", "seeds", "name", "runs", "workers", "port", "run", "into", "tensorboard", "loggers",
}  # fmt: skip
"""Settings in which the runs of a stack may differ."""


def member_configs(config: PretrainConfig) -> list[PretrainConfig]:
    """The configuration of each seed, as if it were trained alone."""
    if not config.seeds:
        return [config]
    names = [f"{config.name}-s{seed}" if config.name else "" for seed in config.seeds]
    parts = shares(config, len(names))
    return [
        dataclasses.replace(part, seed=seed, seeds=(), name=name)
        for part, seed, name in zip(parts, config.seeds, names, strict=True)
    ]


def run_folder(config: PretrainConfig) -> Path:
    """The folder of the run of one seed."""
    algorithm = config.hyperparameters.known_as or config.algorithm
    return config.runs / config.task / (config.name or f"{short_name(algorithm)}-s{config.seed}")


def copy_folder(run: Run, config: FinetuneConfig) -> Path:
    """The folder in which a run is fine-tuned: its own, or its copy's."""
    several = f"-s{run.entry('seed')}" if len(config.run) > 1 else ""
    return run.folder.with_name(config.into + several) if config.into else run.folder


def shares(config: Config, members: int) -> list[Config]:
    """A configuration for each run, with its part of the workers and ports."""
    machine = {"workers": config.workers, "port": config.port}
    together = at_once(config, members)
    return [
        dataclasses.replace(config, **apportion(machine, index, together))
        for index in range(members)
    ]


def apportion(machine: Mapping[str, Any], index: int, together: int) -> dict[str, Any]:
    """Settings with one run's part of the workers and ports, where `together` runs learn at once.

    Raises:
        ConfigError: there are no more ports.
    """
    part = dict(machine)
    if part.get("workers"):
        part["workers"] = max(1, part["workers"] // together)
    if part.get("port"):
        part["port"] += 2 * index  # A gateway takes two ports next to each other.
        if part["port"] > LAST_PORT:
            raise ConfigError(
                f"--port is {machine['port']}, but each run takes two ports from there on, and "
                f"the last one is {LAST_PORT + 1}; choose a lower one."
            )
    return part


def stacked(config: MachineConfig, count: int) -> bool:
    """Whether `count` runs learn in one process, rather than each in its own."""
    if count > 1 and config.stack == "auto":
        return pick_device(config.device).type != "cpu"
    return count == 1 or config.stack == "always"


def with_settled_stack(config: Config, count: int) -> Config:
    """A configuration with `stack` resolved, so that several runs are resumed as they began."""
    if count == 1:
        return config
    return dataclasses.replace(config, stack="always" if stacked(config, count) else "never")


def at_once(config: MachineConfig, count: int) -> int:
    """How many of `count` runs learn at the same time."""
    if stacked(config, count):
        return count
    cores = usable_cores()
    return min(count, max(1, cores // (config.threads or cores)))


def learned(config: PretrainConfig) -> dict[str, Any]:
    """The settings that decide which networks pretraining leaves; its machine is not among them."""
    keys = {*config_fields(TaskConfig), *to_dict(config.hyperparameters)}
    keys |= {"algorithm", "num_updates"}
    return {key: each for key, each in to_dict(config).items() if key in keys}


def require_alike(runs: Sequence[Run], settings: Sequence[Mapping[str, Any]]) -> None:
    """Refuses to stack runs of different settings.

    Raises:
        ConfigError: the settings differ.
    """
    for run, each in zip(runs, settings, strict=True):
        if different := [key for key in each if each[key] != settings[0].get(key)]:
            raise ConfigError(
                f"{run.folder} and {runs[0].folder} differ in {', '.join(different)}; runs that "
                "learn together differ in their seeds alone: name them in commands of their own."
            )


def alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of pretrained runs that can be fine-tuned in one stack."""
    groups: list[list[Run]] = []
    for run in runs:
        settings = learned(pretrain_config(run))
        for group in groups:
            if learned(pretrain_config(group[0])) == settings:
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def resumed(
    runs: Sequence[Run], recorded: Callable[[Run], Config], changes: Mapping[str, Any]
) -> tuple[list[Config], list[Checkpoint]]:
    """The configurations with which runs go on in one stack, and the checkpoints from which.

    Args:
        runs: of one stack.
        recorded: the configuration of the command that a run was last trained with.
        changes: settings that differ from before.

    Raises:
        ConfigError: a setting makes no sense, a logger cannot be used, or the runs differ.
        CheckpointError: a checkpoint is missing or damaged, or the runs are too far apart.
    """
    configs = [
        override(recorded(run), apportion(changes, index, len(runs)), "resume")
        for index, run in enumerate(runs)
    ]
    check(configs[0])
    loggers.require(configs[0].loggers)
    settings = map(to_dict, configs)
    require_alike(
        runs, [{k: v for k, v in each.items() if k not in _OF_ONE_RUN} for each in settings]
    )
    return configs, _load_together(runs, configs[0].checkpoint_every)


def _load_together(runs: Sequence[Run], checkpoint_every: int) -> list[Checkpoint]:
    """The runs' checkpoints at the newest update that all of them have; of one run its last one.

    A learner that was killed while it saved has left some of its runs one checkpoint behind.

    Args:
        runs: of one stack.
        checkpoint_every: updates between checkpoints.

    Raises:
        CheckpointError: one is missing or damaged, or runs are more than `checkpoint_every` apart.
    """
    folders = [run.folder / "checkpoints" for run in runs]
    last = [checkpoint.load(folder) for folder in folders]
    updates = [each.state["updates"] for each in last]
    if max(updates) - min(updates) > checkpoint_every:
        behind = folders[updates.index(min(updates))].parent
        raise checkpoint.CheckpointError(
            f"{behind} is {max(updates) - min(updates):,} updates behind the others, so it has "
            "failed or was trained apart; resume it in a command of its own."
        )
    return [
        newest
        if newest.state["updates"] == min(updates)
        else checkpoint.load(folder, checkpoint.name_at(folder, min(updates)))
        for folder, newest in zip(folders, last, strict=True)
    ]


def rewind(run: Run, saved: Checkpoint) -> None:
    """Claims a run and cuts its files back to one of its checkpoints, which becomes its last."""
    run.truncate(saved.state["sizes"], saved.state.get("digests"))
    checkpoint.rewind(run.folder / "checkpoints", saved.state["updates"])
    cut_best(run.folder)
