"""The tasks start and send the ant as D4RL's datasets do."""

import pytest

from iqlft.datasets.antmaze.tasks import TASKS, choose_cells, find_task
from iqlft.datasets.errors import DatasetError
from iqlft_workers.mazes import MAZES, D4RLMaze


def test_the_six_tasks_of_d4rl_and_two_small_ones_have_ids_by_name() -> None:
    assert {task.dataset_id() for task in TASKS.values()} == {
        f"iqlft/antmaze/{name}-v1"
        for name in (
            "umaze", "umaze-diverse", "medium-play", "medium-diverse",
            "large-play", "large-diverse", "corner", "corner-diverse",
        )
    }  # fmt: skip
    assert find_task("antmaze-umaze").dataset_id("v0") == "iqlft/antmaze/umaze-v0"
    assert find_task("antmaze-large-play").environment_id == "iqlft/AntMaze-Large-v0"


def test_an_episode_is_one_step_longer_than_the_evaluations_limit() -> None:
    steps = {name: task.episode_steps for name, task in TASKS.items()}
    assert (steps["antmaze-umaze"], steps["antmaze-medium-play"]) == (701, 1001)


@pytest.mark.parametrize(("wanted", "episodes"), [(1, 1), (1050, 1), (1060, 2), (1_000_000, 1427)])
def test_the_nearest_number_of_whole_episodes_is_made(wanted: int, episodes: int) -> None:
    assert find_task("antmaze-umaze").num_episodes(wanted) == episodes


def test_play_never_starts_at_a_hand_picked_goal_and_always_goes_to_one() -> None:
    maze, task = D4RLMaze(MAZES["Medium"]), find_task("antmaze-medium-play")
    starts, goals = choose_cells(task.starts, maze), choose_cells(task.goals, maze)
    assert goals == [(2, 6), (5, 1), (6, 5)]
    assert len(starts) == len(maze.free_cells) - 3
    assert not set(starts) & set(goals)


def test_diverse_starts_and_ends_in_any_free_cell() -> None:
    maze, task = D4RLMaze(MAZES["Large"]), find_task("antmaze-large-diverse")
    assert choose_cells(task.starts, maze) == maze.free_cells == choose_cells(task.goals, maze)


def test_umaze_starts_where_the_environment_does_and_goes_to_the_evaluation_goal() -> None:
    maze, task = D4RLMaze(MAZES["UMaze"]), find_task("antmaze-umaze")
    assert choose_cells(task.starts, maze) == []
    assert choose_cells(task.goals, maze) == [(3, 1)]


def test_a_mistyped_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(DatasetError, match="Did you mean 'antmaze-medium-play'"):
        find_task("antmaze-medum-play")
