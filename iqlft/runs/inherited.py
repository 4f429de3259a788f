"""Settings that fine-tuning inherits from a run and its task, unless a flag says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.config.layers import config_fields, load_task, section_of, task_names, to_dict
from iqlft.config.settings import ConfigError, MachineConfig, OnlineConfig, OutputConfig
from iqlft.runs.folder import Run, pretrain_config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from iqlft.config.settings import FinetuneConfig, PretrainConfig

ONLINE_ONLY = config_fields(OnlineConfig).keys() - {"utd_ratio"}
"""Settings of online learning that do not matter with --append, which learns on offline."""
_OF_THE_COMMAND = {"runs", "port", "dry_run"}
"""Settings of a machine that hold for one command alone."""


class Inherited(NamedTuple):
    """Settings that runs bring along.

    Attributes:
        values: values by name.
        sources: where each comes from, by name, such as `the task antmaze-corner`.
        disputed: names of settings in which the runs differ, and which are not inherited.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    disputed: tuple[str, ...] = ()

    def require_settled(self, given: Collection[str]) -> None:
        """Refuses settings in which the runs differ, unless they are given.

        Args:
            given: names of the settings that are given otherwise.

        Raises:
            ConfigError: some are left; the message names their flags.
        """
        if left := [f"--{key.replace('_', '-')}" for key in self.disputed if key not in given]:
            raise ConfigError(
                f"The runs were pretrained with different settings of {', '.join(left)}; give "
                "these as flags, or fine-tune the runs separately."
            )

    def describe(self, config: FinetuneConfig) -> str:
        """A sentence about inherited settings that a config uses and that are not the defaults."""
        usual, has = to_dict(type(config)()), to_dict(config)
        if config.append:
            usual = {key: each for key, each in usual.items() if key not in ONLINE_ONLY}
        by_source: dict[str, list[str]] = {}
        for key, value in self.values.items():
            if key != "algorithm" and key in usual and has[key] == value != usual[key]:
                by_source.setdefault(self.sources[key], []).append(f"{key} {value}")
        parts = [f"{', '.join(said)} from {source}" for source, said in by_source.items()]
        return f"Inherited: {'; '.join(parts)}." if parts else ""


def inherited(folders: Sequence[Path], algorithm: str = "") -> Inherited:
    """The settings that the runs in some folders bring along.

    Args:
        folders: the run folders.
        algorithm: algorithm to go on with, whose hyperparameters are inherited if all runs are of
            it; empty: that of the runs, each of which keeps its own hyperparameters unless they
            agree in all.

    Raises:
        RunError: there is no run in a folder, or it cannot be read.
        ConfigError: a run's configuration makes no sense.
    """
    learners = [pretrain_config(Run.open(folder)) for folder in folders]
    alike = len({(each.algorithm, each.hyperparameters) for each in learners}) == 1
    own = {each.algorithm for each in learners} == {algorithm} if algorithm else alike
    each = [_of(config, algorithm, own=own) for config in learners]
    keys = dict.fromkeys(key for one in each for key in one.values)
    disputed = tuple(
        key for key in keys if any(one.values.get(key) != each[0].values.get(key) for one in each)
    )
    values = {key: value for key, value in each[0].values.items() if key not in disputed}
    return Inherited(values, each[0].sources, disputed)


def _of(config: PretrainConfig, algorithm: str, *, own: bool) -> Inherited:
    """The settings that a run brings along; with `own`, its algorithm and hyperparameters too."""
    task = load_task(config.task) if config.task in task_names() else {}
    values = {key: value for key, value in task.items() if key in config_fields(OnlineConfig)}
    values |= {} if own else section_of(task, algorithm, config.task)
    sources = dict.fromkeys(values, f"the task {config.task}")
    written = config_fields(MachineConfig) | config_fields(OutputConfig)
    kept = written.keys() - _OF_THE_COMMAND
    if own:
        kept |= {"algorithm", *to_dict(config.hyperparameters)}
    before = {key: value for key, value in to_dict(config).items() if key in kept}
    return Inherited(values | before, sources | dict.fromkeys(before, "pretraining"))
