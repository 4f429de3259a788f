"""AntMaze as D4RL made it, on Gymnasium-Robotics' maze environment and Gymnasium's ant.

Physics, mazes, coordinates and the success radius are in `mazes`; resets, goals and rewards here. A
goal's box lies on the positive side of its cell's centre on both axes, as in D4RL, and so always on
the side away from the start corner.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.utils import EzPickle
from gymnasium_robotics.envs.maze.maze_v4 import MazeEnv

from iqlft_workers.mazes import (
    CELL_SIZE,
    D4RL_SUCCESS_RADIUS,
    FRAME_SKIP,
    MAZES,
    Cell,
    D4RLMaze,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESET_NOISE = 0.1
"""Half width of the uniform noise on positions; standard deviation of the noise on velocities."""
GOAL_BOX = 1.5
"""A goal is its cell's centre + U(0, 1) + U(0, 0.5) per axis: a box of this edge, in metres."""


class _Ant(AntEnv):
    """Gymnasium's ant environment around a model built in memory instead of an XML file."""

    def __init__(self, spec: mujoco.MjSpec, **kwargs: Any) -> None:  # noqa: ANN401
        self._mj_spec = spec
        super().__init__(include_cfrc_ext_in_observation=False, frame_skip=FRAME_SKIP, **kwargs)

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = self._mj_spec.compile()
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)


class AntMazeEnv(MazeEnv, EzPickle):  # type: ignore[misc]  # the base class is untyped
    """An ant that walks to a goal in a maze; reward 1 within 0.5 m of it, else 0.

    Observations are float64: `observation` (27: height, orientation, joints and all velocities),
    `achieved_goal` (2: the ant's x, y) and `desired_goal` (2). Reset and step return the infos
    `success`, `qpos` (15), `qvel` (14) and `goal` (2). The ant starts at the start cell and its
    goal lies in the evaluation cell's box, unless `reset` is told otherwise; falling never ends
    an episode.

    Args:
        maze: a name in `MAZES`.
        continuing_task: whether an episode goes on after success, until its time limit.
        render_mode: None, `human`, `rgb_array` or `depth_array`.
        kwargs: rendering options of Gymnasium's `MujocoEnv`, such as `width` and `height`.
    """

    metadata = {  # noqa: RUF012  # Gymnasium declares it so
        "render_modes": ["human", "rgb_array", "depth_array"],
        "render_fps": 10,
    }
    success_radius = D4RL_SUCCESS_RADIUS
    cell_size = CELL_SIZE

    def __init__(
        self,
        maze: str = "UMaze",
        continuing_task: bool = False,
        render_mode: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        EzPickle.__init__(self, maze, continuing_task, render_mode, **kwargs)
        # MazeEnv.__init__ would write the maze to a temporary XML file and leave it behind.
        self.maze = D4RLMaze(MAZES[maze])
        self.reward_type, self.reset_target = "sparse", False
        self.continuing_task, self.render_mode = continuing_task, render_mode
        self.ant_env: Any = _Ant(
            self.maze.build(),
            render_mode=render_mode,
            default_camera_config=kwargs.pop("default_camera_config", self._camera()),
            **kwargs,
        )
        self.action_space = self.ant_env.action_space
        self.observation_space = spaces.Dict(
            {
                "observation": spaces.Box(-np.inf, np.inf, (27,), np.float64),
                "achieved_goal": spaces.Box(-np.inf, np.inf, (2,), np.float64),
                "desired_goal": spaces.Box(-np.inf, np.inf, (2,), np.float64),
            }
        )
        self._target = self.model.site("target").id
        self.goal: NDArray[np.float64] = self.evaluation_goal

    def _camera(self) -> dict[str, Any]:
        """A view of the whole maze from above."""
        rows = self.maze.layout.rows
        centre = self.maze.cell_rowcol_to_xy(((len(rows) - 1) / 2, (len(rows[0]) - 1) / 2))
        distance = 1.25 * CELL_SIZE * max(len(rows), len(rows[0]))
        return {"distance": distance, "elevation": -75.0, "lookat": np.array([*centre, 0.0])}

    @property
    def model(self) -> Any:  # noqa: ANN401
        """The MuJoCo model."""
        return self.ant_env.model

    @property
    def data(self) -> Any:  # noqa: ANN401
        """The MuJoCo state."""
        return self.ant_env.data

    @property
    def maze_map(self) -> tuple[str, ...]:
        """The maze's rows; see `MazeLayout`."""
        return self.maze.layout.rows

    @property
    def evaluation_goal(self) -> NDArray[np.float64]:
        """Centre `(2,)` of the box of evaluation goals: what datasets are relabelled to."""
        centre: NDArray[np.float64] = self.maze.cell_rowcol_to_xy(self.maze.layout.goal)
        return centre + GOAL_BOX / 2

    def draw_goal(self, cell: Cell) -> NDArray[np.float64]:
        """A goal `(2,)` in the box of a cell, from the environment's generator."""
        centre: NDArray[np.float64] = self.maze.cell_rowcol_to_xy(cell)
        rng: np.random.Generator = self.np_random
        return centre + rng.uniform(0, 1, 2) + rng.uniform(0, 0.5, 2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: seeds the environment's generator.
            options: `reset_cell`: (row, column) to start from; `start`: the exact (x, y) to
                start from; `goal_cell`: (row, column) in whose box the goal is drawn; `goal`:
                the goal's exact (x, y).

        Returns:
            The first observation and infos.

        Raises:
            ValueError: an unknown option, or a cell that is a wall or outside the maze.
        """
        super(MazeEnv, self).reset(seed=seed)
        options = dict(options or {})
        reset_cell = self._free_cell(options.pop("reset_cell", self.maze.start))
        goal_cell = self._free_cell(options.pop("goal_cell", self.maze.layout.goal))
        start, goal = options.pop("start", None), options.pop("goal", None)
        if options:
            raise ValueError(
                f"Unknown reset options {sorted(options)}; "
                "known are reset_cell, start, goal_cell, goal."
            )
        self.goal = self.draw_goal(goal_cell) if goal is None else np.array(goal, np.float64)
        self.update_target_site_pos()
        self._place_ant(self.maze.cell_rowcol_to_xy(reset_cell), start)
        if self.render_mode == "human":
            self.render()
        return self._observe()

    def _free_cell(self, cell: Any) -> Cell:  # noqa: ANN401
        row, column = (int(value) for value in cell)
        if (row, column) not in self.maze.free_cells:
            raise ValueError(f"The cell {(row, column)} is a wall or outside the maze.")
        return row, column

    def _place_ant(self, centre: NDArray[np.float64], exact: Any) -> None:  # noqa: ANN401
        ant, rng = self.ant_env, self.np_random
        mujoco.mj_resetData(ant.model, ant.data)
        qpos = ant.init_qpos + rng.uniform(-RESET_NOISE, RESET_NOISE, ant.model.nq)
        qpos[:2] = centre + qpos[:2] if exact is None else exact
        ant.set_state(qpos, ant.init_qvel + RESET_NOISE * rng.standard_normal(ant.model.nv))

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.float64]], float, bool, bool, dict[str, Any]]:
        """Holds an action `(8,)` in [-1, 1] for 0.1 s."""
        self.ant_env.do_simulation(action, FRAME_SKIP)
        if self.render_mode == "human":
            self.render()
        observation, info = self._observe()
        success = info["success"]
        return observation, float(success), success and not self.continuing_task, False, info

    def _observe(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        data = self.ant_env.data
        qpos, qvel, goal = data.qpos.copy(), data.qvel.copy(), self.goal
        distance = math.hypot(qpos[0] - goal[0], qpos[1] - goal[1])
        observation = {
            "observation": np.concatenate((qpos[2:], qvel)),
            "achieved_goal": qpos[:2].copy(),
            "desired_goal": goal.copy(),
        }
        success = distance <= D4RL_SUCCESS_RADIUS
        return observation, {"success": success, "qpos": qpos, "qvel": qvel, "goal": goal.copy()}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:  # noqa: ANN401, ARG002
        """1 where an achieved goal `(..., 2)` is within the radius of the desired one, else 0."""
        distance = np.linalg.norm(np.subtract(achieved_goal, desired_goal), axis=-1)
        return (distance <= D4RL_SUCCESS_RADIUS).astype(np.float64)

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:  # noqa: ANN401
        """Whether success ends the episode here."""
        success = bool(self.compute_reward(achieved_goal, desired_goal, info))
        return success and not self.continuing_task

    def update_target_site_pos(self, pos: Any = None) -> None:  # noqa: ANN401, ARG002
        """Moves the visible marker to the goal."""
        self.model.site_pos[self._target] = [*self.goal, D4RL_SUCCESS_RADIUS]

    def render(self) -> Any:  # noqa: ANN401
        """A frame, as the render mode says."""
        return self.ant_env.render()

    def close(self) -> None:
        """Frees the simulator and its windows."""
        self.ant_env.close()
