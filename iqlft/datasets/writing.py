"""Writes generated or imported episodes as a Minari dataset."""

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
"""Packages needed to make the environment again; without an environment, the first is enough."""


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
    """Creates a Minari dataset completely or not at all; replaces one of the same id.

    Args:
        dataset_id: Minari id.
        episodes: in order; consumed one at a time.
        work: folder for the unfinished dataset, on the file system of the datasets.
        environment: in which the episodes were recorded; None: it cannot be made.
        evaluation: spec of the evaluation environment.
        origin: what determines the content, optionally with a `label` to show in figures; kept in
            the metadata under `iqlft`.
        license_name: license of the data.
        algorithm_name: what chose the actions.
        author: author of the data.
        scores: returns that score 0 and 100, or None.
        description: in sentences.
        spaces: of observations and actions, if there is no environment.
    """
    observed, acted = spaces or (None, None)
    low, high = scores or (None, None)
    with staged(dataset_id, work), warnings.catch_warnings():
        # No person's address belongs in a dataset, but Minari warns if it is absent.
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
    """An episode of T transitions in Minari's format, which ends at the last transition.

    Args:
        index: of the episode in its dataset.
        observations: `(T+1, O)`, or a mapping of such arrays.
        actions: `(T, A)`.
        rewards: `(T,)`.
        terminated: whether the task was over at the end; otherwise the episode is truncated.
        others: `infos`, `seed` and `options`, if there are any.
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
