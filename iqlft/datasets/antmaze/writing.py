"""Writes generated episodes as a task's Minari dataset, which records how they were made."""

from __future__ import annotations

import copy
import importlib.metadata
from typing import TYPE_CHECKING

import gymnasium

from iqlft.datasets.antmaze.episodes import load_episode, make_environment, reset_options
from iqlft.datasets.antmaze.tasks import REGENERATED
from iqlft.datasets.writing import create_dataset, episode_buffer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gymnasium.envs.registration import EnvSpec
    from minari.data_collector.episode_buffer import EpisodeBuffer

    from iqlft.datasets.antmaze.gait import Gait
    from iqlft.datasets.antmaze.tasks import AntMazeTask


def write_dataset(
    dataset_id: str,
    task: AntMazeTask,
    shards: Sequence[Path],
    work: Path,
    *,
    gait: Gait,
    noise: float,
    seed: int,
) -> None:
    """Writes shards as the task's Minari dataset, one episode in memory at a time.

    Args:
        dataset_id: Minari id to write.
        task: the dataset's task.
        shards: files written by `save_episode`, in the order of the episodes.
        work: folder for the unfinished dataset, on the file system of the datasets.
        gait: the ant's policy.
        noise: standard deviation of the action noise.
        seed: seed of the dataset.
    """
    environment = make_environment(task)
    label = _label(gait, noise)
    origin = {
        "label": label,
        "policy": gait.name,
        "policy_sha256": gait.sha256,
        "noise": noise,
        "seed": seed,
    }
    create_dataset(
        dataset_id,
        (_generated(index, path) for index, path in enumerate(shards)),
        work,
        environment=environment,
        evaluation=evaluation_spec(task),
        origin=origin,
        license_name="Apache-2.0",
        algorithm_name="breadth-first search and a goal-reaching ant policy (D4RL's procedure)",
        author="iqlft",
        scores=(0.0, 1.0),
        description=_describe(task, label, gait, noise, seed),
    )
    environment.close()


def _generated(index: int, path: Path) -> EpisodeBuffer:
    episode = load_episode(path)
    return episode_buffer(
        index,
        episode.observations,
        episode.actions,
        episode.rewards,
        seed=int(episode.seed),
        options=reset_options(episode.start, episode.goal_cell),
        infos={
            "success": episode.success,
            "qpos": episode.qpos,
            "qvel": episode.qvel,
            "goal": episode.goal,
        },
    )


def evaluation_spec(task: AntMazeTask) -> EnvSpec:
    """The task's registered environment, with `continuing_task=False` made explicit."""
    spec = copy.deepcopy(gymnasium.spec(task.environment_id))
    spec.kwargs["continuing_task"] = False
    return spec


def _label(gait: Gait, noise: float) -> str:
    # Figures and tables use the label to tell datasets of other policies and noise apart.
    walker = gait.version or f"walked by {gait.name}"
    label = f"{REGENERATED}, {walker}"
    if noise != gait.noise:
        label += f", action noise {noise:g}"
    return label


def _describe(task: AntMazeTask, label: str, gait: Gait, noise: float, seed: int) -> str:
    return (
        f"{task.name}, {label} (not D4RL's data): an ant with D4RL's physics walks from "
        f"{task.starts} to {task.goals}, led by breadth-first search over the maze's cells "
        f"replanned at every step. Episodes of {task.episode_steps} steps end by time-out only. "
        "Stored rewards are for each episode's commanded goal; the evaluation goal is another. "
        f"Policy sha256 {gait.sha256}, action noise {noise}, seed {seed}, "
        f"MuJoCo {importlib.metadata.version('mujoco')}."
    )
