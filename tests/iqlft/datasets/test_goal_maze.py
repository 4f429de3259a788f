"""Mazes are known by what they say of themselves, and so are the goals of their episodes."""

import math
from contextlib import closing

import numpy as np
import pytest

from iqlft.datasets.goal_maze import distance_to_goal, maze_in, maze_of
from iqlft_workers.environment import Environment, EnvironmentSpec

CORNER = "iqlft/AntMaze-Corner-v0"


def test_a_maze_ends_within_its_outer_wall_and_knows_how_high_that_is() -> None:
    maze = maze_of(EnvironmentSpec(CORNER))
    assert maze is not None
    # Four cells of 4 m each way; the centre of the second one is the origin.
    np.testing.assert_array_equal(maze.limits, [[-4, 8], [-4, 8]])
    assert maze.height == 2


def test_another_attribute_of_that_name_is_no_maze() -> None:
    with closing(Environment(EnvironmentSpec("Pendulum-v1"))) as environment:
        environment.gym.unwrapped.maze = "of another kind"  # type: ignore[attr-defined]
        assert maze_in(environment.gym) is None


@pytest.mark.parametrize(
    "keys", [("achieved_goal", "observation"), ("achieved_goal", "observation", "desired_goal")]
)
def test_the_distance_is_that_of_the_episodes_own_goal(keys: tuple[str, ...]) -> None:
    with closing(Environment(EnvironmentSpec(CORNER, observation_keys=keys))) as environment:
        for seed in (1, 2):
            start = environment.reset(seed)
            goal = environment.gym.unwrapped.goal
            expected = math.hypot(*(goal - start[:2]))
            assert distance_to_goal(environment, start.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("keys", [("observation",), ("observation", "achieved_goal")])
def test_there_is_no_distance_where_observations_do_not_begin_with_a_place(
    keys: tuple[str, ...],
) -> None:
    with closing(Environment(EnvironmentSpec(CORNER, observation_keys=keys))) as environment:
        start = environment.reset(1)
        assert distance_to_goal(environment, start.tolist()) is None
