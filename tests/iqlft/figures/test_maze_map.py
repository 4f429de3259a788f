"""The maze map tells success from failure by more than its colour, and shows every visit."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from iqlft.analysis.evaluation_paths import EvaluationPath
from iqlft.analysis.survey import FINENESS, Survey
from iqlft.datasets.goal_maze import GoalMaze, maze_of
from iqlft.figures.maze_map import maze_figure
from iqlft.figures.style import BLUE, VERMILION, WIDE, style
from iqlft_workers.environment import EnvironmentSpec

PATHS = [
    EvaluationPath(np.array([[0, 0], [4, 1]], np.float32), success=True),
    EvaluationPath(np.array([[0, 0], [4, 4]], np.float32), success=True),
    EvaluationPath(np.array([[0, 0], [1, 0]], np.float32), success=False),
]


@pytest.fixture(scope="module")
def maze() -> GoalMaze:
    found = maze_of(EnvironmentSpec("iqlft/AntMaze-Corner-v0"))
    assert found is not None
    return found


def seen(maze: GoalMaze, visits: int) -> Survey:
    counts = np.zeros(maze.refined(FINENESS).walls.shape, np.int64)
    counts[12, 12] = visits
    nothing = np.empty((0, 4), np.float32)
    return Survey(nothing, nothing, counts, visits)


def drawn(maze: GoalMaze, surveys: dict[str, Survey]) -> Figure:
    with mpl.rc_context(style(WIDE)):
        figure = maze_figure(maze, surveys, PATHS)
        figure.draw_without_rendering()
    return figure


def test_success_is_solid_blue_and_failure_dashed_vermilion(maze: GoalMaze) -> None:
    figure = drawn(maze, {})
    (axes,) = figure.axes
    looks = {
        name: {
            (to_hex(line.get_color()), line.is_dashed())
            for line in axes.lines
            if line.get_gid() == name
        }
        for name in ("success", "failure")
    }
    assert looks == {
        "success": {(BLUE.lower(), False)},
        "failure": {(VERMILION.lower(), True)},
    }
    assert axes.get_title() == "3 evaluation episodes"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["success (2)", "failure (1)", "start", "evaluation goal", "wall"]


def test_dataset_and_new_transitions_share_one_scale(maze: GoalMaze) -> None:
    figure = drawn(maze, {"dataset transitions": seen(maze, 5000), "new": seen(maze, 20)})
    first, second, last = figure.axes[:3]
    assert (first.get_title(), second.get_title()) == ("5,000 dataset transitions", "20 new")
    meshes = [axes.collections[0] for axes in (first, second)]
    for mesh, total in zip(meshes, (5000, 20), strict=True):
        counts = mesh.get_array()
        assert counts is not None
        assert counts.sum() == total
        assert (mesh.norm.vmin, mesh.norm.vmax) == (1, 5000)
    boxes = np.array([axes.get_position().bounds for axes in (first, second, last)])
    np.testing.assert_allclose(boxes[:, 1:], np.broadcast_to(boxes[0, 1:], (3, 3)), rtol=1e-6)
