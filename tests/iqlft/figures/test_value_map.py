"""The value map puts V where it belongs."""

import matplotlib as mpl
import numpy as np
import pytest

from iqlft.analysis.survey import FINENESS, MazeTask
from iqlft.datasets.goal_maze import maze_of
from iqlft.figures.style import NARROW, style
from iqlft.figures.value_map import place_values, value_figure
from iqlft_workers.environment import EnvironmentSpec


@pytest.fixture(scope="module")
def task() -> MazeTask:
    maze = maze_of(EnvironmentSpec("iqlft/AntMaze-Corner-v0"))
    assert maze is not None
    return MazeTask(maze, slice(1, 3), None)


def test_each_place_has_the_mean_over_postures_of_its_own_value(task: MazeTask) -> None:
    postures = np.array([[1, 9, 9, 0], [3, -9, -9, 0]], np.float32)
    found = place_values(lambda o: o[:, 0] + 100 * o[:, 1] + 10_000 * o[:, 2], task, postures)
    fine = task.maze.refined(FINENESS)
    assert found.shape == fine.walls.shape
    np.testing.assert_array_equal(np.isnan(found), fine.walls)
    for row, column in ((8, 8), (12, 16), (23, 23)):
        x, y = fine.centre(row, column)
        assert found[row, column] == pytest.approx(2 + 100 * x + 10_000 * y)


def test_an_observed_goal_is_the_evaluation_goal(task: MazeTask) -> None:
    observed = task._replace(goal=slice(3, 5))
    found = place_values(lambda o: o[:, 3], observed, np.zeros((1, 5), np.float32))
    assert np.unique(found[~np.isnan(found)]).tolist() == [4.75]


def test_squares_that_nobody_visited_stay_free(task: MazeTask) -> None:
    values = place_values(lambda o: o[:, 1], task, np.zeros((1, 4), np.float32))
    visits = np.zeros(values.shape, np.int64)
    visits[12, 9:12] = 1
    with mpl.rc_context(style(NARROW)):
        figure = value_figure(task.maze, values, visits)
    drawn = figure.axes[0].collections[0].get_array()
    assert isinstance(drawn, np.ma.MaskedArray)
    assert drawn.count() == 3
    np.testing.assert_array_equal(drawn.compressed(), values[12, 9:12])
    (star,) = figure.axes[0].lines
    assert [float(each[0]) for each in star.get_data()] == [4.75, 4.75]  # type: ignore[index]
