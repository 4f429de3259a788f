"""The behaviour finds shortest paths and sends the gait along them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from iqlft.datasets.antmaze.gait import Gait
from iqlft.datasets.antmaze.planner import Behaviour, Planner
from iqlft_workers.mazes import MAZES, D4RLMaze


@pytest.fixture
def umaze() -> D4RLMaze:
    return D4RLMaze(MAZES["UMaze"])


def echo_gait(direction_scale: float = 1.0) -> Gait:
    """A gait whose first two actions are tanh of the direction, positive parts first."""
    first = np.zeros((29, 4), np.float32)
    first[27, 0] = first[28, 1] = 1
    first[27, 2] = first[28, 3] = -1
    last = np.zeros((4, 16), np.float32)
    last[0, 0] = last[1, 1] = 1
    last[2, 0] = last[3, 1] = -1
    biases = (np.zeros(4, np.float32), np.zeros(4, np.float32), np.zeros(16, np.float32))
    biases[2][8:] = -20
    return Gait((first, np.eye(4, dtype=np.float32), last), biases, -20, direction_scale, 0, "", "")


def direction(behaviour: Behaviour, xy: tuple[float, float], step: int = 0) -> NDArray[np.float32]:
    """The direction in which the behaviour sends the echoing gait."""
    observation = {"observation": np.zeros(27), "achieved_goal": np.array(xy, np.float64)}
    return np.arctanh(behaviour.act(observation, step)[:2])


def test_the_path_through_the_u_goes_around_its_wall(umaze: D4RLMaze) -> None:
    planner, path = Planner(umaze), [(1, 1)]
    while path[-1] != (3, 1):
        path.append(planner.next_cell(path[-1], (3, 1)))
    assert path == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]


@pytest.mark.parametrize("maze", MAZES)
def test_every_free_cell_leads_to_every_other(maze: str) -> None:
    layout = D4RLMaze(MAZES[maze])
    planner, free = Planner(layout), layout.free_cells
    for goal in free:
        for cell in free:
            position, steps = cell, 0
            while position != goal:
                following = planner.next_cell(position, goal)
                assert abs(following[0] - position[0]) + abs(following[1] - position[1]) == 1
                assert following in free
                position, steps = following, steps + 1
                assert steps < len(free)


def test_a_wall_leads_to_its_free_neighbour_nearest_to_the_goal(umaze: D4RLMaze) -> None:
    assert Planner(umaze).next_cell((2, 2), (3, 1)) == (3, 2)


@pytest.mark.parametrize(
    ("xy", "cell"), [((0, 0), (1, 1)), ((3.9, 0), (1, 1)), ((4.1, 0), (1, 2)), ((-1, 9), (3, 1))]
)
def test_a_position_belongs_to_the_cell_whose_centre_is_up_and_left_as_in_d4rl(
    umaze: D4RLMaze, xy: tuple[float, float], cell: tuple[int, int]
) -> None:
    assert Planner(umaze).cell(*xy) == cell


def test_the_ant_is_sent_to_the_next_cells_centre_plus_up_to_one_metre(umaze: D4RLMaze) -> None:
    behaviour = Behaviour(
        Planner(umaze), umaze, echo_gait(), 0, np.array([0.5, 8.5]), 200, np.random.default_rng(0)
    )
    angles = []
    for step in range(200):
        dx, dy = direction(behaviour, (0.5, 0.5), step)
        assert np.hypot(dx, dy) == pytest.approx(1, abs=1e-4)
        angles.append(np.arctan2(dy, dx))
    # From (0.5, 0.5) to (4..5, 0..1): at most half a metre aside at 3.5 m.
    assert max(angles) <= np.arctan2(0.5, 3.5)
    assert min(angles) >= -np.arctan2(0.5, 3.5)
    assert max(angles) > 0.1
    assert min(angles) < -0.1


def test_in_the_goal_cell_and_before_it_the_ant_is_sent_to_the_exact_goal(umaze: D4RLMaze) -> None:
    goal = np.array([0.5, 8.5])
    behaviour = Behaviour(Planner(umaze), umaze, echo_gait(), 0, goal, 10, np.random.default_rng(0))
    for position in ((1.5, 9.0), (4.5, 8.5)):
        expected = (goal - position) / np.linalg.norm(goal - position)
        np.testing.assert_allclose(direction(behaviour, position), expected, atol=1e-4)


def test_noise_has_the_given_deviation_and_actions_stay_in_bounds(umaze: D4RLMaze) -> None:
    behaviour = Behaviour(
        Planner(umaze), umaze, echo_gait(), 0.3, np.zeros(2), 500, np.random.default_rng(0)
    )
    observation = {"observation": np.zeros(27), "achieved_goal": np.ones(2)}
    actions = np.array([behaviour.act(observation, step) for step in range(500)])
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    # The last six means are 0, and a deviation of 0.3 is hardly clipped.
    assert actions[:, 2:].std() == pytest.approx(0.3, rel=0.05)
