"""An environment with FrankaKitchen's nested observations, for where that one does not run.

Gymnasium-Robotics 1.4.2 asks whether a joint's type, a NumPy integer, is one of MuJoCo's joint
types; MuJoCo 4.0 compares its enumerators with Python integers only, so that every FrankaKitchen
fails to construct. Importing this module registers the environment, in a worker process too.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

ID = "KitchenForm-v0"
TASKS = {"kettle": 7, "light switch": 2, "microwave": 1, "slide cabinet": 1}
"""The tasks of kitchen-complete, and how many values describe each."""
THRESHOLD = 0.3
"""Distance within which a task counts as finished."""

Observation = dict[str, Any]


class KitchenForm(gymnasium.Env[Observation, NDArray[np.float64]]):
    """Nine joints, told where to go; the values of the first tasks follow the first joints.

    Args:
        remove_task_when_completed: pays for a task once, not at every step from then on.
        terminate_on_tasks_completed: ends the episode when every task has been finished.
        render_mode: for the sake of the interface.
    """

    def __init__(
        self,
        remove_task_when_completed: bool = True,
        terminate_on_tasks_completed: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self._once, self._terminates = remove_task_when_completed, terminate_on_tasks_completed
        self.render_mode = render_mode
        self._finished: set[str] = set()
        self.action_space = spaces.Box(-1.0, 1.0, (9,), np.float64)
        goals: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-np.inf, np.inf, (width,), np.float64) for name, width in TASKS.items()
        }
        self.observation_space = spaces.Dict(
            observation=spaces.Box(-np.inf, np.inf, (59,), np.float64),
            achieved_goal=spaces.Dict(goals),
            desired_goal=spaces.Dict(goals),
        )
        self._joints = np.zeros(9)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._joints = self.np_random.uniform(-0.1, 0.1, 9)
        self._finished = set()
        return self._observe(), {}

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._joints = np.clip(self._joints + 0.1 * action, -1, 1)
        observation = self._observe()
        achieved, desired = observation["achieved_goal"], observation["desired_goal"]
        reached = {
            name for name in TASKS if np.linalg.norm(achieved[name] - desired[name]) < THRESHOLD
        }
        reward = len(reached - self._finished) if self._once else len(reached)
        self._finished |= reached
        terminated = self._terminates and len(self._finished) == len(TASKS)
        return observation, float(reward), terminated, False, {}

    def _observe(self) -> Observation:
        return {
            "observation": np.concatenate((self._joints, np.zeros(50))),
            "achieved_goal": {
                name: np.full(width, self._joints[index])
                for index, (name, width) in enumerate(TASKS.items())
            },
            "desired_goal": {name: np.full(width, 0.5) for name, width in TASKS.items()},
        }


if ID not in gymnasium.registry:
    gymnasium.register(ID, "nested_environment:KitchenForm", max_episode_steps=280)
