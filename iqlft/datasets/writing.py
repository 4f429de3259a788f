"""Episodes, generated or imported, become a Minari dataset."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.datasets.storage import staged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import gymnasium
    from gymnasium.envs.registration import EnvSpec
    from numpy.typing import NDArray

    Spaces = tuple[gymnasium.Space[Any], gymnasium.Space[Any]]

REQUIREMENTS = ["iqlft>=0.1", "gymnasium>=1.2", "gymnasium-robotics>=1.4.2", "mujoco>=3.3"]
"""What recovering the environment takes, where there is one; without one the first is enough."""


def create_dataset(
    dataset_id: str,
    episodes: Iterable[EpisodeBuffer],
    work: Path,
    *,
    environment: gymnasium.Env[Any, Any] | None,
    evaluation: EnvSpec | None,
    origin: Mapping[str, Any],
    license_name: str,
    algorithm_name: str,
    author: str,
    scores: tuple[float, float] | None,
    description: str,
    spaces: Spaces | None = None,
) -> None:
    """Creates a Minari dataset in one move, or none at all; one of the same id is replaced.

    Args:
        dataset_id: Minari id.
        episodes: in order; they are taken one at a time.
        work: folder for the unfinished dataset, on the file system of the datasets.
        environment: in which the episodes were recorded; None: nobody can make it.
        evaluation: what to evaluate in.
        origin: what determines the content, and where it has one the `label` by which figures
            call it; kept in the metadata under `iqlft`.
        license_name: of the data.
        algorithm_name: what acted.
        author: of the data.
        scores: returns that score 0 and 100, or None.
        description: in sentences.
        spaces: of observations and actions, where there is no environment.
    """
    observed, acted = spaces or (None, None)
    low, high = scores or (None, None)
    with staged(dataset_id, work), warnings.catch_warnings():
        # No person's address belongs into a dataset, and Minari warns about its absence.
        warnings.filterwarnings("ignore", "`(author_email|code_permalink)` is set to None")
        if environment is None:
            warnings.filterwarnings("ignore", "`eval_env` is set to None|env_spec is None")
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            env=environment,
            eval_env=evaluation,
            observation_space=observed,
            action_space=acted,
            algorithm_name=algorithm_name,
            author={author},
            ref_min_score=low,
            ref_max_score=high,
            description=description,
            requirements=REQUIREMENTS if environment else REQUIREMENTS[:1],
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
