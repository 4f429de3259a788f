"""A dataset becomes one block of transitions, relabelled to the goal that counts."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.loading import check_fits, load_dataset
from iqlft.datasets.recorded import Goal
from iqlft_workers.environment import Environment, EnvironmentMismatchError, EnvironmentSpec
from iqlft_workers.observation import Leaf

LEAVES = (Leaf("achieved_goal", (2,)), Leaf("observation", (27,)))
"""The parts of an observation in AntMaze."""

NEAR, FAR = [4.75, 4.3], [4.75, 4.2]
"""0.45 m and 0.55 m from the corner task's evaluation goal (4.75, 4.75)."""


def write(
    dataset_id: str, episodes: list[EpisodeBuffer], env: str | gymnasium.Env[Any, Any]
) -> None:
    """A dataset of hand-made episodes, written through Minari."""
    with pytest.warns(UserWarning, match="is set to None"):  # the author, the algorithm and so on
        minari.create_dataset_from_buffers(dataset_id, episodes, env=env)


def goal_episode(
    positions: list[list[float]],
    actions: NDArray[np.float32] | None = None,
    truncations: NDArray[np.bool_] | None = None,
) -> EpisodeBuffer:
    """An episode whose first 27 observations are the step's index."""
    count = len(positions)
    steps = np.arange(count, dtype=np.float64)
    return EpisodeBuffer(
        observations={
            "observation": np.repeat(steps[:, None], 27, axis=1),
            "achieved_goal": np.array(positions, np.float64),
            "desired_goal": np.full((count, 2), 9.0),
        },
        actions=np.zeros((count - 1, 8), np.float32) if actions is None else actions,
        rewards=np.full(count - 1, 0.25),
        terminations=np.zeros(count - 1, np.bool_),
        truncations=np.arange(count - 1) == count - 2 if truncations is None else truncations,
    )


@pytest.fixture
def corner_env() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("iqlft/AntMaze-Corner-v0", continuing_task=True)


@pytest.mark.usefixtures("minari_root")
def test_evaluation_mode_relabels_rewards_and_terminations_at_the_next_state(
    corner_env: gymnasium.Env[Any, Any],
) -> None:
    episodes = [goal_episode([NEAR, FAR, NEAR, NEAR]), goal_episode([FAR, FAR, NEAR])]
    write("test/corner-v0", episodes, env=corner_env)
    dataset = load_dataset("test/corner-v0", reward_scale=10, reward_shift=-1)
    transitions = dataset.layout.transitions(dataset.rows())
    # Episode 1 arrives at FAR, NEAR, NEAR; episode 2 at FAR, NEAR. Reached: 10 * 1 - 1, else -1.
    np.testing.assert_array_equal(transitions.rewards, [-1, 9, 9, -1, 9])
    np.testing.assert_array_equal(transitions.terminated, [False, True, True, False, True])
    np.testing.assert_array_equal(transitions.truncated, [False, False, True, False, True])
    np.testing.assert_array_equal(transitions.observations[:, 2], [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(transitions.next_observations[:, 2], [1, 2, 3, 1, 2])
    np.testing.assert_array_equal(transitions.observations[:2, :2], np.float32([NEAR, FAR]))
    np.testing.assert_array_equal(transitions.versions, 0)
    assert dataset.layout.observation_dim == 29
    assert dataset.environment.observation_keys == ("achieved_goal", "observation")
    assert dataset.environment.transform_reward(1.0) == 9
    assert dataset.environment.kwargs["continuing_task"] is False
    assert dataset.num_episodes == 2


@pytest.mark.usefixtures("minari_root")
def test_observed_mode_keeps_rewards_and_observes_the_goal(
    corner_env: gymnasium.Env[Any, Any],
) -> None:
    write("test/corner-v0", [goal_episode([NEAR, NEAR, FAR])], env=corner_env)
    dataset = load_dataset("test/corner-v0", goal="observed")
    transitions = dataset.layout.transitions(dataset.rows())
    np.testing.assert_array_equal(transitions.rewards, 0.25)
    assert not transitions.terminated.any()
    assert dataset.environment.observation_keys == ("achieved_goal", "observation", "desired_goal")
    np.testing.assert_array_equal(transitions.observations[0], [*np.float32(NEAR), *[0] * 27, 9, 9])


@pytest.mark.usefixtures("minari_root")
def test_stored_mode_takes_all_keys_in_the_spaces_order(
    corner_env: gymnasium.Env[Any, Any],
) -> None:
    write("test/corner-v0", [goal_episode([NEAR, NEAR, FAR])], env=corner_env)
    dataset = load_dataset("test/corner-v0", goal="stored")
    assert dataset.environment.observation_keys == ("achieved_goal", "desired_goal", "observation")
    np.testing.assert_array_equal(dataset.rows()[0, 2:5], [9, 9, 0])


@pytest.mark.usefixtures("minari_root")
def test_stored_mode_reads_vectors_and_rescales_actions_to_unit_bounds() -> None:
    # Pendulum's torque lies in [-2, 2].
    actions = np.array([[2.0], [-1.0], [0.0]], np.float32)
    episode = EpisodeBuffer(
        observations=np.arange(12, dtype=np.float32).reshape(4, 3),
        actions=actions,
        rewards=np.array([1.0, 2.0, 3.0]),
        terminations=np.array([False, False, True]),
        truncations=np.zeros(3, np.bool_),
    )
    write("test/pendulum-v0", [episode], env="Pendulum-v1")
    dataset = load_dataset("test/pendulum-v0", goal="stored")
    transitions = dataset.layout.transitions(dataset.rows())
    np.testing.assert_allclose(transitions.actions[:, 0], [1 - 1e-5, -0.5, 0], atol=1e-7)
    np.testing.assert_array_equal(transitions.rewards, [1, 2, 3])
    np.testing.assert_array_equal(transitions.terminated, [False, False, True])
    assert not transitions.truncated.any()
    np.testing.assert_array_equal(transitions.next_observations[0], [3, 4, 5])
    assert dataset.environment == EnvironmentSpec(
        "Pendulum-v1",
        {"max_episode_steps": 200},
        entry_point="gymnasium.envs.classic_control.pendulum:PendulumEnv",
        observation_leaves=(Leaf("", (3,)),),
        action_low=(-2.0,),
        action_high=(2.0,),
    )
    check_fits(dataset, Environment(dataset.environment))


@pytest.mark.usefixtures("minari_root")
def test_actions_are_clipped_just_inside_the_bounds(corner_env: gymnasium.Env[Any, Any]) -> None:
    actions = np.array([np.ones(8), -np.ones(8)], np.float32)
    write("test/corner-v0", [goal_episode([FAR, FAR, FAR], actions)], env=corner_env)
    dataset = load_dataset("test/corner-v0")
    limit = np.float32(1 - 1e-5)
    np.testing.assert_array_equal(dataset.rows()[:, 29:37], np.float32([[limit] * 8, [-limit] * 8]))


@pytest.mark.usefixtures("minari_root")
def test_a_recording_that_just_stops_is_truncated(corner_env: gymnasium.Env[Any, Any]) -> None:
    episode = goal_episode([FAR, FAR, FAR], truncations=np.zeros(2, np.bool_))
    write("test/corner-v0", [episode], env=corner_env)
    dataset = load_dataset("test/corner-v0")
    np.testing.assert_array_equal(
        dataset.layout.transitions(dataset.rows()).truncated, [False, True]
    )


def test_generated_data_load_with_the_environment_that_they_are_for(corner: str) -> None:
    dataset = load_dataset(corner, reward_shift=-1)
    assert dataset.rows().shape == (903, 70)
    assert dataset.rows().dtype == np.float32
    assert dataset.rows().flags.c_contiguous
    assert dataset.environment == EnvironmentSpec(
        "iqlft/AntMaze-Corner-v0",
        {"maze": "Corner", "continuing_task": False, "max_episode_steps": 300},
        ("achieved_goal", "observation"),
        observation_leaves=LEAVES,
        reward_shift=-1,
        entry_point="iqlft_workers.antmaze:AntMazeEnv",
        action_low=(-1.0,) * 8,
        action_high=(1.0,) * 8,
    )
    assert dataset.reference_scores == (0, 1)
    environment = Environment(dataset.environment)
    check_fits(dataset, environment)
    assert environment.gym.spec.max_episode_steps == 300
    environment.close()


def test_mean_and_deviation_are_those_of_the_observations(corner: str) -> None:
    dataset = load_dataset(corner)
    observations = dataset.rows()[:, :29].astype(np.float64)
    np.testing.assert_allclose(dataset.statistics.mean, observations.mean(0), atol=1e-6)
    np.testing.assert_allclose(dataset.statistics.std, observations.std(0) + 1e-3, rtol=1e-5)
    assert dataset.statistics.std.dtype == np.float32


def test_the_hash_names_the_content(corner: str) -> None:
    again, shifted = load_dataset(corner), load_dataset(corner, reward_shift=-1)
    assert load_dataset(corner).statistics.hash == again.statistics.hash != shifted.statistics.hash


def test_a_given_environment_replaces_the_recorded_one(corner: str) -> None:
    spec = EnvironmentSpec("iqlft/AntMaze-UMaze-v0")
    dataset = load_dataset(corner, environment=spec, reward_shift=-1)
    assert dataset.environment == dataclasses.replace(
        spec,
        observation_keys=("achieved_goal", "observation"),
        observation_leaves=LEAVES,
        reward_shift=-1,
        action_low=(-1.0,) * 8,
        action_high=(1.0,) * 8,
    )
    # The ant never leaves the corner, so umaze's goal (0.75, 8.75) is never reached.
    np.testing.assert_array_equal(dataset.layout.transitions(dataset.rows()).rewards, -1)


def test_dimensions_that_do_not_fit_are_named(corner: str) -> None:
    dataset = load_dataset(corner, goal="observed")
    other = Environment(EnvironmentSpec("Pendulum-v1"))
    with pytest.raises(EnvironmentMismatchError, match=r"observations of .* have 31 .* have 3;"):
        check_fits(dataset, other)


@pytest.mark.usefixtures("minari_root")
def test_a_dataset_with_farama_schema_is_relabelled_to_its_single_goal_cell() -> None:
    import gymnasium_robotics  # noqa: F401  # registers the ids

    maze = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]
    recorded = gymnasium.make(
        "AntMaze_UMaze-v5", maze_map=maze, continuing_task=True,
        include_cfrc_ext_in_observation=False,
    )  # fmt: skip
    # The goal cell's centre in Gymnasium-Robotics' coordinates is (2, 0), the radius 0.45.
    positions = [[2, 0.0], [2, 0.4], [2, 0.5]]
    write("D4RL/antmaze/tiny-v1", [goal_episode(positions)], env=recorded)
    dataset = load_dataset("D4RL/antmaze/tiny-v1")
    transitions = dataset.layout.transitions(dataset.rows())
    np.testing.assert_array_equal(transitions.rewards, [1, 0])
    assert dataset.environment.id == "iqlft/FixedGoalMaze-v0"
    assert dataset.environment.kwargs["maze_id"] == "gymnasium_robotics:AntMaze_UMaze-v5"
    assert dataset.environment.kwargs["continuing_task"] is False
    environment = Environment(dataset.environment)
    check_fits(dataset, environment)
    environment.close()


@pytest.mark.usefixtures("minari_root")
def test_a_dataset_without_goals_says_which_mode_it_needs() -> None:
    episode = EpisodeBuffer(
        observations=np.zeros((2, 3), np.float32), actions=np.zeros((1, 1), np.float32),
        rewards=np.zeros(1), terminations=np.zeros(1, np.bool_), truncations=np.ones(1, np.bool_),
    )  # fmt: skip
    write("test/pendulum-v0", [episode], env="Pendulum-v1")
    with pytest.raises(DatasetError, match="use the goal mode `stored`"):
        load_dataset("test/pendulum-v0")


@pytest.mark.parametrize(
    ("dataset_id", "advice"),
    [
        ("iqlft/antmaze/umaze-v1", "make it with `iqlft data make antmaze-umaze`"),
        ("antmaze-umaze", "make it with `iqlft data make antmaze-umaze`"),
        ("iqlft/antmaze/umase-v1", "list`. Did you mean 'iqlft/antmaze/umaze-v1'?"),
        ("D4RL/antmaze/umaze-v1", "iqlft data download D4RL/antmaze/umaze-v1"),
        ("no id at all", "not of the form"),
    ],
)
@pytest.mark.usefixtures("minari_root")
def test_a_missing_dataset_is_answered_with_the_command_that_brings_it(
    dataset_id: str, advice: str
) -> None:
    with pytest.raises(DatasetError) as error:
        load_dataset(dataset_id)
    assert advice in str(error.value)


def test_a_missing_dataset_is_answered_with_the_nearest_local_ones(corner: str) -> None:
    with pytest.raises(DatasetError, match=f"Nearest local datasets: {corner}"):
        load_dataset("iqlft/antmaze/corners-v1")


def test_a_damaged_dataset_says_where_it_is(
    minari_root: Path, corner_env: gymnasium.Env[Any, Any]
) -> None:
    write("test/corner-v0", [goal_episode([FAR, FAR])], env=corner_env)
    (minari_root / "test/corner-v0/data/metadata.json").write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_dataset("test/corner-v0")


@pytest.mark.parametrize(("distance", "reached"), [(0.499, True), (0.501, False)])
def test_a_goal_is_reached_within_its_radius(distance: float, reached: bool) -> None:
    assert Goal(np.zeros(2), 0.5).reached(np.array([0.0, distance])) == reached
