"""Options of reading: tails after success, several datasets, return ranges, nested observations."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.algorithms.bc import episode_returns
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.loading import load_dataset
from iqlft.datasets.offline_dataset import CHUNK_ROWS, OfflineDataset
from iqlft.training.replay import Replay
from iqlft_workers.environment import Environment
from iqlft_workers.transition import Transitions

pytestmark = pytest.mark.usefixtures("minari_root")
NEAR, FAR = [4.75, 4.3], [4.75, 4.2]
"""0.45 m and 0.55 m from the corner task's evaluation goal (4.75, 4.75)."""
Write = Callable[..., None]


@pytest.fixture
def write() -> Write:
    """Writes episodes as a Minari dataset."""

    def write(dataset_id: str, episodes: list[EpisodeBuffer], **options: Any) -> None:  # noqa: ANN401
        with pytest.warns(UserWarning, match="is set to None"):  # the author and so on
            minari.create_dataset_from_buffers(dataset_id, episodes, **options)

    return write


def pendulum(rewards: list[float], mark: float = 0.0) -> EpisodeBuffer:
    """An episode with these rewards; its observations are the mark."""
    steps = len(rewards)
    return EpisodeBuffer(
        observations=np.full((steps + 1, 3), mark, np.float32),
        actions=np.zeros((steps, 1), np.float32),
        rewards=np.array(rewards),
        terminations=np.zeros(steps, np.bool_),
        truncations=np.arange(steps) == steps - 1,
    )


def walk(
    positions: list[list[float]], goal: tuple[float, float] = (9, 9), mark: float = 0.0
) -> EpisodeBuffer:
    """An episode of a goal maze through these positions."""
    steps = len(positions) - 1
    return EpisodeBuffer(
        observations={
            "observation": np.full((steps + 1, 27), mark),
            "achieved_goal": np.array(positions, np.float64),
            "desired_goal": np.tile(np.array(goal, np.float64), (steps + 1, 1)),
        },
        actions=np.zeros((steps, 8), np.float32),
        rewards=np.zeros(steps),
        terminations=np.zeros(steps, np.bool_),
        truncations=np.arange(steps) == steps - 1,
    )


def corner() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("iqlft/AntMaze-Corner-v0", continuing_task=True)


def transitions(dataset: OfflineDataset) -> Transitions:
    return dataset.layout.transitions(dataset.rows())


# -- after success ------------------------------------------------------------------------------


def test_the_tail_after_the_first_success_is_dropped_and_counted(write: Write) -> None:
    write("test/a-v0", [walk([FAR, FAR, NEAR, NEAR, FAR]), walk([FAR, FAR, FAR])], env=corner())
    kept, dropped = load_dataset("test/a-v0"), load_dataset("test/a-v0", after_success="drop")
    assert (kept.num_transitions, dropped.num_transitions) == (6, 4)
    np.testing.assert_array_equal(transitions(dropped).rewards, [0, 1, 0, 0])
    np.testing.assert_array_equal(transitions(dropped).terminated, [False, True, False, False])
    np.testing.assert_array_equal(transitions(dropped).truncated, [False, False, False, True])
    kept.rows()
    assert kept.notes == (
        "In 33% of the 6 transitions the episode has reached its goal before; 4 lead up to it.",
    )
    assert dropped.notes[0].endswith("; 4 are used.")


def test_with_observed_goals_the_success_is_the_episode_s_own(write: Write) -> None:
    goal = (FAR[0], FAR[1] + 0.2)
    write("test/a-v0", [walk([[0, 0], [0, 0], FAR, FAR, FAR], goal)], env=corner())
    dataset = load_dataset("test/a-v0", goal="observed", after_success="drop")
    np.testing.assert_array_equal(transitions(dataset).terminated, [False, True])
    assert dataset.environment.kwargs["continuing_task"] is False


def test_an_end_of_another_kind_stays_one_where_tails_are_dropped(write: Write) -> None:
    fallen = dataclasses.replace(walk([FAR, FAR, FAR]), terminations=np.array([False, True]))
    write("test/a-v0", [fallen], env=corner())
    dataset = load_dataset("test/a-v0", goal="observed", after_success="drop")
    np.testing.assert_array_equal(transitions(dataset).terminated, [False, True])


def test_stored_observations_know_no_success(write: Write) -> None:
    write("test/a-v0", [walk([FAR, NEAR])], env=corner())
    with pytest.raises(DatasetError, match="in the goal mode `stored` nothing tells success"):
        load_dataset("test/a-v0", goal="stored", after_success="drop")


# -- what is told -------------------------------------------------------------------------------


def test_values_of_actions_beyond_their_bounds_are_told(write: Write) -> None:
    wild = dataclasses.replace(pendulum([1, 2]), actions=np.float32([[2], [50]]))
    write("test/a-v0", [wild], env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", goal="stored")
    np.testing.assert_allclose(transitions(dataset).actions[:, 0], [1, 1], atol=1e-4)
    (note,) = dataset.notes
    assert note.startswith("1 of the 2 recorded action values lie outside of their bounds, [-2, 2]")


def test_an_end_within_an_episode_is_told(write: Write) -> None:
    torn = dataclasses.replace(pendulum([1, 2, 3]), truncations=np.array([True, False, True]))
    write("test/a-v0", [torn, pendulum([1])], env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", goal="stored")
    dataset.rows()
    (note,) = dataset.notes
    assert note.startswith("1 of the 2 recorded episodes have an end before their last step")


@pytest.mark.parametrize(("low", "high"), [(5.0, 5.0), (5.0, 1.0)])
def test_reference_scores_that_cannot_be_are_told_and_not_used(
    low: float, high: float, write: Write
) -> None:
    options = {"env": "Pendulum-v1", "ref_min_score": low, "ref_max_score": high}
    write("test/a-v0", [pendulum([1])], **options)
    dataset = load_dataset("test/a-v0", goal="stored")
    assert dataset.reference_scores is None
    assert f"reference scores, {low:g} and {high:g}, cannot be used" in dataset.notes[0]
    given = load_dataset("test/a-v0", goal="stored", reference_scores=(0, 9))
    assert (given.reference_scores, given.notes) == ((0, 9), ())


def test_a_dataset_that_is_named_twice_is_told(write: Write) -> None:
    write("test/a-v0", [pendulum([1])], env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", "test/a-v0", goal="stored")
    assert dataset.notes == ("test/a-v0 is learned from 2 times.",)


def test_episodes_that_meet_in_one_state_are_two(write: Write) -> None:
    # As a vectorized environment with one fixed start records them.
    over = [
        dataclasses.replace(
            pendulum([reward]), terminations=np.array([True]), truncations=np.array([False])
        )
        for reward in (1, 2, 3)
    ]
    write("test/a-v0", over, env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", goal="stored")
    rows = torch.from_numpy(dataset.rows())
    episodes, returns = episode_returns(rows, dataset.layout)
    assert episodes.tolist() == [0, 1, 2]
    assert returns.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(transitions(dataset).terminated, [True] * 3)
    twice = load_dataset("test/a-v0", "test/a-v0", goal="stored")
    rows = torch.from_numpy(twice.rows())
    assert episode_returns(rows, twice.layout)[1].tolist() == [1, 2, 3, 1, 2, 3]


# -- several datasets ---------------------------------------------------------------------------


def test_several_datasets_are_read_one_after_another(write: Write) -> None:
    write("test/a-v0", [pendulum([1, 2], 1)], env="Pendulum-v1")
    write("test/b-v0", [pendulum([3], 2), pendulum([4], 3)], env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", "test/b-v0", goal="stored")
    np.testing.assert_array_equal(transitions(dataset).rewards, [1, 2, 3, 4])
    np.testing.assert_array_equal(transitions(dataset).observations[:, 0], [1, 1, 2, 3])
    assert (dataset.id, dataset.num_episodes) == ("test/a-v0 + test/b-v0", 3)
    assert dataset.label == dataset.id


def test_datasets_of_different_environments_are_not_mixed(write: Write) -> None:
    write("test/a-v0", [pendulum([1])], env="Pendulum-v1")
    write("test/b-v0", [walk([FAR, NEAR])], env=corner())
    with pytest.raises(DatasetError, match=r"test/b-v0 belongs to iqlft/AntMaze-Corner-v0"):
        load_dataset("test/a-v0", "test/b-v0", goal="stored")


def test_datasets_of_different_dimensions_are_not_mixed(write: Write) -> None:
    write("test/a-v0", [pendulum([1])], env="Pendulum-v1")
    wide = EpisodeBuffer(
        observations=np.zeros((2, 4), np.float32), actions=np.zeros((1, 1), np.float32),
        rewards=np.zeros(1), terminations=np.zeros(1, np.bool_), truncations=np.ones(1, np.bool_),
    )  # fmt: skip
    spec = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    write("test/b-v0", [wide], env="Pendulum-v1", observation_space=spec)
    with pytest.raises(DatasetError, match="test/b-v0 has other observations or actions"):
        load_dataset("test/a-v0", "test/b-v0", goal="stored")


def test_a_dataset_larger_than_a_chunk_streams_into_the_replay(write: Write) -> None:
    # Five episodes of 30,000 transitions: the third lies across a chunk's border.
    episodes = [pendulum([float(i)] * 30_000, i) for i in range(5)]
    write("test/a-v0", episodes, env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", goal="stored")
    sizes = [len(chunk) for chunk in dataset.chunks()]
    assert sizes == [CHUNK_ROWS, CHUNK_ROWS, 150_000 - 2 * CHUNK_ROWS]
    replay = Replay(dataset.chunks(), dataset.num_transitions, dataset.layout)
    np.testing.assert_array_equal(transitions(dataset).rewards, np.repeat(np.arange(5), 30_000))
    batch = replay.sample(4096)
    assert set(batch.rewards.flatten().tolist()) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(batch.rewards, batch.observations[..., 0])


def test_datasets_in_other_wrappers_are_not_mixed_and_the_sentence_tells_these(
    write: Write,
) -> None:
    plain = gymnasium.make("Pendulum-v1")
    write("test/a-v0", [pendulum([1])], env=plain)
    write("test/b-v0", [pendulum([1])], env=gymnasium.wrappers.RescaleAction(plain, -2, 2))
    with pytest.raises(DatasetError, match=r"b-v0 belongs to Pendulum-v1 .* in RescaleAction"):
        load_dataset("test/a-v0", "test/b-v0", goal="stored")


# -- reward scale -------------------------------------------------------------------------------


def test_the_return_range_scales_rewards_of_data_and_environment_alike(write: Write) -> None:
    # Returns 3, 10 and 5: a range of 7 becomes 1000.
    write("test/a-v0", [pendulum([1, 2]), pendulum([10]), pendulum([5])], env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", goal="stored", reward_scale="return_range")
    assert dataset.environment.reward_scale == pytest.approx(1000 / 7)
    expected = np.array([1, 2, 10, 5]) * 1000 / 7
    np.testing.assert_allclose(transitions(dataset).rewards, expected, rtol=1e-6)


def test_that_relabelled_rewards_are_scaled_by_another_range_is_told(write: Write) -> None:
    returns = (0.0, 2.0)
    walks = [dataclasses.replace(walk([FAR, NEAR]), rewards=np.array([each])) for each in returns]
    write("test/a-v0", walks, env=corner())
    dataset = load_dataset("test/a-v0", reward_scale="return_range")
    assert transitions(dataset).rewards.tolist() == [500, 500]
    assert "but are those of another goal" in dataset.notes[0]


def test_rewards_of_half_precision_are_scaled_without_overflow(write: Write) -> None:
    half = dataclasses.replace(pendulum([700]), rewards=np.float16([700]))
    write("test/a-v0", [half], env="Pendulum-v1")
    dataset = load_dataset("test/a-v0", goal="stored", reward_scale=100.0)
    assert transitions(dataset).rewards.tolist() == [70_000]


@pytest.mark.parametrize("rewards", [([1, 2], [3]), ([0.1, 0.2], [0.3])])
def test_equal_returns_have_no_range_to_scale_by(rewards: Any, write: Write) -> None:  # noqa: ANN401
    # Equal up to rounding: 0.1 + 0.2 is not quite 0.3.
    write("test/a-v0", list(map(pendulum, rewards)), env="Pendulum-v1")
    with pytest.raises(DatasetError, match=f"All episodes have the return {rewards[1][0]}, "):
        load_dataset("test/a-v0", goal="stored", reward_scale="return_range")


# -- official maps ------------------------------------------------------------------------------

WALLS = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
MIRRORED = [
    [1, 1, 1, 1, 1], [1, 0, 0, "r", 1], [1, 0, 1, 1, 1], [1, 0, 0, "g", 1], [1, 1, 1, 1, 1],
]  # fmt: skip


def official(maze_map: list[list[Any]]) -> gymnasium.Env[Any, Any]:
    import gymnasium_robotics  # noqa: F401  # registers the ids

    return gymnasium.make(
        "AntMaze_UMaze-v5",
        maze_map=maze_map,
        continuing_task=True,
        include_cfrc_ext_in_observation=False,
    )


def test_a_mirrored_evaluation_map_is_put_right_and_said(write: Write) -> None:
    evaluation = copy.deepcopy(official(MIRRORED).spec)
    # (3, 1) is the goal's cell in the unmirrored map: x = -4, y = -4 around the maze's middle.
    episode = walk([[-4, 4], [-4, -4.4], [4, -4]])
    write("test/umaze-v1", [episode], env=official(WALLS), eval_env=evaluation)
    dataset = load_dataset("test/umaze-v1")
    np.testing.assert_array_equal(transitions(dataset).rewards, [1, 0])
    assert dataset.environment.kwargs["maze_map"] == [row[::-1] for row in MIRRORED]
    assert "mirrors the map in which its data were made" in dataset.notes[0]
    environment = Environment(dataset.environment)
    x, y = environment.reset(seed=0)[:2]
    assert abs(x + 4) <= 1
    assert abs(y - 4) <= 1
    environment.close()


def test_the_recording_s_own_start_and_goal_win_over_the_mirrored_ones(write: Write) -> None:
    made = [row[:] for row in WALLS]
    made[3][1], made[1][1] = "r", "g"  # From below to above, as the official umaze was walked.
    evaluation = copy.deepcopy(official(MIRRORED).spec)
    write("test/umaze-v1", [walk([FAR, FAR])], env=official(made), eval_env=evaluation)
    assert load_dataset("test/umaze-v1").environment.kwargs["maze_map"] == made


def test_an_evaluation_map_of_another_maze_is_refused(write: Write) -> None:
    other = [row[:] for row in WALLS]
    other[1] = [1, 0, 1, "g", 1]
    write("test/umaze-v1", [walk([FAR, FAR])], env=official(WALLS), eval_env=official(other).spec)
    with pytest.raises(DatasetError, match="recorded in another maze"):
        load_dataset("test/umaze-v1")
