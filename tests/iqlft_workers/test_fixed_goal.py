"""A maze of Gymnasium-Robotics whose goal stays at its cell's centre."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqlft_workers.environment import Environment, EnvironmentSpec, make
from iqlft_workers.errors import UserError
from iqlft_workers.registration import FIXED_GOAL_MAZE

CORRIDOR = [[1, 1, 1, 1, 1], [1, "r", 0, "g", 1], [1, 1, 1, 1, 1]]
KWARGS: dict[str, Any] = {
    "maze_id": "gymnasium_robotics:AntMaze_UMaze-v4",
    "maze_map": CORRIDOR,
    "continuing_task": False,
    "max_episode_steps": 5,
}
KEYS = ("achieved_goal", "observation", "desired_goal")


def spec(**changes: Any) -> EnvironmentSpec:  # noqa: ANN401
    return EnvironmentSpec(FIXED_GOAL_MAZE, KWARGS | changes, KEYS)


def test_every_episode_has_the_goal_at_the_centre_of_its_cell() -> None:
    environment = make(spec())
    for seed in range(3):
        observation, info = environment.reset(seed=seed)
        # Cells of 4 m around the maze's middle: the third of three free cells is at x = 4.
        np.testing.assert_array_equal(observation["desired_goal"], [4, 0])
        assert not info["success"]
        observation = environment.step(environment.action_space.sample())[0]
        np.testing.assert_array_equal(observation["desired_goal"], [4, 0])
    environment.close()


def test_success_ends_the_episode_there() -> None:
    environment = make(spec())
    environment.reset(seed=0)
    ant: Any = environment.unwrapped
    qpos = ant.data.qpos.copy()
    qpos[:2] = [3.8, 0.1]
    ant.ant_env.set_state(qpos, np.zeros(14))
    _, reward, terminated, truncated, info = environment.step(np.zeros(8, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    environment.close()


def test_the_time_limit_is_the_spec_s_and_observations_are_29_or_31_wide() -> None:
    environment = Environment(spec())
    assert environment.observation_dim == 31
    environment.reset(seed=0)
    steps = [environment.step(np.zeros(8, np.float32)) for _ in range(5)]
    assert [step.truncated for step in steps] == [False] * 4 + [True]
    environment.close()


def test_no_maze_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make(spec()).close()
    assert list(tmp_path.iterdir()) == []


def test_a_maze_with_several_goal_cells_is_refused() -> None:
    free = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    with pytest.raises(UserError, match="has 3 goal cells; mark a single one"):
        make(spec(maze_map=free))
