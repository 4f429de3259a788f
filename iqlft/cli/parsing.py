"""From the command line's arguments to a config: tasks, files and flags in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro

from iqlft.cli.arguments import Nothing
from iqlft.config import settings as configs

TRAINING_HELP = (
    "Settings come from the defaults, then --task NAME (a file in configs/), then --config FILE, "
    "then the flags. --print-config shows the result as YAML, which --config reads back."
)


def settings(
    default: configs.Config, section: str, arguments: list[str]
) -> tuple[configs.Config, bool]:
    """Resolves a training command's config.

    Args:
        default: the command's config with its defaults.
        section: the command's name, and its section in a run's `config.yaml`.
        arguments: from the command line.

    Returns:
        The config, and whether it is only to be printed.

    Raises:
        ConfigError: a task, file or setting that does not exist, or a value of the wrong type.
    """
    has_task = "task" in configs.config_fields(type(default))
    arguments, task = _take(arguments, "--task", keep=has_task)
    arguments, algorithm = _take(arguments, "--algorithm", keep=True)
    arguments, file = _take(arguments, "--config")
    values = {} if file is None else configs.load_yaml(Path(file))
    if isinstance(values.get(section), dict):
        values = values[section]
    # A task that a file names brings its settings too, unless it is the file's own invention.
    if task is None and values.get("task") in configs.task_names():
        task = values["task"]
    if (algorithm := algorithm or values.get("algorithm")) is not None:
        default = configs.with_algorithm(default, str(algorithm))
    if task is not None:
        default = configs.override(default, configs.load_task(task), f"configs/{task}.yaml")
    default = configs.override(
        default, values | ({"algorithm": algorithm} if algorithm else {}), str(file)
    )
    printing = "--print-config" in arguments
    arguments = [each for each in arguments if each != "--print-config"]
    resolved: configs.Config = parse(section, type(default), arguments, default)
    return resolved, printing


def _take(arguments: list[str], flag: str, *, keep: bool = False) -> tuple[list[str], str | None]:
    """Removes `flag VALUE` or `flag=VALUE` from the arguments, unless it is to be kept."""
    for index, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name != flag:
            continue
        if not equals:
            if index + 1 == len(arguments):
                raise configs.ConfigError(f"{flag} needs a value.")
            value = arguments[index + 1]
        end = index + (1 if equals else 2)
        return (arguments if keep else arguments[:index] + arguments[end:]), value
    return arguments, None


def parse(command: str, kind: Any, arguments: list[str], default: Any = None) -> Any:  # noqa: ANN401
    """Parses the arguments of a command into a dataclass of this kind; exits on `--help`."""
    extra = {} if default is None else {"default": default, "description": TRAINING_HELP}
    return tyro.cli(kind, args=arguments, prog=f"iqlft {command}", **extra)


def no_arguments(command: str, arguments: list[str]) -> None:
    """Raises `ConfigError` if a command that takes no arguments was given some; knows `--help`."""
    if arguments and arguments[0] in ("-h", "--help"):
        parse(command, Nothing, arguments)
    if arguments:
        given = " ".join(arguments)
        raise configs.ConfigError(f"`iqlft {command}` takes no arguments, but got {given}.")
