"""The AntMaze environments have D4RL's physics, resets, goals, radius and limits."""

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.utils.env_checker import check_env

import iqlft_workers
from iqlft_workers.antmaze import AntMazeEnv
from iqlft_workers.mazes import MAZES
from iqlft_workers.registration import EPISODE_STEPS, register


@pytest.fixture
def umaze() -> Iterator[AntMazeEnv]:
    environment = AntMazeEnv("UMaze")
    yield environment
    environment.close()


def put_ant(environment: AntMazeEnv, xy: list[float]) -> None:
    """Moves the ant to (x, y) at rest."""
    qpos = environment.ant_env.init_qpos.copy()
    qpos[:2] = xy
    environment.ant_env.set_state(qpos, np.zeros(14))


def test_the_ant_differs_from_gymnasiums_in_four_values_only(umaze: AntMazeEnv) -> None:
    theirs = AntEnv()
    ours, names = umaze.model, [theirs.model.geom(i).name for i in range(theirs.model.ngeom)]
    assert ours.opt.timestep == 0.02
    assert umaze.ant_env.dt == pytest.approx(0.1)
    assert theirs.model.opt.timestep == 0.01
    assert np.all(ours.actuator_gear[:, 0] == 30)
    assert np.all(theirs.model.actuator_gear[:, 0] == 150)
    np.testing.assert_array_equal(ours.geom_solref, np.tile([0.02, 1], (ours.ngeom, 1)))
    np.testing.assert_array_equal(
        ours.geom_solimp[:, :3], np.tile([0.8, 0.8, 0.01], (ours.ngeom, 1))
    )
    assert ours.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 == theirs.model.opt.integrator
    for field in ("body_mass", "body_inertia", "jnt_range", "dof_damping", "dof_armature"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs.model, field))
    for name in filter(None, names):
        for field in ("size", "friction", "margin", "condim", "contype", "conaffinity"):
            np.testing.assert_array_equal(
                getattr(ours.geom(name), field), getattr(theirs.model.geom(name), field)
            )
    np.testing.assert_array_equal(ours.actuator_ctrlrange, np.tile([-1, 1], (8, 1)))
    theirs.close()


def test_walls_are_boxes_of_four_by_four_by_two_metres_around_the_free_cells(
    umaze: AntMazeEnv,
) -> None:
    walls = {(i, j) for i, row in enumerate(umaze.maze_map) for j, c in enumerate(row) if c == "1"}
    assert len(walls) == 18
    for i, j in walls:
        wall = umaze.model.geom(f"block_{i}_{j}")
        np.testing.assert_allclose(wall.pos, [4 * (j - 1), 4 * (i - 1), 1])
        np.testing.assert_allclose(wall.size, [2, 2, 1])
        assert wall.contype == 1
        assert wall.conaffinity == 1


@pytest.mark.parametrize("maze", MAZES)
def test_every_id_is_registered_with_d4rls_limit_and_observes_27_2_2_values(maze: str) -> None:
    environment = gymnasium.make(f"iqlft/AntMaze-{maze}-v0")
    assert environment.spec.max_episode_steps == {"UMaze": 700, "Corner": 300}.get(maze, 1000)
    space = environment.observation_space
    assert {key: box.shape for key, box in space.items()} == {
        "observation": (27,), "achieved_goal": (2,), "desired_goal": (2,)
    }  # fmt: skip
    environment.close()


def test_registering_twice_warns_of_nothing_and_changes_nothing() -> None:
    before = dict(gymnasium.registry)
    register()
    assert dict(gymnasium.registry) == before
    assert set(EPISODE_STEPS) == set(MAZES)


def test_a_process_that_has_not_imported_the_package_reaches_the_ids_through_it() -> None:
    code = (
        "import gymnasium, sys; gymnasium.make('iqlft_workers:iqlft/AntMaze-Corner-v0');"
        "assert 'torch' not in sys.modules and 'minari' not in sys.modules"
    )
    root = Path(iqlft_workers.__file__).parent.parent
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_hand_picked_goals_are_where_d4rl_has_them() -> None:
    expected = {
        "UMaze": [(3, 1)],
        "Medium": [(2, 6), (5, 1), (6, 5)],
        "Large": [(1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)],
    }
    for maze, goals in expected.items():
        environment = AntMazeEnv(maze)
        assert environment.maze.goal_cells == goals
        environment.close()


def test_an_observation_is_the_whole_state_without_the_position(umaze: AntMazeEnv) -> None:
    observation, info = umaze.reset(seed=3)
    np.testing.assert_array_equal(observation["achieved_goal"], umaze.data.qpos[:2])
    np.testing.assert_array_equal(
        observation["observation"], [*umaze.data.qpos[2:], *umaze.data.qvel]
    )
    np.testing.assert_array_equal(observation["desired_goal"], umaze.goal)
    np.testing.assert_array_equal(info["qpos"], umaze.data.qpos)
    np.testing.assert_array_equal(info["qvel"], umaze.data.qvel)


def test_resets_start_at_the_origin_with_d4rls_noise(umaze: AntMazeEnv) -> None:
    infos = [umaze.reset(seed=seed)[1] for seed in range(300)]
    noise = np.array([info["qpos"] for info in infos]) - umaze.ant_env.init_qpos
    velocities = np.array([info["qvel"] for info in infos])
    assert np.abs(noise).max() <= 0.1
    assert np.abs(noise).max(0).min() > 0.09
    assert np.abs(noise.mean(0)).max() < 0.02
    assert velocities.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    ("maze", "corner"),
    [("UMaze", (0, 8)), ("Medium", (20, 20)), ("Large", (32, 24)), ("Corner", (4, 4))],
)
def test_evaluation_goals_fill_a_box_on_the_side_away_from_the_start(
    maze: str, corner: tuple[int, int]
) -> None:
    environment = AntMazeEnv(maze)
    goals = np.array([environment.reset(seed=seed)[0]["desired_goal"] for seed in range(400)])
    offset = goals - corner
    assert offset.min() >= 0
    assert offset.max() <= 1.5
    assert offset.min() < 0.15
    assert offset.max() > 1.35
    np.testing.assert_allclose(offset.mean(0), 0.75, atol=0.06)
    # U(0, 1) + U(0, 0.5) has the variance (1 + 0.25) / 12 per axis.
    np.testing.assert_allclose(offset.var(0), 1.25 / 12, rtol=0.2)
    np.testing.assert_array_equal(environment.evaluation_goal, np.add(corner, 0.75))
    environment.close()


def test_the_goal_is_drawn_anew_at_each_reset_and_repeats_with_the_seed(umaze: AntMazeEnv) -> None:
    goals = [umaze.reset(seed=seed)[0]["desired_goal"] for seed in (1, None, 1)]
    assert not np.array_equal(goals[0], goals[1])
    np.testing.assert_array_equal(goals[0], goals[2])


@pytest.mark.parametrize(("distance", "expected"), [(0.45, True), (0.55, False)])
def test_success_within_half_a_metre_is_rewarded_and_ends_the_episode(
    umaze: AntMazeEnv, distance: float, expected: bool
) -> None:
    umaze.reset(seed=0)
    umaze.goal = np.array([4.0, 0.0])
    # One step from rest without torque moves the ant by far less than the margin of 5 cm.
    put_ant(umaze, [4.0 - distance, 0.0])
    _, reward, terminated, truncated, info = umaze.step(np.zeros(8, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (
        float(expected), expected, False, expected
    )  # fmt: skip


def test_a_continuing_task_goes_on_after_success() -> None:
    environment = AntMazeEnv("Corner", continuing_task=True)
    environment.reset(seed=0, options={"goal": (0.0, 0.0)})
    _, reward, terminated, _, info = environment.step(np.zeros(8, np.float32))
    assert (reward, terminated, info["success"]) == (1.0, False, True)
    environment.close()


def test_falling_does_not_end_an_episode(umaze: AntMazeEnv) -> None:
    umaze.reset(seed=0)
    qpos = umaze.ant_env.init_qpos.copy()
    qpos[3:7] = [0, 1, 0, 0]  # upside down
    umaze.ant_env.set_state(qpos, np.zeros(14))
    for _ in range(20):
        _, reward, terminated, _, _ = umaze.step(np.zeros(8, np.float32))
        assert (reward, terminated) == (0.0, False)


def test_reset_options_choose_start_and_goal(umaze: AntMazeEnv) -> None:
    observation, _ = umaze.reset(seed=0, options={"reset_cell": (3, 3), "goal_cell": (1, 1)})
    np.testing.assert_allclose(observation["achieved_goal"], [8, 8], atol=0.1)
    assert observation["desired_goal"].min() >= 0
    assert observation["desired_goal"].max() <= 1.5
    observation, _ = umaze.reset(options={"start": (8.25, 4.5), "goal": (0.5, 8)})
    np.testing.assert_array_equal(observation["achieved_goal"], [8.25, 4.5])
    np.testing.assert_array_equal(observation["desired_goal"], [0.5, 8])


@pytest.mark.parametrize(
    "options", [{"goal_cell": (0, 0)}, {"reset_cell": (2, 1)}, {"goal_cell": (9, 9)}, {"gaol": 1}]
)
def test_impossible_reset_options_are_refused(umaze: AntMazeEnv, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"wall or outside|Unknown reset options"):
        umaze.reset(options=options)


def test_positions_and_cells_map_onto_each_other(umaze: AntMazeEnv) -> None:
    for cell in umaze.maze.free_cells:
        centre = umaze.maze.cell_rowcol_to_xy(cell)
        for corner in ((-1.9, -1.9), (1.9, 1.9), (-1.9, 1.9)):
            assert umaze.maze.cell_xy_to_rowcol(centre + corner) == cell


@pytest.mark.parametrize("maze", MAZES)
def test_gymnasiums_checker_passes(maze: str) -> None:
    environment = AntMazeEnv(maze)
    with warnings.catch_warnings():
        # States of a simulator have no bounds; the checker says so of all of Gymnasium's robots.
        warnings.filterwarnings("ignore", ".*Box observation space m.* value is -?infinity")
        check_env(environment, skip_render_check=True)
    environment.close()


def test_building_an_environment_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    AntMazeEnv("Medium").close()
    assert list(tmp_path.iterdir()) == []


def test_the_marker_stands_at_the_goal(umaze: AntMazeEnv) -> None:
    for seed in (0, 1):
        umaze.reset(seed=seed)
        np.testing.assert_allclose(umaze.data.site("target").xpos, [*umaze.goal, 0.5])


def test_frames_show_the_maze() -> None:
    # In a process of its own: the OpenGL library is chosen once per process.
    code = (
        "import numpy as np; from iqlft_workers.antmaze import AntMazeEnv;"
        "environment = AntMazeEnv('Corner', render_mode='rgb_array', width=64, height=48);"
        "environment.reset(seed=0); frame = environment.render();"
        "assert frame.shape == (48, 64, 3) and frame.std() > 1, frame"
    )
    root = Path(iqlft_workers.__file__).parent.parent
    variables = {"MUJOCO_GL": "egl"} | os.environ
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    if any(word in result.stderr for word in ("EGL", "OpenGL", "glGetError", "GLFW")):
        pytest.skip("no OpenGL here")
    assert (result.returncode, result.stderr) == (0, "")
