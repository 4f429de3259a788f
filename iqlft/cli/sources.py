"""Where a training command's settings come from: algorithm, task, preset, file, flags.

Each overrides those before it.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from iqlft.cli.parsing import Training, parse_groups
from iqlft.config import layers
from iqlft.config import settings as configs
from iqlft.config.algorithms import is_switch, owners
from iqlft.config.errors import nearest
from iqlft.config.presets import preset
from iqlft.config.validation import check
from iqlft.runs.finding import chosen_runs
from iqlft.runs.inherited import inherited
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FINETUNE_FLAGS = {
    *layers.config_fields(configs.FinetuneConfig), "config", "preset", "print_config", "help",
}  # fmt: skip
"""Flags of `finetune`, whatever the algorithm of its runs."""


class Resolved(NamedTuple, Generic[Training]):
    """A training command's settings.

    Attributes:
        config: the settings.
        printing: whether they are only to be printed.
        given: names of the settings that preset, file and flags set.
    """

    config: Training
    printing: bool
    given: set[str]


def settings(
    default: Training,
    section: str,
    arguments: list[str],
    inherited: Mapping[str, Any] | None = None,
) -> Resolved[Training]:
    """Resolves a training command's settings.

    Args:
        default: the command's config with its defaults, including its default task.
        section: the command's name, which is also its section in a run's `config.yaml`.
        arguments: from the command line.
        inherited: settings of the run that the command continues; they override those of the task
            and are overridden by preset, file and flags.

    Raises:
        ConfigError: an algorithm, task, preset, file or setting does not exist, or a value has the
            wrong type or is out of bounds.
    """
    said = _read(default, section, arguments)
    # First the algorithm, which settles what hyperparameters there are.
    config = layers.override(default, said.algorithm, said.file)
    config = layers.with_task(config, said.task, said.dataset)
    config = layers.override(config, dict(inherited or {}), "the pretrained run")
    config = layers.override(config, said.preset, said.preset_name)
    config = layers.override(config, said.values, said.file)
    _refuse_foreign(said.flags, config)
    config = parse_groups(section, config, said.flags)
    _refuse_two_kinds_of_seeds(said, config)
    check(config)
    return Resolved(config, said.printing, _given(said, config.algorithm))


def _refuse_two_kinds_of_seeds(said: _Said, config: Any) -> None:  # noqa: ANN401
    """Refuses a seed beside `seeds`, unless flags replace the seed of a file by several."""
    flags, seeds = set(map(_key, said.flags)), getattr(config, "seeds", ())
    asked = "seed" in flags or ("seeds" not in flags and said.values.get("seed"))
    if seeds and asked:
        raise configs.ConfigError(
            f"--seed is {config.seed}, but --seeds {' '.join(map(str, seeds))} name the seeds of "
            "several runs; say one of them."
        )


class _Said(NamedTuple):
    """What a command line says of settings, before any of them is resolved.

    Attributes:
        file: the settings file, for messages.
        values: what the file sets, in the section of the command.
        preset_name: the preset, for messages.
        preset: what it sets.
        algorithm: the algorithm that any of them names, as a setting; empty without one.
        task: the task that flags or the file name, or "".
        dataset: the Minari ids that they name.
        flags: the other arguments.
        printing: whether the settings are only to be printed.
    """

    file: str
    values: dict[str, Any]
    preset_name: str
    preset: dict[str, Any]
    algorithm: dict[str, Any]
    task: str
    dataset: tuple[str, ...]
    flags: list[str]
    printing: bool


def _read(default: Training, section: str, arguments: list[str]) -> _Said:
    arguments, file = _take(arguments, "--config")
    values = {} if file is None else _section(file, section)
    without, task = _take(arguments, "--task")
    if hasattr(default, "dataset"):
        # An empty task is one to be found, not a name for what the default task has set.
        arguments = arguments if task else without
        values = _fitting(values, str(file), task or "", _dataset(arguments, {}))
    if (algorithm := _take(arguments, "--algorithm")[1]) is not None:
        values = values | {"algorithm": algorithm}
    arguments, named = _take(arguments, "--preset")
    named = values.pop("preset", None) if named is None else named
    above = {} if named is None else _settings_of(str(named), values)
    return _Said(
        file=str(file),
        values=values,
        preset_name=f"--preset {named}",
        preset=above,
        algorithm={key: each for key, each in (above | values).items() if key == "algorithm"},
        task=task or str(values.get("task") or ""),
        dataset=_dataset(arguments, values),
        flags=[each for each in arguments if each != "--print-config"],
        printing="--print-config" in arguments,
    )


def _section(file: str, section: str) -> dict[str, Any]:
    """What a file sets for a command: its section where the file has one, or else all of it."""
    values = layers.load_yaml(Path(file))
    if isinstance(own := values.get(section), dict):
        return own
    if isinstance(values.get("pretrain"), dict):
        raise configs.ConfigError(
            f"{file} has a run's settings, one section for each of its commands, and none for "
            f"`iqlft {section}`; give it a file of its own, such as --print-config writes."
        )
    return values


def _given(said: _Said, algorithm: str) -> set[str]:
    """Names of the settings that preset, file and flags set."""
    own = layers.section_of(said.values, algorithm, said.file)
    given = {*map(_key, said.flags), *said.values, *own, *said.preset}
    return given | {key.removeprefix("no_") for key in given}


def _fitting(
    values: dict[str, Any], file: str, task: str, dataset: tuple[str, ...]
) -> dict[str, Any]:
    """A file's settings that hold beside the task and the dataset of flags; either may be empty.

    Raises:
        ConfigError: the file's dataset is that of another task.
    """
    own, data = str(values.get("task") or ""), _dataset([], values)
    if task and data and not dataset and own not in ("", task):
        raise configs.ConfigError(
            f"--task is {task}, but {file} has the task {own} and its dataset; leave one of them "
            "out, or name the data too: --dataset ID."
        )
    # Flags replace the file's dataset, and with it a name that is made from its ids.
    surplus = {"dataset"} if dataset else set()
    if values.get("task") == "" or (dataset and data and own == configs.name_from(data)):
        surplus.add("task")
    return {key: value for key, value in values.items() if key not in surplus}


def _dataset(arguments: list[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The Minari ids named by flags or, without such flags, by a file."""
    found: list[str] = []
    for index, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name == "--dataset":
            rest = itertools.takewhile(lambda a: not a.startswith("-"), arguments[index + 1 :])
            found = [value] * bool(equals) + list(rest)
    given = found or values.get("dataset") or ()
    return tuple(map(str, given if isinstance(given, list | tuple) else (given,)))


def finetune_settings(arguments: list[str]) -> tuple[configs.FinetuneConfig, bool, str]:
    """Resolves the config of `finetune`, with what it inherits from its runs.

    Returns:
        The config, whether it is only to be printed, and what was inherited, as a sentence.

    Raises:
        UserError: as for `settings`; or there is no such run.
    """
    sources = _without_hyperparameters(arguments)
    first, printing, _ = settings(configs.FinetuneConfig(), "finetune", sources)
    _require_task(first)
    try:
        found = inherited(chosen_runs(first), first.algorithm)
    except UserError as error:
        # Printing settings needs no run, but a run that exists has to be readable.
        if printing and not any(each.exists() for each in first.run):
            return settings(configs.FinetuneConfig(), "finetune", arguments).config, printing, ""
        if misspelt := _misspelt(arguments, first):
            raise configs.ConfigError(f"{error} Besides, {misspelt}") from error
        raise
    resolved = settings(configs.FinetuneConfig(), "finetune", arguments, found.values)
    found.require_settled(resolved.given)
    return resolved.config, printing, found.describe(resolved.config)


def _without_hyperparameters(arguments: list[str]) -> list[str]:
    """The arguments that can be parsed before the algorithm of the runs is known."""
    kept = [*arguments]
    for each in [each for each in arguments if each.startswith("--")]:
        key = _key(each).removeprefix("no_")
        if key in _FINETUNE_FLAGS:
            continue
        index = kept.index(each)
        # A user's algorithm may have boolean flags not known yet: a run after one is no value.
        alone = "=" in each or is_switch(key)
        following = [] if alone else kept[index + 1 : index + 2]
        value = [it for it in following if it[:2] != "--" and not Path(it, "meta.json").is_file()]
        kept[index : index + 1 + len(value)] = []
    return kept


def _misspelt(arguments: list[str], config: configs.FinetuneConfig) -> str:
    """A message about the first flag that neither `config` nor any algorithm has; else empty."""
    keys = _FINETUNE_FLAGS | set(layers.setting_fields(config))
    for each in [each for each in arguments if each.startswith("--")]:
        key = _key(each).removeprefix("no_")
        if key not in keys and not owners(key):
            flag = each.partition("=")[0]
            known = [f"--{name.replace('_', '-')}" for name in keys]
            return f"there is no flag {flag}.{nearest(flag, known)}"
    return ""


def _require_task(config: configs.FinetuneConfig) -> None:
    """Refuses a task that is neither in `configs/` nor a folder of runs."""
    names = layers.task_names()
    if config.task in ("", *names) or (config.runs / config.task).is_dir():
        return
    folders = [each.name for each in config.runs.glob("*/") if each.is_dir()]
    raise configs.ConfigError(
        f"There is no task {config.task!r}.{nearest(config.task, sorted({*names, *folders}))} "
        f"Tasks under {config.runs}: {', '.join(sorted(folders)) or 'none'}."
    )


def _settings_of(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a preset; refuses one of another algorithm than `values` names."""
    found = dict(preset(name).settings)
    asked = values.get("algorithm", found["algorithm"])
    if asked != found["algorithm"]:
        raise configs.ConfigError(
            f"The preset {name} is one of {found['algorithm']}, but the algorithm is to be "
            f"{asked}; leave one of them out."
        )
    return found


def _take(arguments: list[str], flag: str) -> tuple[list[str], str | None]:
    """The arguments without `flag VALUE` or `flag=VALUE`, and the last such value, if any."""
    rest, found, given = [], None, iter(arguments)
    for each in given:
        name, equals, value = each.partition("=")
        if name != flag:
            rest.append(each)
            continue
        found = value if equals else next(given, None)
        if found is None:
            raise configs.ConfigError(f"{flag} needs a value.")
    return rest, found


def _key(flag: str) -> str:
    """Name of the setting that a flag sets, with `no_` before it if the flag turns it off."""
    return flag.partition("=")[0].removeprefix("--").replace("-", "_")


def _refuse_foreign(arguments: list[str], config: Any) -> None:  # noqa: ANN401
    """Refuses hyperparameters of other algorithms; unknown flags are left to tyro."""
    own = layers.setting_fields(config)
    for each in arguments:
        key = _key(each)
        having = owners(key) if each.startswith("--") and key not in own else []
        if having:
            hint = f"not of {config.algorithm}" if config.algorithm else "which the run settles"
            raise configs.ConfigError(
                f"{each.partition('=')[0]} is a hyperparameter of {', '.join(having)}, {hint}."
            )
