"""What fine-tuning takes over from a run where no flag says otherwise: its task's and its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.config.settings import (
    MachineConfig,
    OnlineConfig,
    config_fields,
    load_task,
    task_names,
    to_dict,
)
from iqlft.runs.folder import Run, pretrain_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from iqlft.config.settings import FinetuneConfig

_OF_THE_COMMAND = {"runs", "port", "dry_run"}
"""Settings of a machine that hold for one command alone."""


class Inherited(NamedTuple):
    """Settings that runs bring along.

    Attributes:
        values: by name.
        sources: of each, such as `the task antmaze-corner`.
        disputed: names of those in which the runs differ, which nobody inherits.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    disputed: tuple[str, ...] = ()

    def describe(self, config: FinetuneConfig) -> str:
        """A sentence about those that a config has, and that differ from the defaults."""
        usual, has = to_dict(type(config)()), to_dict(config)
        by_source: dict[str, list[str]] = {}
        for key, value in self.values.items():
            if has[key] == value != usual[key]:
                by_source.setdefault(self.sources[key], []).append(f"{key} {value}")
        parts = [f"{', '.join(said)} from {source}" for source, said in by_source.items()]
        return f"Inherited: {'; '.join(parts)}." if parts else ""


def inherited(folders: Sequence[Path]) -> Inherited:
    """What the runs in some folders bring along.

    Raises:
        RunError: there is no run in one of them, or it cannot be read.
        ConfigError: its configuration makes no sense.
    """
    each = [_of(Run.open(folder)) for folder in folders]
    keys = dict.fromkeys(key for one in each for key in one.values)
    disputed = tuple(
        key for key in keys if any(one.values.get(key) != each[0].values.get(key) for one in each)
    )
    values = {key: value for key, value in each[0].values.items() if key not in disputed}
    return Inherited(values, each[0].sources, disputed)


def _of(run: Run) -> Inherited:
    config = pretrain_config(run)
    task = load_task(config.task) if config.task in task_names() else {}
    values = {key: value for key, value in task.items() if key in config_fields(OnlineConfig)}
    sources = dict.fromkeys(values, f"the task {config.task}")
    own = {
        key: value
        for key, value in to_dict(config).items()
        if key in config_fields(MachineConfig).keys() - _OF_THE_COMMAND
    }
    return Inherited(values | own, sources | dict.fromkeys(own, "pretraining"))
