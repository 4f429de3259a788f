"""Runs one episode, saves it as a shard and loads it again.

Generating processes need only this module, so it imports neither Minari nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np

import iqlft_workers  # noqa: F401  # registers the environments
from iqlft.datasets.antmaze.planner import Behaviour, Planner
from iqlft.datasets.antmaze.tasks import AntMazeTask, choose_cells
from iqlft_workers.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from iqlft.datasets.antmaze.gait import Gait


class Episode(NamedTuple):
    """T transitions and the T+1 states around them.

    Attributes:
        seed: `()`: seed of the environment's reset.
        start: `(2,)` float64: where the ant was put, or NaN for the environment's own start.
        goal_cell: `(2,)` int64: the cell of the commanded goal.
        qpos: `(T+1, 15)` float64.
        qvel: `(T+1, 14)` float64.
        goal: `(T+1, 2)` float64: the commanded goal.
        success: `(T+1,)` bool: whether within the success radius of the commanded goal.
        actions: `(T, 8)` float32.
        rewards: `(T,)` float64: for the commanded goal.
    """

    seed: NDArray[np.int64]
    start: NDArray[np.float64]
    goal_cell: NDArray[np.int64]
    qpos: NDArray[np.float64]
    qvel: NDArray[np.float64]
    goal: NDArray[np.float64]
    success: NDArray[np.bool_]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]

    @property
    def observations(self) -> dict[str, NDArray[np.float64]]:
        """The environment's Dict observations, computed from state and goal."""
        return {
            "observation": np.concatenate((self.qpos[:, 2:], self.qvel), axis=-1),
            "achieved_goal": self.qpos[:, :2],
            "desired_goal": self.goal,
        }


def make_environment(task: AntMazeTask) -> gymnasium.Env[Any, Any]:
    """The environment in which a task's data are generated; success does not end an episode."""
    return gymnasium.make(
        task.environment_id,
        continuing_task=True,
        max_episode_steps=task.episode_steps,
        disable_env_checker=True,
    )


class EpisodeMaker:
    """Runs episodes of a task, each determined by the seed and its index alone.

    Args:
        task: the task.
        gait: the ant's policy.
        noise: standard deviation of the action noise.
        seed: seed of the whole dataset.
    """

    def __init__(self, task: AntMazeTask, gait: Gait, noise: float, seed: int) -> None:
        self._task, self._gait, self._noise, self._seed = task, gait, noise, seed
        self._environment = make_environment(task)
        self._maze = self._environment.unwrapped.maze  # type: ignore[attr-defined]
        self._planner = Planner(self._maze)
        self._starts = choose_cells(task.starts, self._maze)
        self._goals = choose_cells(task.goals, self._maze)

    def run(self, index: int) -> Episode:
        """Runs the episode with the given index."""
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(index,)))
        seed = int(rng.integers(2**31))
        start = self._draw_start(rng)
        goal_cell = np.array(self._goals[rng.integers(len(self._goals))])
        observation, info = self._environment.reset(
            seed=seed, options=reset_options(start, goal_cell)
        )
        steps = self._task.episode_steps
        behaviour = Behaviour(
            self._planner, self._maze, self._gait, self._noise, info["goal"], steps, rng
        )
        actions, rewards, infos = np.empty((steps, 8), np.float32), np.empty(steps), [info]
        for step in range(steps):
            actions[step] = behaviour.act(observation, step)
            observation, rewards[step], _, _, info = self._environment.step(actions[step])
            infos.append(info)
        states = {key: np.array([i[key] for i in infos]) for key in info}
        return Episode(np.array(seed), start, goal_cell, **states, actions=actions, rewards=rewards)

    def _draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """A start cell's centre + U(0, 1)^2, as in D4RL; NaN for the environment's own start."""
        if not self._starts:
            return np.full(2, np.nan)
        cell = self._starts[rng.integers(len(self._starts))]
        centre: NDArray[np.float64] = self._maze.cell_rowcol_to_xy(cell)
        return centre + rng.random(2)

    def close(self) -> None:
        """Frees the simulator."""
        self._environment.close()


def reset_options(
    start: NDArray[np.float64], goal_cell: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The options of `reset` for an episode, which are recorded with it."""
    options: dict[str, NDArray[Any]] = {"goal_cell": goal_cell}
    return options if np.isnan(start).any() else options | {"start": start}


def save_episode(episode: Episode, path: Path) -> None:
    """Writes a shard, completely or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **episode._asdict())


def load_episode(path: Path) -> Episode:
    """Reads a shard."""
    with np.load(path, allow_pickle=False) as file:
        return Episode(**{key: file[key] for key in file.files})
