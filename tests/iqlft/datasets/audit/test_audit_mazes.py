"""An agent's ways through both kinds of maze are measured as a person would by hand."""

from typing import Any

import gymnasium
import gymnasium_robotics  # noqa: F401  # registers its ids
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.datasets.audit.audit import check
from iqlft.datasets.audit.findings import Finding
from iqlft.datasets.goal_maze import GoalMaze, recorded_maze
from iqlft_workers.mazes import MAZES, D4RLMaze

UPRIGHT, ON_ITS_BACK = (1, 0, 0, 0), (0, 1, 0, 0)


def maze_episode(
    positions: list[list[float]], goal: list[float], orientation: tuple[int, ...] = UPRIGHT
) -> EpisodeBuffer:
    count = len(positions)
    observation = np.zeros((count, 27))
    observation[:, 1:5] = orientation
    return EpisodeBuffer(
        observations={
            "observation": observation,
            "achieved_goal": np.array(positions, np.float64),
            "desired_goal": np.full((count, 2), goal, np.float64),
        },
        actions=np.zeros((count - 1, 8), np.float32),
        rewards=np.zeros(count - 1),
        terminations=np.zeros(count - 1, np.bool_),
        truncations=np.arange(count - 1) == count - 2,
    )


def write(dataset_id: str, episodes: list[EpisodeBuffer], env: Any) -> minari.MinariDataset:  # noqa: ANN401
    with pytest.warns(UserWarning, match="is set to None"):
        return minari.create_dataset_from_buffers(dataset_id, episodes, env=env)


def farama_maze(**kwargs: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401
    return gymnasium.make(
        "AntMaze_UMaze-v5", continuing_task=True, include_cfrc_ext_in_observation=False, **kwargs
    )


def by_name(dataset_id: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in check(dataset_id)}


@pytest.mark.usefixtures("minari_root")
def test_ways_are_measured_and_held_against_the_tasks_bands() -> None:
    episodes = [
        # 0.85, 0.8, 0.4 and 0.4 m from its goal: reached at step 2, after 0.3 + 0.4 metres.
        maze_episode([[0, 0], [0.3, 0], [0.3, 0.4], [0.3, 0.4]], [0.3, 0.8]),
        # It stays at the evaluation goal, is sent elsewhere, and lies on its back.
        maze_episode([[0.75, 8.75]] * 4, [8.2, 8.2], ON_ITS_BACK),
    ]
    env = gymnasium.make("iqlft/AntMaze-UMaze-v0", max_episode_steps=701)
    write("iqlft/antmaze/umaze-v1", episodes, env)
    findings = by_name("iqlft/antmaze/umaze-v1")
    expected = {
        "share of episodes that reach their goal": 0.5,
        "median first hit (steps)": 2,
        "metres per step": 0.7 / 6,
        "share of episodes that touch the evaluation goal": 0.5,
        "share of episodes that end upside down": 0.5,
    }
    for name, value in expected.items():
        assert findings[name].value == pytest.approx(value)
        assert findings[name].verdict == "outside"
    assert findings["share of transitions rewarded there"].value == 0.5
    # Cells (1, 1) and (3, 1) of seven.
    assert findings["share of free cells visited"].value == pytest.approx(2 / 7)
    assert findings["cells with starts"].note == "50.0 % in (1, 1) to 50.0 % in (1, 1)"
    assert findings["cells with goals"].value == 2
    assert findings["episodes of another length than 701"].value == 2


@pytest.mark.usefixtures("minari_root")
def test_sets_made_otherwise_have_no_bands_and_any_length() -> None:
    episodes = [maze_episode([[0, 0], [0, 0.1], [0, 0.3]], [8, 8])]
    write("test/umaze-v0", episodes, gymnasium.make("iqlft/AntMaze-UMaze-v0"))
    findings = by_name("test/umaze-v0")
    assert findings["metres per step"].value == pytest.approx(0.15)
    assert findings["metres per step"].verdict == "-"
    assert findings["median first hit (steps)"].value is None
    assert findings["steps that jump over 0.5 m"].verdict == "ok"
    assert not any(name.startswith("episodes of another length") for name in findings)


@pytest.mark.usefixtures("minari_root")
def test_positions_that_are_no_numbers_are_counted_and_left_out() -> None:
    episodes = [maze_episode([[0, 0], [np.nan, 0], [0, 0.3]], [8, 8])]
    write("test/umaze-v0", episodes, gymnasium.make("iqlft/AntMaze-UMaze-v0"))
    findings = by_name("test/umaze-v0")
    assert findings["values that are not finite"].value == 1
    assert findings["metres per step"].value == pytest.approx(0.15)


@pytest.mark.usefixtures("minari_root")
def test_faramas_mazes_are_measured_with_their_own_coordinates_and_radius() -> None:
    env = farama_maze(maze_map=[[1, 1, 1, 1], [1, "r", 0, 1], [1, 1, "g", 1], [1, 1, 1, 1]])
    # The goal cell (2, 2) has its centre at (2, -2), and y falls with the row.
    episodes = [
        maze_episode([[-2, 2], [2, -1.7]], [2, -2]),
        maze_episode([[2, 2], [2, -1.52]], [2, -2]),
    ]
    write("test/tiny-v0", episodes, env)
    findings = by_name("test/tiny-v0")
    assert findings["share of episodes that reach their goal"].value == 0.5
    assert findings["share of episodes that touch the evaluation goal"].value == 0.5
    assert findings["share of free cells visited"].value == 1
    assert findings["cells with starts"].note == "50.0 % in (1, 1) to 50.0 % in (1, 1)"
    assert findings["cells with goals"].note == "100.0 % in (2, 2)"


@pytest.mark.usefixtures("minari_root")
def test_a_maze_with_several_goals_has_no_evaluation_goal() -> None:
    env = farama_maze(maze_map=[[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, "g", 1], [1, 1, 1, 1]])
    write("test/tiny-v0", [maze_episode([[-2, 2], [2, 2.4]], [2, 2])], env)
    findings = by_name("test/tiny-v0")
    assert findings["share of episodes that reach their goal"].value == 1
    assert "share of episodes that touch the evaluation goal" not in findings


@pytest.mark.usefixtures("minari_root")
def test_without_a_recorded_environment_the_ways_are_not_measured() -> None:
    space = gymnasium.make("iqlft/AntMaze-Corner-v0")
    with pytest.warns(UserWarning, match="(is set to|env_spec is) None"):
        minari.create_dataset_from_buffers(
            "test/bare-v0", [maze_episode([[0, 0], [0, 0.1]], [4, 4])],
            observation_space=space.observation_space, action_space=space.action_space,
        )  # fmt: skip
    finding = by_name("test/bare-v0")["ways through the maze"]
    assert (finding.value, finding.verdict) == (None, "-")
    assert "records no environment" in finding.note


# -- cells --------------------------------------------------------------------------------------


@pytest.fixture(params=["D4RL", "Farama"])
def mazes(request: pytest.FixtureRequest, minari_root: Any) -> tuple[GoalMaze, Any]:  # noqa: ANN401, ARG001
    """A dataset's maze, and the environment's own."""
    env = gymnasium.make("iqlft/AntMaze-Large-v0") if request.param == "D4RL" else farama_maze()
    dataset = write("test/any-v0", [maze_episode([[0, 0], [0, 0]], [0, 0])], env)
    maze = recorded_maze(dataset)
    assert maze is not None
    return maze, env.unwrapped.maze  # type: ignore[attr-defined]


def test_positions_are_counted_in_the_cells_where_the_environment_sees_them(
    mazes: tuple[GoalMaze, Any],
) -> None:
    maze, own = mazes
    corners = np.array([[edge.min(), edge.max()] for edge in maze.edges])
    points = np.random.default_rng(0).uniform(corners[:, 0], corners[:, 1], (500, 2))
    expected = np.zeros(maze.walls.shape, np.int64)
    for point in points:
        expected[tuple(own.cell_xy_to_rowcol(point))] += 1
    np.testing.assert_array_equal(maze.count(points), expected)
    assert maze.num_free == sum(cell != 1 for row in own.maze_map for cell in row)


def test_cutting_cells_into_small_ones_keeps_every_position_in_place(
    mazes: tuple[GoalMaze, Any],
) -> None:
    maze, fine = mazes[0], mazes[0].refined(4)
    for edges, fine_edges in zip(maze.edges, fine.edges, strict=True):
        np.testing.assert_allclose(fine_edges[::4], edges)
    points = np.random.default_rng(0).uniform(-2, 2, (500, 2))
    rows, columns = maze.walls.shape
    blocks = fine.count(points).reshape(rows, 4, columns, 4).sum((1, 3))
    np.testing.assert_array_equal(blocks, maze.count(points))


def test_a_cells_centre_is_the_environments(mazes: tuple[GoalMaze, Any]) -> None:
    maze, own = mazes
    np.testing.assert_allclose(maze.centre(1, 3), own.cell_rowcol_to_xy((1, 3)))


def test_layouts_agree_with_d4rls(corner: str) -> None:
    maze = recorded_maze(minari.load_dataset(corner))
    assert maze is not None
    assert maze.num_free == len(D4RLMaze(MAZES["Corner"]).free_cells)
    assert maze.goal is not None
    np.testing.assert_array_equal(maze.goal.position, [4.75, 4.75])


def test_a_position_that_is_no_number_lies_in_no_cell(mazes: tuple[GoalMaze, Any]) -> None:
    assert mazes[0].count(np.array([[np.nan, 0.0], [0.0, 0.0]])).sum() == 1
