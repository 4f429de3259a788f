"""Gymnasium ids of our environments; light, as it runs whenever `iqlft_workers` is imported.

Only entry points are registered: MuJoCo and Gymnasium-Robotics load with the first environment.
Without that import, `gymnasium.make("iqlft_workers:iqlft/...")` reaches the environments. A Minari
dataset's recorded spec needs no registration at all, because it names the entry point.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterator

from gymnasium.envs import registration

from iqlft_workers.versions import silence_notices

FIXED_GOAL_MAZE = "iqlft/FixedGoalMaze-v0"
"""Id of the Gymnasium-Robotics mazes with one goal, see `iqlft_workers.fixed_goal`."""

EPISODE_STEPS = {"UMaze": 700, "Medium": 1000, "Large": 1000, "Corner": 300}
"""Time limit of each maze in steps: D4RL's, and our own for `Corner`, a maze for demonstrations."""


def register() -> None:
    """Registers the environments; calling it again changes nothing."""
    silence_notices()
    for maze, steps in EPISODE_STEPS.items():
        if (id_ := f"iqlft/AntMaze-{maze}-v0") not in registration.registry:
            registration.register(
                id_,
                entry_point="iqlft_workers.antmaze:AntMazeEnv",
                max_episode_steps=steps,
                kwargs={"maze": maze},
            )
    if FIXED_GOAL_MAZE not in registration.registry:
        registration.register(FIXED_GOAL_MAZE, entry_point="iqlft_workers.fixed_goal:FixedGoalMaze")


def current_module(name: str) -> str:
    """A recorded name, with its module as that is called today.

    Datasets and runs record where their environment is: `module:Class` as an entry point,
    `module:id` as a Gymnasium id. Until 0.1 this package was called `workers`.
    """
    module, colon, rest = name.partition(":")
    package, dot, submodule = module.partition(".")
    return name if package != "workers" else f"iqlft_workers{dot}{submodule}{colon}{rest}"


def current_spec(spec: registration.EnvSpec) -> registration.EnvSpec:
    """A recorded spec whose entry point can be imported today."""
    if not isinstance(spec.entry_point, str):
        return spec
    renamed = copy.copy(spec)
    renamed.entry_point = current_module(spec.entry_point)
    return renamed


@contextlib.contextmanager
def any_version() -> Iterator[None]:
    """A context in which Gymnasium does not advise against ids of older versions.

    Data belong to the version in which they were recorded, whether or not there is a newer one.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is out of date.*", DeprecationWarning)
        yield
