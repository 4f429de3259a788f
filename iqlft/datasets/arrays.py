"""Plain arrays become a Minari dataset, which every command and the Python API then read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqlft.datasets import storage
from iqlft.datasets.d4rl.importing import check_id
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.writing import create_dataset, episode_buffer
from iqlft_workers.environment import EnvironmentSpec, make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minari.data_collector.episode_buffer import EpisodeBuffer
    from numpy.typing import ArrayLike, NDArray


class _Arrays(NamedTuple):
    """N transitions in the order of time; the flags end episodes, and so does the last row."""

    observations: NDArray[np.float64]
    actions: NDArray[np.float64]
    rewards: NDArray[np.float64]
    next_observations: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


def create_from_arrays(
    dataset_id: str,
    *,
    environment: str,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    next_observations: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    force: bool = False,
) -> str:
    """Writes N transitions as a Minari dataset on this machine.

    Args:
        dataset_id: Minari id, such as `mine/pendulum-v0`.
        environment: Gymnasium id of the environment in which they were recorded.
        observations: `(N, ...)`, in the order of time.
        actions: `(N, ...)`, in the environment's units.
        rewards: `(N,)`.
        next_observations: `(N, ...)`; within an episode each is the next row's observation.
        terminated: `(N,)` flags: the task is over, which cuts the bootstrap.
        truncated: `(N,)` flags: a time limit ended the episode, which does not.
        force: replaces a dataset of the same id.

    Returns:
        The id, for `iqlft.load_dataset`.

    Raises:
        DatasetError: the arrays do not fit together, a row does not follow the one before, the id
            cannot be used, or the dataset exists.
        EnvironmentMismatchError: the environment is unknown.
    """
    check_id(dataset_id)
    if not force:
        storage.require_absent(dataset_id)
    arrays = _Arrays(
        np.asarray(observations, np.float64),
        np.asarray(actions, np.float64),
        np.asarray(rewards, np.float64),
        np.asarray(next_observations, np.float64),
        np.asarray(terminated).astype(np.bool_),
        np.asarray(truncated).astype(np.bool_),
    )
    _check(arrays)
    recorded = make(EnvironmentSpec(environment, trust=True))
    work = storage.work_folder(f"arrays-{os.getpid()}")
    try:
        create_dataset(
            dataset_id,
            _episodes(arrays, recorded.observation_space.dtype, recorded.action_space.dtype),
            work,
            environment=recorded,
            evaluation=recorded.spec,
            origin={},
            license_name="of its owner's choice",
            algorithm_name="unknown",
            author="unknown",
            scores=None,
            description=f"Transitions of {environment}, from arrays.",
        )
    finally:
        storage.remove_work(work)
        recorded.close()
    return dataset_id


def _check(arrays: _Arrays) -> None:
    lengths = {name: len(each) for name, each in arrays._asdict().items() if each.ndim}
    if len(lengths) < len(arrays) or len({*lengths.values()}) != 1 or not len(arrays.rewards):
        raise DatasetError(f"The arrays need one row for each transition, but have {lengths}.")
    if arrays.observations.shape != arrays.next_observations.shape:
        raise DatasetError(
            f"observations are {arrays.observations.shape}, but next_observations "
            f"{arrays.next_observations.shape}; they must be alike."
        )
    inside = ~(arrays.terminated | arrays.truncated)[:-1]
    same = arrays.observations[1:] == arrays.next_observations[:-1]
    broken = np.flatnonzero(inside & ~same.reshape(len(same), -1).all(-1))
    if len(broken):
        raise DatasetError(
            f"Row {broken[0] + 1} does not follow row {broken[0]} ({len(broken):,} such rows): its "
            "observation is not the next_observation before it; give the rows in the order of "
            "time, and truncated where an episode ends."
        )


def _episodes(
    arrays: _Arrays, observed: np.dtype | None, acted: np.dtype | None
) -> Iterator[EpisodeBuffer]:
    ends = np.flatnonzero(arrays.terminated | arrays.truncated).tolist()
    if not ends or ends[-1] != len(arrays.rewards) - 1:
        ends.append(len(arrays.rewards) - 1)
    first = 0
    for index, last in enumerate(ends):
        rows = slice(first, last + 1)
        observations = [arrays.observations[rows], arrays.next_observations[last : last + 1]]
        yield episode_buffer(
            index,
            np.concatenate(observations).astype(observed),
            arrays.actions[rows].astype(acted),
            arrays.rewards[rows],
            terminated=bool(arrays.terminated[last]),
        )
        first = last + 1
