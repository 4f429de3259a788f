"""Who acts while small datasets are recorded, and how episodes become Minari's buffers."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

from iqlft.datasets.antmaze.gait import Gait

Observation = Any
Environment = gymnasium.Env[Any, Any]
Policy = Callable[[Observation], NDArray[Any]]
"""Chooses an action from an observation as the environment gives it."""
PolicyMaker = Callable[[Environment, int], Policy]
"""Makes a policy for an environment, from a seed."""
Infos = Callable[[Observation, dict[str, Any]], dict[str, Any]]
"""Chooses what of an observation and its info is stored."""
Cell = tuple[int, int]

# -- behaviour ----------------------------------------------------------------------------------


def smooth_noise(environment: Environment, seed: int) -> Policy:
    """Random actions that change slowly, so that they move more than white noise would."""
    space: Any = environment.action_space
    rng = np.random.default_rng(seed)
    noise = np.zeros(space.shape)

    def act(_: Observation) -> NDArray[Any]:
        noise[:] = 0.9 * noise + 0.4 * rng.standard_normal(space.shape)
        centre, half_range = (space.high + space.low) / 2, (space.high - space.low) / 2
        action: NDArray[Any] = centre + half_range * np.clip(noise, -1, 1)
        return action.astype(space.dtype)

    return act


class Waypoints:
    """The way through a maze: the next cell on a shortest path, or the goal in its own cell.

    Args:
        environment: a PointMaze or an AntMaze.
    """

    def __init__(self, environment: Environment) -> None:
        self._maze: Any = environment.unwrapped.maze  # type: ignore[attr-defined]
        self._tables: dict[Cell, dict[Cell, Cell]] = {}

    def offset(self, observation: Observation) -> NDArray[np.float64]:
        """From where the agent is to where it goes next, `(2,)` in metres."""
        position, goal = observation["achieved_goal"], observation["desired_goal"]
        cell, goal_cell = self._cell(position), self._cell(goal)
        target = goal
        if cell != goal_cell:
            target = self._maze.cell_rowcol_to_xy(self._next_cell(cell, goal_cell))
        difference: NDArray[np.float64] = target - position
        return difference

    def _cell(self, position: NDArray[np.float64]) -> Cell:
        row, column = self._maze.cell_xy_to_rowcol(position)
        return int(row), int(column)

    def _next_cell(self, cell: Cell, goal: Cell) -> Cell:
        """The cell after `cell` on the way, from a table that is filled once per goal cell."""
        if goal not in self._tables:
            table, frontier = {goal: goal}, deque([goal])
            while frontier:
                row, column = reached = frontier.popleft()
                for side in ((0, -1), (0, 1), (1, 0), (-1, 0)):
                    near = (row + side[0], column + side[1])
                    if near not in table and self._maze.maze_map[near[0]][near[1]] != 1:
                        table[near] = reached
                        frontier.append(near)
            self._tables[goal] = table
        return self._tables[goal].get(cell, goal)


def drive_point(environment: Environment, noise: NDArray[np.float64]) -> Policy:
    """A controller that drives the point to its goal.

    Args:
        environment: a PointMaze.
        noise: `(T, 2)`, added to the actions of T steps.
    """
    waypoints, each = Waypoints(environment), iter(noise)

    def act(observation: Observation) -> NDArray[np.float32]:
        velocity = observation["observation"][2:]
        force = 10 * waypoints.offset(observation) - velocity + next(each)
        clipped: NDArray[np.float32] = np.clip(force, -1, 1).astype(np.float32)
        return clipped

    return act


STOCK_ANT_ACTION = 0.2
"""Gymnasium's ant has five times the torque of D4RL's: a fifth of an action does the same."""


def walk_stock_ant(environment: Environment, seed: int, gait: Gait) -> Policy:
    """A gait of D4RL's ant that walks Gymnasium's to its goal, and then about it.

    Args:
        environment: an AntMaze.
        seed: of gait and noise.
        gait: walks in a given direction; its own noise is added.
    """
    waypoints, rng = Waypoints(environment), np.random.default_rng(seed)

    def act(observation: Observation) -> NDArray[np.float32]:
        offset = waypoints.offset(observation)
        direction = gait.direction_scale * offset / max(float(np.linalg.norm(offset)), 1e-6)
        inputs = np.concatenate([observation["observation"], direction]).astype(np.float32)
        normals = rng.standard_normal((2, 8), np.float32)
        action = gait.sample(inputs, normals[0]) + np.float32(gait.noise) * normals[1]
        scaled: NDArray[np.float32] = np.float32(STOCK_ANT_ACTION) * np.clip(action, -1, 1)
        return scaled

    return act


# -- episodes -----------------------------------------------------------------------------------


class _Tape:
    """An episode under way, as it will be stored.

    Args:
        observation: the first one.
        info: of the reset.
        infos: chooses what of it is stored.
    """

    def __init__(self, observation: Observation, info: dict[str, Any], infos: Infos) -> None:
        self._infos = infos
        self._observations, self._stored = [observation], [infos(observation, info)]
        self._actions: list[NDArray[Any]] = []
        self._outcomes: list[tuple[float, bool, bool]] = []

    def add(
        self,
        action: NDArray[Any],
        observation: Observation,
        outcome: tuple[float, bool, bool],
        info: dict[str, Any],
    ) -> None:
        """Appends a step; its outcome is reward, terminated, truncated."""
        self._actions.append(action)
        self._observations.append(observation)
        self._outcomes.append(outcome)
        self._stored.append(self._infos(observation, info))

    def buffer(
        self, index: int, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> EpisodeBuffer:
        """What Minari stores."""
        rewards, terminations, truncations = (
            np.array(column) for column in zip(*self._outcomes, strict=True)
        )
        return EpisodeBuffer(
            id=index,
            seed=seed,
            options=options,
            observations=_stack(self._observations),
            actions=np.stack(self._actions),
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            infos=_stack(self._stored) or None,
        )


def _stack(values: list[Any]) -> Any:  # noqa: ANN401
    """One array for a list of arrays or numbers; a mapping of such for a list of mappings."""
    if isinstance(values[0], Mapping):
        return {key: _stack([each[key] for each in values]) for key in values[0]}
    return np.array(values)


def whole_episode(
    environment: Environment,
    policy: Policy,
    index: int,
    seed: int,
    infos: Infos,
    options: dict[str, Any] | None = None,
) -> EpisodeBuffer:
    """Episode number `index`, from a reset with seed and options to its end."""
    observation, info = environment.reset(seed=seed, options=options)
    tape = _Tape(observation, info, infos)
    ended = False
    while not ended:
        action = policy(observation)
        observation, reward, terminated, truncated, info = environment.step(action)
        tape.add(action, observation, (float(reward), terminated, truncated), info)
        ended = terminated or truncated
    return tape.buffer(index, seed, options)


def whole_episodes(
    environment: Environment, transitions: int, seed: int, infos: Infos
) -> list[EpisodeBuffer]:
    """Episodes of smoothed noise, until there are enough transitions."""
    policy = smooth_noise(environment, seed)
    buffers: list[EpisodeBuffer] = []
    while sum(len(each) for each in buffers) < transitions:
        index = len(buffers)
        buffers.append(whole_episode(environment, policy, index, seed + index, infos))
    return buffers


def unbroken_episodes(
    environment: Environment, policy: Policy, transitions: int, seed: int, infos: Infos
) -> list[EpisodeBuffer]:
    """One long walk, cut where a goal is reached; each episode begins where the last one ended."""
    observation, info = environment.reset(seed=seed)
    buffers: list[EpisodeBuffer] = []
    tape = _Tape(observation, info, infos)
    for step in range(1, transitions + 1):
        action = policy(observation)
        observation, reward, terminated, _, info = environment.step(action)
        cut = bool(info["success"]) or step == transitions
        tape.add(action, observation, (float(reward), terminated, cut), info)
        if cut:
            buffers.append(tape.buffer(len(buffers)))
            tape = _Tape(observation, info, infos)
    return buffers


# -- infos --------------------------------------------------------------------------------------


def nothing(_observation: Observation, _info: dict[str, Any]) -> dict[str, Any]:
    """No infos."""
    return {}


def success(_: Observation, info: dict[str, Any]) -> dict[str, Any]:
    """Success alone; a reset that does not report it is none."""
    return {"success": bool(info.get("success", False))}


def maze_state(joints: int) -> Infos:
    """The infos of the published mazes: the simulator's state and the goal, beside success.

    Args:
        joints: how many leading values of `observation` are positions; the ant's lacks x and y.
    """

    def choose(observation: Observation, info: dict[str, Any]) -> dict[str, Any]:
        qpos, qvel = np.split(observation["observation"], [joints])
        place, goal = observation["achieved_goal"], observation["desired_goal"]
        if joints > len(place):
            qpos = np.concatenate((place, qpos))
        return {**success(observation, info), "qpos": qpos, "qvel": qvel, "goal": goal}

    return choose
