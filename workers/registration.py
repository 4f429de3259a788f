"""Gymnasium ids of our environments; light, for it runs whenever `workers` is imported.

Only entry points are registered: MuJoCo and Gymnasium-Robotics load with the first environment.
A process that has not imported `workers` reaches them as `gymnasium.make("workers:iqlft/...")`,
and a Minari dataset's recorded spec needs no registration at all, for it names the entry point.
"""

import contextlib
import warnings
from collections.abc import Iterator

from gymnasium.envs import registration

FIXED_GOAL_MAZE = "iqlft/FixedGoalMaze-v0"
"""Id of the Gymnasium-Robotics mazes with one goal, see `workers.fixed_goal`."""

EPISODE_STEPS = {"UMaze": 700, "Medium": 1000, "Large": 1000, "Corner": 300}
"""Time limit of each maze in steps: D4RL's, and that of the small maze for demonstrations."""


def register() -> None:
    """Registers the environments; calling it again changes nothing."""
    for maze, steps in EPISODE_STEPS.items():
        if (id_ := f"iqlft/AntMaze-{maze}-v0") not in registration.registry:
            registration.register(
                id_,
                entry_point="workers.antmaze:AntMazeEnv",
                max_episode_steps=steps,
                kwargs={"maze": maze},
            )
    if FIXED_GOAL_MAZE not in registration.registry:
        registration.register(FIXED_GOAL_MAZE, entry_point="workers.fixed_goal:FixedGoalMaze")


@contextlib.contextmanager
def any_version() -> Iterator[None]:
    """Within it, Gymnasium does not advise against ids of older versions.

    Data belong to the version in which they were recorded, whether there is a newer one or not.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is out of date.*", DeprecationWarning)
        yield
