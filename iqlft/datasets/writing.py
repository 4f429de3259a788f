"""Generated episodes become a Minari dataset."""

from __future__ import annotations

import copy
import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

import gymnasium
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.datasets.episodes import load_episode, make_environment, reset_options
from iqlft.datasets.storage import staged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gymnasium.envs.registration import EnvSpec

    from iqlft.datasets.tasks import AntMazeTask

REQUIREMENTS = ["iqlft>=0.1", "gymnasium>=1.2", "gymnasium-robotics>=1.4.2", "mujoco>=3.3"]
"""What recovering the environments takes."""


def write_dataset(
    task: AntMazeTask, shards: Sequence[Path], work: Path, *, policy_sha256: str, noise: float,
    seed: int,
) -> None:  # fmt: skip
    """Writes shards as the task's Minari dataset, one episode in memory at a time.

    Args:
        task: whose dataset this is.
        shards: files of `save_episode`, in the order of the episodes.
        work: folder for the unfinished dataset, on the file system of the datasets.
        policy_sha256: hash of the policy file.
        noise: deviation of the action noise.
        seed: of the dataset.
    """
    environment = make_environment(task)
    origin = {"policy_sha256": policy_sha256, "noise": noise, "seed": seed}
    with staged(task.dataset_id, work), warnings.catch_warnings():
        # No person's address belongs into a dataset, and Minari warns about its absence.
        warnings.filterwarnings("ignore", "`(author_email|code_permalink)` is set to None")
        dataset = minari.create_dataset_from_buffers(
            task.dataset_id,
            (_buffer(index, path) for index, path in enumerate(shards)),
            env=environment,
            eval_env=_evaluation_spec(task),
            algorithm_name="breadth-first search and a goal-reaching ant policy (D4RL's procedure)",
            author={"iqlft"},
            ref_min_score=0.0,
            ref_max_score=1.0,
            description=_describe(task, origin),
            requirements=REQUIREMENTS,
        )
        dataset.storage.update_metadata({"license": "Apache-2.0", "iqlft": origin})
    environment.close()


def _buffer(index: int, path: Path) -> EpisodeBuffer:
    episode = load_episode(path)
    steps = len(episode.actions)
    return EpisodeBuffer(
        id=index,
        seed=int(episode.seed),
        options=reset_options(episode.start, episode.goal_cell),
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=np.zeros(steps, np.bool_),
        truncations=np.arange(steps) == steps - 1,
        infos={
            "success": episode.success,
            "qpos": episode.qpos,
            "qvel": episode.qvel,
            "goal": episode.goal,
        },
    )


def _evaluation_spec(task: AntMazeTask) -> EnvSpec:
    """The registered environment, with the meaning of success written out."""
    spec = copy.deepcopy(gymnasium.spec(task.environment_id))
    spec.kwargs["continuing_task"] = False
    return spec


def _describe(task: AntMazeTask, origin: dict[str, Any]) -> str:
    return (
        f"{task.name}, regenerated with the D4RL procedure (not D4RL's data): an ant with D4RL's "
        f"physics walks from {task.starts} to {task.goals}, led by breadth-first search over the "
        f"maze's cells replanned at every step. Episodes of {task.episode_steps} steps end by "
        "time-out only. Stored rewards are for each episode's commanded goal; the evaluation goal "
        f"is another. Policy sha256 {origin['policy_sha256']}, action noise {origin['noise']}, "
        f"seed {origin['seed']}, MuJoCo {importlib.metadata.version('mujoco')}."
    )
