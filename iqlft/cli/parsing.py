"""Parses flags: a command's arguments, or a training command's settings in groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path  # noqa: TC003 -- tyro reads the annotations
from typing import Annotated, Any, Literal, TypeVar

import tyro

from iqlft.cli.arguments import Nothing
from iqlft.config import layers
from iqlft.config import settings as configs
from iqlft.config.presets import PRESETS
from iqlft.config.validation import check
from iqlft.config.values import TYPES

Training = TypeVar("Training", configs.PretrainConfig, configs.FinetuneConfig, configs.RunConfig)
"""The config of a training command."""

TRAINING_HELP = (
    "Settings come from the defaults of --algorithm NAME, whose hyperparameters are flags here, "
    "then --task NAME (a file in configs/; for finetune that of the run, and what the run was "
    "pretrained with), then --preset NAME, then --config FILE, then the flags."
)
"""What `--help` of a training command prints after its description."""
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
