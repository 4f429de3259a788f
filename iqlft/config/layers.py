"""The layers of a config, each of which overrides those before it.

They are the dataclass defaults, the defaults of the algorithm's reference, `configs/<task>.yaml`
(`--task`), a preset (`--preset`), a file (`--config`) and the flags. Hyperparameters are nested in
a config and flat, under their plain names, everywhere else.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from iqlft.config.algorithms import ALGORITHMS, owners, registered
from iqlft.config.errors import ConfigError, nearest
from iqlft.config.settings import DEFAULT_TASK, FinetuneConfig, PretrainConfig, RunConfig
from iqlft.config.values import read

if TYPE_CHECKING:
    from collections.abc import Sequence

Config = TypeVar("Config")
"""Any config dataclass, or one of the dataclasses that it is composed of."""


def online_learner(before: PretrainConfig, config: FinetuneConfig) -> PretrainConfig:
    """The learner's config online: that of pretraining with fine-tuning's overrides."""
    learner = with_algorithm(before, config.algorithm or before.algorithm)
    # How the data are read does not change, whatever the new algorithm's reference defaults to.
    return dataclasses.replace(
        before,
        algorithm=learner.algorithm,
        hyperparameters=config.hyperparameters or learner.hyperparameters,
        num_updates=config.checkpoint or before.num_updates,
    )


def part(config: Any, kind: type[Config]) -> Config:  # noqa: ANN401
    """A config's fields as another class: one command's part of `iqlft run`, or a base class."""
    shared = config_fields(kind).keys() & config_fields(type(config)).keys()
    return kind(**{name: getattr(config, name) for name in shared})


def config_fields(kind: type) -> dict[str, Any]:
    """The fields of a config class and their resolved types."""
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def folder() -> Path:
    """Where the task files are: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parents[1] / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def task_names() -> list[str]:
    """Names of the tasks in `configs/`."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def task_of(dataset: Sequence[str]) -> str | None:
    """The task in `configs/` that has these Minari ids in any version; None if there is none."""
    for name in task_names():
        ids = read(load_task(name)["dataset"], tuple[str, ...], "dataset", name)
        if list(map(_unversioned, ids)) == list(map(_unversioned, dataset)):
            return name
    return None


def _unversioned(dataset_id: str) -> str:
    return re.sub(r"-v\d+$", "", dataset_id)


def with_task(config: Config, task: str, dataset: Sequence[str] = ()) -> Config:
    """A config with the settings of a task, if the task is in `configs/`.

    Args:
        config: of a command.
        task: the task's name; empty: the config's task; else, but not in fine-tuning, the task that
            has the dataset, or without a dataset the default one.
        dataset: Minari ids, if any are given; with them, or in fine-tuning, the task need not be in
            `configs/`.

    Raises:
        ConfigError: the task is unknown.
    """
    may_be_new = bool(dataset) or isinstance(config, FinetuneConfig)
    name = task or getattr(config, "task", "")
    if not (name or isinstance(config, FinetuneConfig)):
        name = (task_of(dataset) or "") if dataset else DEFAULT_TASK
    if not name or (may_be_new and name not in task_names()):
        return config
    return override(config, load_task(name), f"configs/{name}.yaml")


def load_task(name: str) -> dict[str, Any]:
    """The settings in a task's YAML file.

    Raises:
        ConfigError: the task is unknown; the message names the nearest one.
    """
    names = task_names()
    if name not in names:
        raise ConfigError(
            f"There is no task {name!r}.{nearest(name, names)} Known tasks: {', '.join(names)}; a "
            "task of your own needs its --dataset ID."
        )
    return load_yaml(folder() / f"{name}.yaml")


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is missing, not YAML or not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}; check the path.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from error
    if not (isinstance(data, dict) and all(isinstance(key, str) for key in data)):
        raise ConfigError(f"{path} must hold keys and values, but holds {type(data).__name__}.")
    return data


_Learning = PretrainConfig | FinetuneConfig
"""The configs of training commands."""


def with_algorithm(config: Config, name: str) -> Config:
    """A config for an algorithm; a new algorithm also brings its reference's defaults.

    Raises:
        ConfigError: there is no such algorithm.
    """
    if not isinstance(config, _Learning) or name == config.algorithm:
        return config
    chosen, fields = registered(name), config_fields(type(config))
    usual = {key: each for key, each in chosen.defaults.items() if key in fields}
    return dataclasses.replace(
        config, algorithm=name, hyperparameters=chosen.hyperparameters(), **usual
    )


def with_settings(config: Config, **changes: Any) -> Config:  # noqa: ANN401
    """A config with some settings replaced, hyperparameters included."""
    if isinstance(config, _Learning) and config.hyperparameters is not None:
        inner = {key: changes.pop(key) for key in set(changes) & _hyperparameters(config).keys()}
        if inner:
            changes["hyperparameters"] = dataclasses.replace(config.hyperparameters, **inner)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def override(config: Config, values: dict[str, Any], source: str) -> Config:
    """A config with some settings replaced by YAML values, which are read as the fields' types.

    Args:
        config: any config dataclass.
        values: YAML keys and values. Keys of other commands' configs and sections named after other
            algorithms are ignored.
        source: where the values come from, for messages.

    Raises:
        ConfigError: a key that no command has, a hyperparameter that the algorithm does not have,
            or a value of the wrong type.
    """
    if isinstance(config, FinetuneConfig) and values.get("algorithm") == "":
        values = {key: each for key, each in values.items() if key != "algorithm"}
    if isinstance(config, _Learning):
        name = read(values.get("algorithm", config.algorithm), str, "algorithm", source)
        config = with_algorithm(config, name)
        values = _unfolded(values, config.algorithm, source)
    fields = setting_fields(config)
    for key in values.keys() - fields.keys():
        _require_known(key, config, values, source)
    picked = {
        key: _read(value, fields[key], key, source)
        for key, value in values.items()
        if key in fields
    }
    return with_settings(config, **picked)


def _unfolded(values: dict[str, Any], algorithm: str, source: str) -> dict[str, Any]:
    """Settings with the sections of an algorithm merged in, and all sections removed."""
    settings = {key: each for key, each in values.items() if not _is_section(key)}
    return settings | section_of(values, algorithm, source)


def section_of(values: dict[str, Any], algorithm: str, source: str) -> dict[str, Any]:
    """The section of an algorithm in settings, laid over the section of the algorithm it varies.

    Raises:
        ConfigError: a section is not a mapping.
    """
    found: dict[str, Any] = {}
    # Fine-tuning that names no algorithm has no hyperparameters of its own either.
    for name in (registered(algorithm).varied, algorithm) if algorithm else ():
        section = values.get(name) or {}
        if not isinstance(section, dict):
            raise ConfigError(f"{source}: {name} is {section!r}, but must be a mapping.")
        found |= section
    return found


def _is_section(key: str) -> bool:
    return key in ALGORITHMS or ":" in key


def setting_fields(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """A config's settings, hyperparameters included: their names and types."""
    found: dict[str, Any] = {}
    for name, kind in config_fields(type(config)).items():
        found |= _hyperparameters(config) if name == "hyperparameters" else {name: kind}
    return found


def _hyperparameters(config: PretrainConfig | FinetuneConfig) -> dict[str, Any]:
    if config.hyperparameters is None:
        return {}
    return config_fields(type(config.hyperparameters))


def _require_known(key: str, config: Any, values: dict[str, Any], source: str) -> None:  # noqa: ANN401
    """Refuses a key that no command has, or that is another algorithm's hyperparameter."""
    having = owners(key)
    if having and isinstance(config, _Learning) and config.hyperparameters is not None:
        raise ConfigError(
            f"{source}: {key} is a hyperparameter of {', '.join(having)}, not of "
            f"{config.algorithm}."
        )
    run = with_algorithm(RunConfig(), values.get("algorithm", RunConfig.algorithm))
    known = {*setting_fields(config), *setting_fields(run), *setting_fields(FinetuneConfig())}
    if not (having or _is_section(key) or key in known):
        raise ConfigError(f"{source}: there is no setting {key!r}.{nearest(key, sorted(known))}")


def _read(value: Any, kind: Any, key: str, source: str) -> Any:  # noqa: ANN401
    if typing.get_origin(kind) is not dict:
        return read(value, kind, key, source)
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: {key} is {value!r}, but must be a mapping.")
    return value


def to_dict(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """A config as plain data for YAML and JSON, hyperparameters among the settings."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Path):
            return str(value)
        return [plain(each) for each in value] if isinstance(value, tuple) else value

    found: dict[str, Any] = {}
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name != "hyperparameters":
            found[each.name] = plain(value)
        elif value is not None:
            found |= to_dict(value)
    return found


def to_yaml(config: Any) -> str:  # noqa: ANN401
    """A resolved config as YAML; passing it to `--config` repeats the run."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)
