"""Transitions seen in one pass: a sample of them, and where in a maze they were."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqlft.datasets.goal_maze import maze_in
from iqlft.runs import seals
from iqlft_workers.environment import Environment
from iqlft_workers.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from iqlft.datasets.goal_maze import GoalMaze
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.transition import RowLayout

FINENESS = 8
"""Small squares, in which visits are counted, along the edge of a maze's cell."""
SAMPLE_SIZE = 20_000
"""Transitions in a sample."""


class MazeTask(NamedTuple):
    """A maze, and which columns of an observation are positions in it.

    Attributes:
        maze: walls, cells and evaluation goal.
        position: columns of the agent's x and y.
        goal: columns of the goal's x and y; None where it is not observed.
    """

    maze: GoalMaze
    position: slice
    goal: slice | None


def maze_task(environment: EnvironmentSpec) -> MazeTask | None:
    """The maze of an environment and its columns of positions; None where there are none."""
    with closing(Environment(environment)) as probe:
        maze = maze_in(probe.gym)
        position, goal = probe.columns("achieved_goal"), probe.columns("desired_goal")
    return None if maze is None or position is None else MazeTask(maze, position, goal)


class Survey(NamedTuple):
    """What a pass over transitions has found.

    Attributes:
        observations: `(n, O)` of a random sample, n at most `SAMPLE_SIZE`, in random order.
        actions: `(n, A)` of the same.
        visits: `(R * FINENESS, C * FINENESS)`: visits of each small square; None without a maze.
        num_transitions: how many there were.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    visits: NDArray[np.int64] | None
    num_transitions: int


def survey(
    chunks: Iterable[NDArray[np.float32]], layout: RowLayout, task: MazeTask | None
) -> Survey:
    """Goes through transitions once, chunk by chunk.

    Args:
        chunks: rows `(n, width)`; each may be overwritten by the next.
        layout: where the fields stand in a row.
        task: the maze, if there is one.
    """
    rng = np.random.default_rng(0)
    sample, marks = np.empty((0, layout.width), np.float32), np.empty(0)
    fine = None if task is None else task.maze.refined(FINENESS)
    visits = None if fine is None else np.zeros(fine.walls.shape, np.int64)
    num_transitions = 0
    for chunk in chunks:
        num_transitions += len(chunk)
        # Each row draws a random mark; the rows with the lowest marks are the sample.
        marks = np.concatenate([marks, rng.random(len(chunk))])
        lowest = np.argsort(marks)[:SAMPLE_SIZE]
        marks, sample = marks[lowest], np.concatenate([sample, chunk])[lowest]
        if fine is not None and task is not None and visits is not None:
            visits += fine.count(layout.unpack(chunk)[0][:, task.position])
    observations, actions, *_ = layout.unpack(sample)
    return Survey(observations, actions, visits, num_transitions)


def write_survey(path: Path, found: Survey) -> None:
    """Writes a survey to a file, atomically."""
    parts = found._asdict().items()
    arrays = {name: np.asarray(each) for name, each in parts if each is not None}
    with replacing(path) as temporary:
        seals.save_arrays(temporary, arrays)


def read_survey(path: Path) -> Survey:
    """Reads what `write_survey` wrote.

    Raises:
        OSError: it cannot be read.
        SafetensorError: it is no such file.
        KeyError: something is missing in it.
        ValueError: it has been changed since.
    """
    arrays, _ = seals.load_arrays(path)
    return Survey(
        arrays["observations"],
        arrays["actions"],
        arrays.get("visits"),
        int(arrays["num_transitions"]),
    )
