"""Opens a local Minari dataset, and builds the environment and the goal that it records."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import minari
import numpy as np
from minari.dataset.minari_dataset import DATASET_ID_RE

from iqlft.config.errors import nearest
from iqlft.datasets.antmaze.gait import LATEST
from iqlft.datasets.antmaze.tasks import TASKS, generated
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.metadata import AGAIN, read_metadata
from iqlft.datasets.reading import require_episodes
from iqlft.datasets.storage import dataset_path, local_ids
from iqlft.datasets.time_limit import KEY
from iqlft_workers import environment as environments
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.fixed_goal import ROBOTICS_SUCCESS_RADIUS
from iqlft_workers.registration import FIXED_GOAL_MAZE, current_spec
from iqlft_workers.trust import is_registered, require_trust
from iqlft_workers.wrapping import RecordedWrapper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gymnasium.envs.registration import EnvSpec
    from numpy.typing import NDArray


class Goal(NamedTuple):
    """A position and the radius within which it counts as reached, in metres.

    Attributes:
        position: `(2,)`.
        radius: success radius.
    """

    position: NDArray[np.float64]
    radius: float

    def reached(self, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the positions `(..., 2)` are within the radius, `(...)`."""
        distance = np.linalg.norm(positions - self.position, axis=-1)
        reached: NDArray[np.bool_] = distance <= self.radius
        return reached


def open_dataset(dataset_id: str) -> minari.MinariDataset:
    """Opens a local dataset.

    Raises:
        DatasetError: it is not there (the message says how to get it), or it cannot be read.
    """
    if not DATASET_ID_RE.fullmatch(dataset_id) or not (dataset_path(dataset_id) / "data").exists():
        raise DatasetError(_absence(dataset_id))
    read_metadata(dataset_id)
    try:
        dataset = minari.load_dataset(dataset_id)
    except ImportError as error:
        raise DatasetError(
            f"{dataset_id} is kept in Arrow or Parquet, which needs pyarrow: pip install "
            "'minari[arrow]'."
        ) from error
    except Exception as error:  # Minari has no errors of its own
        reason = f"{type(error).__name__}: {error}"
        raise DatasetError(
            f"The dataset {dataset_id} at {dataset_path(dataset_id)} cannot be read "
            f"({reason:.300}); {AGAIN} with --force."
        ) from error
    require_episodes(dataset)
    return dataset


def _absence(dataset_id: str) -> str:
    """Message that a dataset is absent, how to get it, and which similar ones are there."""
    ids, hint = generated(), ""
    if dataset_id in TASKS:
        advice = f"make it with `iqlft data make {dataset_id}`"
    elif dataset_id in ids:
        task, version = ids[dataset_id]
        other = "" if version == LATEST else f" --gait {version}"
        advice = f"make it with `iqlft data make {task.name}{other}`"
    elif dataset_id.startswith(("iqlft/", "antmaze-")):
        advice, hint = "list the known ones: `iqlft data list`", nearest(dataset_id, ids)
    elif not DATASET_ID_RE.fullmatch(dataset_id):
        advice = "its id is not of the form namespace/name-v0; list those here: `iqlft data list`"
    else:
        advice = f"download it with `iqlft data download {dataset_id}`"
    local = difflib.get_close_matches(dataset_id, local_ids(), n=3, cutoff=0.3)
    known = f" Nearest local datasets: {', '.join(local)}." if local else ""
    return f"The dataset {dataset_id} is not on this machine; {advice}.{hint}{known}"


def records_environment(dataset: minari.MinariDataset) -> bool:
    """Whether a dataset records its environment."""
    return (dataset._eval_env_spec or dataset.env_spec) is not None


WINDOW_SETTINGS = {
    "render_mode", "window_size", "window_width", "window_height", "screen_size", "screen_width",
    "screen_height", "render", "gui", "GUI", "show_viewer", "has_renderer",
}  # fmt: skip
"""Recorded arguments that only configure rendering; they are dropped."""


def recorded_environment(dataset: minari.MinariDataset, *, trust: bool = False) -> EnvironmentSpec:
    """The dataset's evaluation environment, or else the one that it was recorded in.

    It is specified as `gymnasium.make(spec)` would build it: the recorded class with the recorded
    arguments, time limit and wrappers. A recorded evaluation map that is the mirror image of the
    map in which the data were made, as in `D4RL/antmaze/umaze-v1`, is mirrored back.

    Args:
        dataset: an opened one.
        trust: whether code that no installed package registers may be run.

    Raises:
        DatasetError: no environment is recorded, or one with another maze than the data's.
        UntrustedError: the environment names code that is neither registered nor trusted.
    """
    # Minari has no public accessor for the evaluation spec short of building the environment.
    recorded: EnvSpec | None = dataset._eval_env_spec or dataset.env_spec
    if recorded is None:
        raise DatasetError(
            f"{dataset.id} records no environment; name one in the configuration (environment)."
        )
    kwargs = dict(recorded.kwargs)
    if has_mirrored_map(dataset):
        kwargs["maze_map"] = _right_map(dataset.env_spec, kwargs["maze_map"])
    return environment_of(recorded, kwargs, trust=trust)


def environment_of(
    recorded: EnvSpec, kwargs: Mapping[str, Any] | None = None, *, trust: bool = False
) -> EnvironmentSpec:
    """The spec that rebuilds a recorded environment, after the trust check.

    Args:
        recorded: Minari's spec.
        kwargs: arguments that replace the recorded ones.
        trust: see `recorded_environment`.

    Raises:
        DatasetError: the spec does not say where the environment's code is, or nothing can import
            it.
        UntrustedError: the spec names code that is neither registered nor trusted.
    """
    recorded = current_spec(recorded)
    if not isinstance(recorded.entry_point, str) or ":" not in recorded.entry_point:
        raise DatasetError(
            f"The recorded environment {recorded.id!r:.99} has the entry point "
            f"{recorded.entry_point!r:.99}, which is no module:class; name an environment "
            "(--environment ID)."
        )
    kwargs = {k: v for k, v in (kwargs or recorded.kwargs).items() if k not in WINDOW_SETTINGS}
    entry_point = _current_entry_point(recorded.id, recorded.entry_point)
    _require_importable(recorded.id, entry_point)
    require_trust(recorded.id, [entry_point], kwargs, trust=trust)
    if recorded.max_episode_steps is not None:
        kwargs[KEY] = recorded.max_episode_steps
    return EnvironmentSpec(
        _importable_id(recorded.id, entry_point),
        kwargs,
        entry_point=entry_point,
        wrappers=tuple(RecordedWrapper(**vars(each)) for each in recorded.additional_wrappers),
        trust=trust,
    )


def _require_importable(environment_id: str, entry_point: str) -> None:
    """Refuses a class defined in the recording script, which no other process can import."""
    module, _, name = entry_point.partition(":")
    if module == "__main__" and not hasattr(sys.modules[module], name):
        raise DatasetError(
            f"{environment_id} was registered by the script that recorded the data, as its own "
            f"class {name}, which nothing else can import; put the class into a module that "
            f"registers it, and name that: --environment MODULE:{environment_id}."
        )


def _current_entry_point(environment_id: str, entry_point: str) -> str:
    """The entry point, or the one at which its package registers the same class and id now."""
    if is_registered(entry_point) or environment_id not in gymnasium.registry:
        return entry_point
    today = gymnasium.registry[environment_id].entry_point
    (package, name), before = map(_ends, (str(today), entry_point))
    if isinstance(today, str) and before in {(package, name), ("__main__", name)}:
        return today
    return entry_point


def _ends(entry_point: str) -> tuple[str, str]:
    """An entry point's top-level package and class name."""
    module, _, name = entry_point.partition(":")
    return module.partition(".")[0], name


def _right_map(made_in: EnvSpec | None, mirrored: list[list[Any]]) -> list[list[Any]]:
    """The recording's map if it marks start and goal, else the mirrored map, mirrored back."""
    made: list[list[Any]] = [] if made_in is None else made_in.kwargs["maze_map"]
    if any("g" in row for row in made) and any("r" in row for row in made):
        return made
    return [row[::-1] for row in mirrored]


def has_mirrored_map(dataset: minari.MinariDataset) -> bool:
    """Whether the evaluation map is the mirror image of the map in which the data were made.

    Raises:
        DatasetError: it is a different map altogether, or no table.
    """
    specs = dataset.env_spec, dataset._eval_env_spec
    maps = [spec.kwargs.get("maze_map") for spec in specs if spec is not None]
    if len(maps) != len(specs) or None in maps:
        return False
    try:
        made, evaluated = (np.array([[cell == 1 for cell in row] for row in each]) for each in maps)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"{dataset.id} records a maze_map that is no table ({error}); name the environment in "
            "the configuration (environment)."
        ) from error
    if np.array_equal(made, evaluated):
        return False
    if np.array_equal(made, np.fliplr(evaluated)):
        return True
    raise DatasetError(
        f"{dataset.id} was recorded in another maze than its evaluation environment has; "
        "name the environment in the configuration (environment)."
    )


def _importable_id(environment_id: str, entry_point: str) -> str:
    """The id, prefixed with its package unless importing `iqlft_workers` registers it."""
    package = entry_point.partition(":")[0].partition(".")[0]
    own = package in {"gymnasium", "iqlft_workers"} or ":" in environment_id
    return environment_id if own else f"{package}:{environment_id}"


def evaluation_goal(spec: EnvironmentSpec) -> tuple[EnvironmentSpec, Goal]:
    """A spec whose episodes end at the single evaluation goal, and that goal.

    Args:
        spec: of an environment with `evaluation_goal` and `success_radius`, or of one of
            Gymnasium-Robotics' mazes with a single goal cell. Those mazes draw the goal around the
            cell's centre; the returned spec keeps it at the centre.

    Raises:
        DatasetError: the environment has no single evaluation goal, or defines no success radius.
    """
    environment = environments.make(spec)
    environment.close()
    goal, raw = goal_in(environment), environment.unwrapped
    if goal is None:
        raise DatasetError(
            f"{spec.id} has no single evaluation goal to relabel rewards to; "
            "use the goal mode `observed` or `stored`."
        )
    if getattr(raw, "continuing_task", False):
        spec = ends_at_success(spec)
    if hasattr(raw, "evaluation_goal"):
        return spec, goal
    steps = environment.spec.max_episode_steps if environment.spec is not None else None
    kwargs = {**spec.kwargs, "maze_id": spec.id, KEY: steps}
    return dataclasses.replace(spec, id=FIXED_GOAL_MAZE, kwargs=kwargs, entry_point=""), goal


def goal_in(environment: gymnasium.Env[Any, Any]) -> Goal | None:
    """An environment's single evaluation goal; None if there are several or none.

    Raises:
        DatasetError: the environment defines no success radius.
    """
    raw: Any = environment.unwrapped
    if hasattr(raw, "evaluation_goal"):
        return Goal(np.asarray(raw.evaluation_goal, np.float64), required_radius(environment))
    locations: list[Any] = getattr(getattr(raw, "maze", None), "unique_goal_locations", [])
    if len(locations) != 1:
        return None
    return Goal(np.asarray(locations[0], np.float64), required_radius(environment))


def success_radius(environment: gymnasium.Env[Any, Any]) -> float | None:
    """The distance within which an environment counts a goal as reached; None if not known.

    It is the attribute `success_radius` or `distance_threshold`, unless a rotation counts too;
    Gymnasium-Robotics' mazes have neither, but their radius is known.
    """
    raw: Any = environment.unwrapped
    if hasattr(raw, "rotation_threshold"):
        return None
    for name in ("success_radius", "distance_threshold"):
        radius = getattr(raw, name, None)
        if isinstance(radius, (int, float, np.number)) and 0 < radius < math.inf:
            return float(radius)
    modules = (each.__module__ for each in type(raw).__mro__)
    is_maze = any(each.startswith("gymnasium_robotics.envs.maze.") for each in modules)
    return ROBOTICS_SUCCESS_RADIUS if is_maze else None


def required_radius(environment: gymnasium.Env[Any, Any]) -> float:
    """The success radius of an environment.

    Raises:
        DatasetError: it defines none.
    """
    radius = success_radius(environment)
    if radius is None:
        name = environment.spec.id if environment.spec is not None else environment.unwrapped
        raise DatasetError(
            f"{name} does not say how near to a goal counts as there (an attribute success_radius "
            "or distance_threshold), so success cannot be told from the data; say --goal stored, "
            "or --goal observed with --after-success keep."
        )
    return radius


def ends_at_success(spec: EnvironmentSpec) -> EnvironmentSpec:
    """The spec of the same maze, in which success ends an episode."""
    return dataclasses.replace(spec, kwargs={**spec.kwargs, "continuing_task": False})
