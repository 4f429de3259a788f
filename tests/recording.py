"""Small genuine Minari datasets of each family, recorded from the real environments.

They have the form of the published ones, as Farama's generation scripts and documentation describe
it: the same environments, spaces, infos and metadata, quirks included. What they lack is size and
skill: apart from the point's waypoint follower, actions are smoothed noise.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import gymnasium_robotics  # noqa: F401  # registers its ids
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft_workers.registration import any_version
from recorded_episodes import (
    Cell,
    Environment,
    PolicyMaker,
    drive_point,
    maze_state,
    nothing,
    smooth_noise,
    success,
    unbroken_episodes,
    whole_episode,
    whole_episodes,
)

MazeMap = list[list[Any]]


class AntMazeSet(NamedTuple):
    """How one of the official AntMaze sets was recorded.

    Attributes:
        environment_id: Gymnasium id.
        start: start cell of the recorded evaluation map.
        goal: its goal cell.
        mirrored: whether that map is the mirror image of the recording's (Minari's issue 304).
        letters: start and goal cell of the recording's map, where it has single ones.
    """

    environment_id: str
    start: Cell
    goal: Cell
    mirrored: bool = False
    letters: tuple[Cell, Cell] | None = None


ANTMAZE_SETS = {
    # Recorded from the lower arm of the U to the upper one, D4RL's task upside down.
    "D4RL/antmaze/umaze-v1": AntMazeSet("AntMaze_UMaze-v4", (1, 3), (3, 3), True, ((3, 1), (1, 1))),
    "D4RL/antmaze/umaze-diverse-v1": AntMazeSet("AntMaze_UMaze-v4", (1, 3), (3, 3), True),
    "D4RL/antmaze/medium-play-v1": AntMazeSet("AntMaze_Medium-v4", (1, 1), (6, 6)),
    "D4RL/antmaze/medium-diverse-v1": AntMazeSet("AntMaze_Medium_Diverse_GR-v4", (1, 1), (6, 6)),
    "D4RL/antmaze/large-play-v1": AntMazeSet("AntMaze_Large-v4", (1, 1), (7, 9)),
    "D4RL/antmaze/large-diverse-v1": AntMazeSet("AntMaze_Large_Diverse_GR-v4", (1, 1), (7, 9)),
}
"""The official sets by id. In their names, play and diverse mean the opposite of D4RL's."""

POINTMAZE_GOALS = {"UMaze": (1, 1), "Medium": (6, 6), "Large": (7, 9)}
"""The goal cell of each maze's evaluation map."""


def record_locomotion(
    dataset_id: str,
    environment_id: str,
    *,
    transitions: int = 2_000,
    seed: int = 0,
    reference_scores: tuple[float, float] | None = None,
) -> None:
    """Records a set of the form of `mujoco/halfcheetah/medium-v0`: Box observations, no infos.

    Args:
        dataset_id: of the set, under the current Minari folder.
        environment_id: such as `HalfCheetah-v5`.
        transitions: the least number; episodes are whole.
        seed: determines the set.
        reference_scores: for the metadata; the published sets have none.
    """
    with _made(environment_id) as environment:
        episodes = whole_episodes(environment, transitions, seed, nothing)
        _write(dataset_id, environment, episodes, reference_scores=reference_scores)


def record_adroit(
    dataset_id: str, environment_id: str, *, transitions: int = 600, seed: int = 0
) -> None:
    """Records a set of the form of `D4RL/pen/human-v2`; the info `success` is stored.

    Args:
        dataset_id: of the set, under the current Minari folder.
        environment_id: such as `AdroitHandPen-v1`.
        transitions: the least number; episodes are whole.
        seed: determines the set.
    """
    with _made(environment_id) as environment:
        episodes = whole_episodes(environment, transitions, seed, success)
        _write(dataset_id, environment, episodes)


def record_kitchen(
    dataset_id: str,
    environment_id: str,
    *,
    transitions: int = 560,
    seed: int = 0,
    **kwargs: Any,  # noqa: ANN401
) -> None:
    """Records a set of the form of `D4RL/kitchen/complete-v2`: nested Dict observations.

    Args:
        dataset_id: of the set, under the current Minari folder.
        environment_id: `FrankaKitchen-v1`, or `nested_environment:KitchenForm-v0`.
        transitions: the least number; episodes are whole.
        seed: determines the set.
        kwargs: the environment's, such as `tasks_to_complete`.
    """
    with _made(environment_id, **kwargs) as environment:
        _write(dataset_id, environment, whole_episodes(environment, transitions, seed, nothing))


def record_pointmaze(
    dataset_id: str, maze: str = "UMaze", *, transitions: int = 2_000, seed: int = 0
) -> None:
    """Records a set of the form of `D4RL/pointmaze/umaze-v2`.

    The point never stops: when it reaches its goal, the episode is truncated, the next one begins
    where it stands, and the goal is drawn anew. Evaluations have one goal and a time limit, and go
    on after success; the reference scores are of such returns.

    Args:
        dataset_id: of the set, under the current Minari folder.
        maze: `UMaze`, `Medium` or `Large`.
        transitions: number of transitions.
        seed: determines the set.
    """
    endless = {"continuing_task": True, "reset_target": True, "max_episode_steps": 1_000_000}
    with _made(f"PointMaze_{maze}-v3", **endless) as environment:
        noise = np.random.default_rng(seed).normal(0, 0.5, (transitions, 2))
        policy = drive_point(environment, noise)
        episodes = unbroken_episodes(environment, policy, transitions, seed, maze_state(2))
        evaluation = _spec_of(environment)
        evaluation.max_episode_steps = gymnasium.spec(evaluation.id).max_episode_steps
        goal_map = _lettered(evaluation.kwargs["maze_map"], {POINTMAZE_GOALS[maze]: "g"})
        evaluation.kwargs |= {"reset_target": False, "maze_map": goal_map}
        _write(dataset_id, environment, episodes, evaluation, reference_scores=(0.0, 200.0))


def record_antmaze(
    dataset_id: str,
    *,
    episodes: int = 3,
    episode_steps: int | None = None,
    seed: int = 0,
    policy: PolicyMaker = smooth_noise,
    options: dict[str, Any] | None = None,
) -> None:
    """Records a set of the form of the official AntMaze sets, with the stock ant.

    Every episode lasts until its time limit, none is terminated, and rewards are for the episode's
    own goal. The recorded evaluation environment has the published map, in both umaze sets a mirror
    image of the recording's, and goes on after success; the reference scores are of such returns.

    Args:
        dataset_id: one of `ANTMAZE_SETS`.
        episodes: number of episodes.
        episode_steps: their length; the published one (700 or 1,000) when absent.
        seed: determines the set.
        policy: makes the ant's policy of the environment and the seed.
        options: of every reset: `reset_cell` and `goal_cell` (row, column); the same cell for both
            lets even noise reach the goal now and then.
    """
    form = ANTMAZE_SETS[dataset_id]
    kwargs: dict[str, Any] = {"continuing_task": True, "reset_target": False}
    if form.letters is not None:
        start, goal = form.letters
        own_map = gymnasium.spec(form.environment_id).kwargs["maze_map"]
        kwargs["maze_map"] = _lettered(own_map, {start: "r", goal: "g"})
    if episode_steps is not None:
        kwargs["max_episode_steps"] = episode_steps
    with _made(form.environment_id, **kwargs) as environment:
        act = policy(environment, seed)
        buffers = [
            whole_episode(environment, act, index, seed + index, maze_state(13), options)
            for index in range(episodes)
        ]
        evaluation = _spec_of(environment)
        maze_map: MazeMap = evaluation.kwargs["maze_map"]
        if form.mirrored:
            maze_map = [list(reversed(row)) for row in maze_map]
        evaluation.kwargs["maze_map"] = _lettered(maze_map, {form.start: "r", form.goal: "g"})
        _write(dataset_id, environment, buffers, evaluation, reference_scores=(0.0, 400.0))


@contextmanager
def _made(environment_id: str, **kwargs: Any) -> Iterator[Environment]:  # noqa: ANN401
    """An environment that leaves no file behind."""
    with any_version():
        environment = gymnasium.make(environment_id, disable_env_checker=True, **kwargs)
    # Gymnasium-Robotics writes a maze to a file at its construction and never looks at it again.
    if hasattr(environment.unwrapped, "tmp_xml_file_path"):
        Path(environment.unwrapped.tmp_xml_file_path).unlink(missing_ok=True)
    try:
        yield environment
    finally:
        environment.close()


def _spec_of(environment: Environment) -> EnvSpec:
    """A copy of an environment's spec."""
    assert environment.spec is not None
    return copy.deepcopy(environment.spec)


def _lettered(maze_map: MazeMap, letters: dict[Cell, str]) -> MazeMap:
    """The walls of a map, with letters in some of its free cells."""
    return [
        [1 if cell == 1 else letters.get((i, j), 0) for j, cell in enumerate(row)]
        for i, row in enumerate(maze_map)
    ]


def _write(
    dataset_id: str,
    environment: Environment,
    episodes: list[EpisodeBuffer],
    evaluation: EnvSpec | None = None,
    *,
    reference_scores: tuple[float, float] | None = None,
) -> None:
    with warnings.catch_warnings():
        # Minari misses an author's address, a link to code and, where none differs, `eval_env`.
        warnings.filterwarnings("ignore", ".*is set to None", UserWarning)
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            env=environment,
            eval_env=evaluation,
            algorithm_name="tests/recording.py",
            author={"iqlft"},
            description="A small set recorded for tests.",
        )
    if reference_scores is not None:
        low, high = reference_scores
        # Given to Minari above, they would make it construct the evaluation environment.
        dataset.storage.update_metadata({"ref_min_score": low, "ref_max_score": high})
