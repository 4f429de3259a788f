"""A Gymnasium-Robotics maze with one goal: the very centre of its goal cell.

The mazes of Gymnasium-Robotics draw the goal anew at every reset, up to a quarter of a cell from
the cell's centre in x and in y. An actor that does not observe the goal, as in D4RL's task, can
only be asked to reach one place: the goal that its dataset was relabelled to.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from iqlft_workers.errors import UserError
from iqlft_workers.registration import any_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROBOTICS_SUCCESS_RADIUS = 0.45
"""Success radius of Gymnasium-Robotics' mazes in metres, which they do not expose."""


class FixedGoalMaze(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A maze of Gymnasium-Robotics whose goal stays where it is.

    Args:
        maze_id: Gymnasium id of the maze, such as `gymnasium_robotics:AntMaze_UMaze-v4`.
        render_mode: the maze's.
        kwargs: the maze's other arguments; its `maze_map` has a single goal cell, `g`.

    Raises:
        UserError: the maze has no goal cell, or several.
    """

    def __init__(self, maze_id: str, render_mode: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(_construct(maze_id, render_mode, kwargs))
        locations = self.unwrapped.maze.unique_goal_locations  # type: ignore[attr-defined]
        if len(locations) != 1:
            raise UserError(
                f"{maze_id} has {len(locations)} goal cells; mark a single one with `g` in its "
                "maze_map to have one goal."
            )
        self.evaluation_goal: NDArray[np.float64] = np.array(locations[0], np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """Starts an episode in the maze, and puts the goal back at the centre of its cell."""
        observation, info = self.env.reset(seed=seed, options=options)
        maze: Any = self.unwrapped
        maze.goal = self.evaluation_goal.copy()
        maze.update_target_site_pos()
        distance = np.linalg.norm(observation["achieved_goal"] - maze.goal)
        observation = {**observation, "desired_goal": maze.goal.copy()}
        return observation, {**info, "success": bool(distance <= ROBOTICS_SUCCESS_RADIUS)}


def _construct(
    maze_id: str, render_mode: str | None, kwargs: dict[str, Any]
) -> gymnasium.Env[Any, Any]:
    """The bare maze; the time limit and the checks belong to the environment around it."""
    module, _, name = maze_id.rpartition(":")
    if module:
        importlib.import_module(module)  # It registers its ids.
    with any_version():
        spec = gymnasium.spec(name)
    entry_point: Any = spec.entry_point
    create = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    environment: Any = create(**{**spec.kwargs, **kwargs}, render_mode=render_mode)
    made: gymnasium.Env[Any, Any] = environment
    return made
