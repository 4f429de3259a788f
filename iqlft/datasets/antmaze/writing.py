"""Episodes, generated or imported, become a Minari dataset."""

from __future__ import annotations

import copy
import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

import gymnasium
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.datasets.antmaze.episodes import load_episode, make_environment, reset_options
from iqlft.datasets.antmaze.tasks import REGENERATED
from iqlft.datasets.storage import staged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gymnasium.envs.registration import EnvSpec
    from numpy.typing import NDArray

    from iqlft.datasets.antmaze.gait import Gait
    from iqlft.datasets.antmaze.tasks import AntMazeTask

REQUIREMENTS = ["iqlft>=0.1", "gymnasium>=1.2", "gymnasium-robotics>=1.4.2", "mujoco>=3.3"]
"""What recovering the environments takes."""


def write_dataset(
    task: AntMazeTask, shards: Sequence[Path], work: Path, *, gait: Gait, noise: float, seed: int
) -> None:
    """Writes shards as the task's Minari dataset, one episode in memory at a time.

    Args:
        task: whose dataset this is.
        shards: files of `save_episode`, in the order of the episodes.
        work: folder for the unfinished dataset, on the file system of the datasets.
        gait: that walked.
        noise: deviation of the action noise.
        seed: of the dataset.
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
        task.dataset_id,
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


def create_dataset(
    dataset_id: str,
    episodes: Iterable[EpisodeBuffer],
    work: Path,
    *,
    environment: gymnasium.Env[Any, Any],
    evaluation: EnvSpec | None,
    origin: Mapping[str, Any],
    license_name: str,
    algorithm_name: str,
    author: str,
    scores: tuple[float, float] | None,
    description: str,
) -> None:
    """Creates a Minari dataset in one move, or none at all; one of the same id is replaced.

    Args:
        dataset_id: Minari id.
        episodes: in order; they are taken one at a time.
        work: folder for the unfinished dataset, on the file system of the datasets.
        environment: in which the episodes were recorded.
        evaluation: what to evaluate in.
        origin: what determines the content, and where it has one the `label` by which figures
            call it; kept in the metadata under `iqlft`.
        license_name: of the data.
        algorithm_name: what acted.
        author: of the data.
        scores: returns that score 0 and 100, or None.
        description: in sentences.
    """
    low, high = scores or (None, None)
    with staged(dataset_id, work), warnings.catch_warnings():
        # No person's address belongs into a dataset, and Minari warns about its absence.
        warnings.filterwarnings("ignore", "`(author_email|code_permalink)` is set to None")
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            env=environment,
            eval_env=evaluation,
            algorithm_name=algorithm_name,
            author={author},
            ref_min_score=low,
            ref_max_score=high,
            description=description,
            requirements=REQUIREMENTS,
        )
        dataset.storage.update_metadata({"license": license_name, "iqlft": dict(origin)})


def episode_buffer(
    index: int,
    observations: Any,  # noqa: ANN401
    actions: NDArray[Any],
    rewards: NDArray[np.float64],
    *,
    terminated: bool = False,
    **others: Any,  # noqa: ANN401
) -> EpisodeBuffer:
    """An episode of T transitions in Minari's form, which ends with the last of them.

    Args:
        index: of the episode in its dataset.
        observations: `(T+1, O)`, or a mapping of such arrays.
        actions: `(T, A)`.
        rewards: `(T,)`.
        terminated: whether the task was over at the end; a time limit otherwise.
        others: `infos`, `seed` and `options`, where there are any.
    """
    last = np.arange(len(actions)) == len(actions) - 1
    return EpisodeBuffer(
        id=index,
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminations=last & terminated,
        truncations=last & (not terminated),
        **others,
    )


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
    """The registered environment, with the meaning of success written out."""
    spec = copy.deepcopy(gymnasium.spec(task.environment_id))
    spec.kwargs["continuing_task"] = False
    return spec


def _label(gait: Gait, noise: float) -> str:
    # Sets walked otherwise are other data: figures and tables tell them by this.
    label = REGENERATED
    if not gait.is_shipped:
        label += f", walked by {gait.name}"
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
