"""One pass over transitions counts every place and draws a fair sample."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from iqlft.analysis.survey import FINENESS, SAMPLE_SIZE, MazeTask, survey
from iqlft.datasets.goal_maze import maze_of
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.transition import RowLayout

LAYOUT = RowLayout(4, 2)


@pytest.fixture(scope="module")
def task() -> MazeTask:
    """The corner maze, in which x and y are the second and third value."""
    maze = maze_of(EnvironmentSpec("iqlft/AntMaze-Corner-v0"))
    assert maze is not None
    return MazeTask(maze, slice(1, 3), None)


def chunks(count: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Rows whose first value numbers them, all at x = 4, y = 4; one block that is reused."""
    block = np.zeros((size, LAYOUT.width), np.float32)
    block[:, 1:3] = 4
    for first in range(0, count, size):
        part = block[: min(size, count - first)]
        part[:, 0] = np.arange(first, first + len(part))
        part[:, 4] = part[:, 0]
        yield part


def test_every_position_is_counted_in_its_square(task: MazeTask) -> None:
    found = survey(chunks(1000, 300), LAYOUT, task)
    assert found.num_transitions == 1000
    assert found.visits is not None
    assert found.visits.shape == (4 * FINENESS, 4 * FINENESS)
    # The goal cell (2, 2) has its centre at (4, 4), between its 16th and 17th half metre.
    assert np.argwhere(found.visits).tolist() == [[20, 20]]
    assert found.visits.sum() == 1000


def test_few_transitions_are_all_in_the_sample_with_their_actions(task: MazeTask) -> None:
    found = survey(chunks(1000, 300), LAYOUT, task)
    assert sorted(found.observations[:, 0]) == list(range(1000))
    assert found.observations[:10, 0].tolist() != list(range(10))
    np.testing.assert_array_equal(found.actions[:, 0], found.observations[:, 0])


def test_the_sample_of_many_is_spread_over_all_of_them() -> None:
    count = 5 * SAMPLE_SIZE
    found = survey(chunks(count, 30_000), LAYOUT, None)
    numbers = found.observations[:, 0]
    assert found.visits is None
    assert len(set(numbers)) == SAMPLE_SIZE
    # Each fifth has a fifth of the sample, up to four standard deviations.
    shares = np.bincount((numbers // SAMPLE_SIZE).astype(int)) / SAMPLE_SIZE
    assert shares == pytest.approx(np.full(5, 0.2), abs=4 * np.sqrt(0.2 * 0.8 / SAMPLE_SIZE))
    assert numbers[:1000].mean() == pytest.approx(count / 2, rel=0.08)


def test_nothing_gives_an_empty_survey(task: MazeTask) -> None:
    found = survey([], LAYOUT, task)
    assert (found.num_transitions, len(found.observations)) == (0, 0)
