"""Turns command-line arguments into a config, layer by layer: algorithm, task, file, flags."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from iqlft.cli.arguments import Nothing
from iqlft.config import layers
from iqlft.config import settings as configs
from iqlft.config.algorithms import is_switch, owners
from iqlft.config.errors import nearest
from iqlft.config.presets import PRESETS, preset
from iqlft.config.validation import check
from iqlft.config.values import TYPES
from iqlft.runs.finding import chosen_runs
from iqlft.runs.inherited import inherited
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

Training = TypeVar("Training", configs.PretrainConfig, configs.FinetuneConfig, configs.RunConfig)
"""The config of a training command."""

TRAINING_HELP = (
    "Settings come from the defaults of --algorithm NAME, whose hyperparameters are flags here, "
    "then --task NAME (a file in configs/; for finetune that of the run, and what the run was "
    "pretrained with), then --preset NAME, then --config FILE, then the flags."
)
"""What `--help` of a training command prints after its description."""
_FINETUNE_FLAGS = {
    *layers.config_fields(configs.FinetuneConfig), "config", "preset", "print_config", "help",
}  # fmt: skip
"""Flags of `finetune`, whatever the algorithm of its runs."""
_ORDER = ("source", "task", "offline", "algorithm", "online", "machine", "output", "settings")
"""Groups of flags, in the order in which `--help` shows them."""


@dataclasses.dataclass(frozen=True)
class SettingsSource:
    """Sources of settings other than flags, and what to do with the settings."""

    config: Path | None = None
    """YAML file of settings, such as --print-config prints; for pretrain and finetune also a run's
    config.yaml."""
    preset: Literal[tuple(PRESETS)] | None = None  # type: ignore[valid-type]
    """Named set of settings, from one published source."""
    print_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the settings as YAML, which --config can read, and stop."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print only how the command ends, and errors; every command has this flag."""


def settings(
    default: Training,
    section: str,
    arguments: list[str],
    inherited: Mapping[str, Any] | None = None,
) -> tuple[Training, bool]:
    """Resolves a training command's config.

    Args:
        default: the command's config with its defaults, including its default task.
        section: the command's name, which is also its section in a run's `config.yaml`.
        arguments: from the command line.
        inherited: settings of the run that the command continues; they override those of the task
            and are overridden by preset, file and flags.

    Returns:
        The config, and whether it is only to be printed.

    Raises:
        ConfigError: an algorithm, task, preset, file or setting does not exist, or a value has the
            wrong type or is out of bounds.
    """
    arguments, file = _take(arguments, "--config")
    values = {} if file is None else layers.load_yaml(Path(file))
    if isinstance(values.get(section), dict):
        values = values[section]
    elif isinstance(values.get("pretrain"), dict):
        raise configs.ConfigError(
            f"{file} has a run's settings, one section for each of its commands, and none for "
            f"`iqlft {section}`; give it a file of its own, such as --print-config writes."
        )
    without, task = _take(arguments, "--task")
    if hasattr(default, "dataset"):
        # An empty task is one to be found, not a name for what the default task has set.
        arguments = arguments if task else without
        values = _fitting(values, str(file), task or "", _dataset(arguments, {}))
    _, algorithm = _take(arguments, "--algorithm")
    if algorithm is not None:
        values = values | {"algorithm": algorithm}
    arguments, named = _take(arguments, "--preset")
    named = values.pop("preset", None) if named is None else named
    above = {} if named is None else _settings_of(str(named), values)
    values = {key: above[key] for key in ("algorithm",) if key in above} | values
    chosen = {key: values[key] for key in ("algorithm",) if key in values}
    default = layers.override(default, chosen, str(file))
    task = task or str(values.get("task") or "")
    default = layers.with_task(default, task, _dataset(arguments, values))
    default = layers.override(default, dict(inherited or {}), "the pretrained run")
    default = layers.override(default, above, f"--preset {named}")
    default = layers.override(default, values, str(file))
    printing = "--print-config" in arguments
    arguments = [each for each in arguments if each != "--print-config"]
    _refuse_foreign(arguments, default)
    parsed = parse_groups(section, default, arguments)
    check(parsed)
    return parsed, printing


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
    first, printing = settings(configs.FinetuneConfig(), "finetune", sources)
    _require_task(first)
    try:
        found = inherited(chosen_runs(first), first.algorithm)
    except UserError as error:
        # Printing settings needs no run, but a run that exists has to be readable.
        if printing and not any(each.exists() for each in first.run):
            return *settings(configs.FinetuneConfig(), "finetune", arguments), ""
        if misspelt := _misspelt(arguments, first):
            raise configs.ConfigError(f"{error} Besides, {misspelt}") from error
        raise
    config, _ = settings(configs.FinetuneConfig(), "finetune", arguments, found.values)
    found.require_settled(_given(arguments, config.algorithm))
    return config, printing, found.describe(config)


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


def _given(arguments: list[str], algorithm: str) -> set[str]:
    """Names of the settings that flags, a file or a preset set."""
    arguments, file = _take(arguments, "--config")
    arguments, named = _take(arguments, "--preset")
    values = {} if file is None else layers.load_yaml(Path(file))
    values |= values.get("finetune") or {}
    named = values.get("preset") if named is None else named
    above = () if named is None else preset(str(named)).settings
    section = layers.section_of(values, algorithm, str(file))
    given = {*map(_key, arguments), *values, *section, *above}
    return given | {key.removeprefix("no_") for key in given}


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


def parse(command: str, kind: Any, arguments: list[str]) -> Any:  # noqa: ANN401
    """Parses the arguments of a command into a dataclass of this kind; exits on `--help`.

    Raises:
        ConfigError: a value is out of bounds.
    """
    found = tyro.cli(kind, args=arguments, prog=f"iqlft {command}", registry=TYPES)
    check(found)
    return found


def parse_known(command: str, kind: Any, arguments: list[str]) -> tuple[Any, list[str]]:  # noqa: ANN401
    """Parses the known arguments into a dataclass; returns it and the unknown arguments."""
    prog = f"iqlft {command}"
    found, rest = tyro.cli(
        kind, args=arguments, prog=prog, registry=TYPES, return_unknown_args=True
    )
    check(found)
    return found, rest


def parse_groups(command: str, default: Training, arguments: list[str]) -> Training:
    """Parses flags onto a training command's config; `--help` shows them in groups."""
    groups = groups_of(default)
    found = tyro.cli(
        type(groups),
        args=arguments,
        prog=f"iqlft {command}",
        description=f"{_SENTENCES.get(command, type(default).__doc__)}\n\n{TRAINING_HELP}",
        default=groups,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=TYPES,
    )
    parts = {name: part for name, part in vars(found).items() if name != "settings"}
    values = {key: each for part in parts.values() for key, each in vars(part).items()}
    values |= {key: getattr(default, key) for key, each in values.items() if isinstance(each, dict)}
    return layers.with_settings(default, **values)


_SENTENCES = {"demo": "The main job in small: data, pretraining, fine-tuning, figure."}
"""Descriptions of commands that share another command's config class."""


def groups_of(default: configs.PretrainConfig | configs.FinetuneConfig) -> Any:  # noqa: ANN401
    """A config's settings in groups: its base dataclasses, and its hyperparameters."""
    parts: dict[str, Any] = {"settings": SettingsSource()}
    if default.hyperparameters is not None:
        parts["algorithm"] = default.hyperparameters
    for kind in filter(_is_whole, type(default).__mro__):
        part: Any = layers.part(default, kind)
        # Keys of a mapping are no flags, and could have the name of one.
        mappings = [key for key, each in vars(part).items() if isinstance(each, dict)]
        parts[_title(kind)] = dataclasses.replace(part, **{key: {} for key in mappings})
    fields = [(key, type(parts[key])) for key in _ORDER if key in parts]
    return dataclasses.make_dataclass("Groups", fields)(**parts)


def _is_whole(kind: type) -> bool:
    """Whether a dataclass inherits no fields, as the groups of flags do."""
    return dataclasses.is_dataclass(kind) and kind.__bases__ == (object,)


def _title(kind: type) -> str:
    return kind.__name__.removesuffix("Config").lower()


def no_arguments(command: str, arguments: list[str]) -> None:
    """Refuses arguments of a command that takes none, except `--help`, with a `ConfigError`."""
    if arguments and arguments[0] in ("-h", "--help"):
        parse(command, Nothing, arguments)
    if arguments:
        given = " ".join(arguments)
        raise configs.ConfigError(f"`iqlft {command}` takes no arguments, but got {given}.")
