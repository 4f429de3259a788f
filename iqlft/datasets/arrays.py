"""Turns plain arrays into a Minari dataset, which every command and the Python API can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium import spaces

from iqlft.datasets import storage
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.imported import check_id
from iqlft.datasets.reading import as_flags, usable
from iqlft.datasets.writing import create_dataset, episode_buffer
from iqlft_workers.actions import UNBOUNDED, ActionRange, actions_refusal
from iqlft_workers.environment import EnvironmentSpec, make

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from minari.data_collector.episode_buffer import EpisodeBuffer
    from numpy.typing import ArrayLike, NDArray

    from iqlft.datasets.writing import Spaces


class Arrays(NamedTuple):
    """N transitions in time order; episodes end where a flag is set, and at the last row."""

    observations: NDArray[np.float64]
    actions: NDArray[np.float64]
    rewards: NDArray[np.float64]
    next_observations: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    @classmethod
    def of(cls, given: Mapping[str, ArrayLike]) -> Arrays:
        """Converts arrays of any numeric type, given by the names of the fields.

        Raises:
            DatasetError: the arrays hold anything but finite numbers, do not fit together, or a row
                does not follow from the previous row.
        """
        *values, terminated, truncated = (_numbers(name, given[name]) for name in cls._fields)
        flags = [
            as_flags(terminated, "terminated holds values"),
            as_flags(truncated, "truncated holds values"),
        ]
        arrays = cls._make([*values, *flags])
        _check(arrays)
        return arrays

    @property
    def ends(self) -> list[int]:
        """Index of the last row of each episode."""
        ends = np.flatnonzero(self.terminated | self.truncated).tolist()
        return (
            ends if ends and ends[-1] == len(self.rewards) - 1 else [*ends, len(self.rewards) - 1]
        )


def create_from_arrays(
    dataset_id: str,
    *,
    environment: str | None = None,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    next_observations: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    action_low: ArrayLike = -1,
    action_high: ArrayLike = 1,
    force: bool = False,
) -> str:
    """Writes N transitions as a Minari dataset on this machine.

    Args:
        dataset_id: Minari id, such as `mine/pendulum-v0`.
        environment: Gymnasium id of the environment in which they were recorded; None: they were
            recorded on a robot or a plant, which cannot be made.
        observations: `(N, ...)`, in time order.
        actions: `(N, ...)`, in the environment's units.
        rewards: `(N,)`.
        next_observations: `(N, ...)`; within an episode each is the next row's observation.
        terminated: `(N,)` flags: the task is over, which cuts the bootstrap.
        truncated: `(N,)` flags: a time limit ended the episode, which does not cut the bootstrap.
        action_low: without an environment, the lower bounds of actions: one number, or one per
            value of an action.
        action_high: the upper bounds, likewise.
        force: replaces a dataset of the same id.

    Returns:
        The id, for `iqlft.load_dataset`.

    Raises:
        DatasetError: the arrays hold anything but finite numbers or do not fit together, a row does
            not follow from the previous row, the id cannot be used, or the dataset exists.
        EnvironmentMismatchError: the environment is unknown.
    """
    arrays = Arrays.of(
        {
            "observations": observations,
            "actions": actions,
            "rewards": rewards,
            "next_observations": next_observations,
            "terminated": terminated,
            "truncated": truncated,
        }
    )
    source = environment or "a robot or plant"
    write_arrays(
        dataset_id,
        arrays,
        environment,
        (action_low, action_high),
        description=f"Transitions of {source}, from arrays.",
        force=force,
    )
    return dataset_id


def write_arrays(
    dataset_id: str,
    arrays: Arrays,
    environment: str | None,
    bounds: tuple[ArrayLike, ArrayLike],
    *,
    description: str,
    origin: Mapping[str, Any] | None = None,
    force: bool,
) -> None:
    """Writes arrays as a Minari dataset.

    Args:
        dataset_id: Minari id.
        arrays: the transitions.
        environment: Gymnasium id of the environment of the recording, if it can be made.
        bounds: lower and upper bounds of actions, if there is no environment.
        description: in sentences.
        origin: where the transitions come from, for the metadata.
        force: replaces a dataset of the same id.

    Raises:
        DatasetError: the id cannot be used, the dataset exists, the arrays do not fit the
            environment, or an action is out of its bounds.
        EnvironmentMismatchError: the environment is unknown.
    """
    check_id(dataset_id)
    storage.require_free(dataset_id, force=force)
    recorded = make(EnvironmentSpec(environment, trust=True)) if environment else None
    try:
        observed, acted = (
            (recorded.observation_space, recorded.action_space)
            if recorded
            else _spaces(arrays, bounds)
        )
        _require_fit(arrays, environment, observed, acted)
        with storage.own_work_folder() as work:
            create_dataset(
                dataset_id,
                _episodes(arrays, observed.dtype, acted.dtype),
                work,
                environment=recorded,
                evaluation=recorded.spec if recorded else None,
                origin=origin or {},
                license_name="of its owner's choice",
                algorithm_name="unknown",
                author="unknown",
                scores=None,
                description=description,
                spaces=(observed, acted),
            )
    finally:
        if recorded:
            recorded.close()


def _numbers(name: str, given: ArrayLike) -> NDArray[np.float64]:
    """One of the arrays, of a row for each transition."""
    try:
        if np.iscomplexobj(given):
            raise TypeError("they are complex")
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name} must be numbers ({error}).") from error
    vectors = name in ("observations", "actions", "next_observations")
    if array.ndim < 2 or 0 in array.shape[1:] if vectors else array.ndim != 1:
        raise DatasetError(
            f"{name} has the shape {array.shape}, but must be "
            f"{'(rows, values), one value at least' if vectors else '(rows,)'}."
        )
    refused = ~usable(array)
    if refused.any():
        row = int(np.argwhere(refused)[0][0])
        raise DatasetError(
            f"{name} holds {array[row][refused[row]][0]:g} in row {row}, which nothing can be "
            "learned from: mend it, or leave that episode out."
        )
    return array


def _spaces(arrays: Arrays, bounds: tuple[ArrayLike, ArrayLike]) -> Spaces:
    """Observation and action space of data without an environment; observations are unbounded."""
    shape = arrays.actions.shape[1:]
    try:
        low, high = (np.broadcast_to(np.asarray(each, np.float32), shape).copy() for each in bounds)
    except ValueError as error:
        raise DatasetError(
            f"The bounds of actions (action_low, action_high) do not fit those of the shape {shape}"
            f" ({error})."
        ) from error
    if not (usable(low).all() and usable(high).all()):
        raise DatasetError(
            "The bounds of actions (action_low, action_high) must be finite, but are "
            f"{low.tolist()} and {high.tolist()}."
        )
    if (low > high).any():
        raise DatasetError(
            "No bound of actions in action_low may be above that in action_high, but they are "
            f"{low.tolist()} and {high.tolist()}."
        )
    observed = arrays.observations.shape[1:]
    return (
        spaces.Box(-np.inf, np.inf, observed, np.float64),
        spaces.Box(low, high, shape, np.float32),
    )


def _require_fit(
    arrays: Arrays, environment: str | None, observed: spaces.Space[Any], acted: spaces.Space[Any]
) -> None:
    """Refuses arrays that do not fit these spaces."""
    if refusal := actions_refusal(acted):
        if environment is None:
            raise DatasetError(
                f"The bounds of actions (action_low, action_high) make {acted}, which is nothing "
                f"to learn in; give those within which actions make sense, below {UNBOUNDED:g}."
            )
        raise DatasetError(f"{environment} has {refusal}")
    if not isinstance(observed, spaces.Box):
        raise DatasetError(
            f"{environment} observes {observed}, but the arrays hold one vector for an observation;"
            " wrap the environment so that it gives that (FlattenObservation)."
        )
    shapes = arrays.observations.shape[1:], arrays.actions.shape[1:]
    if shapes != (observed.shape, acted.shape):
        raise DatasetError(
            f"An observation has the shape {shapes[0]} and an action {shapes[1]}, but those of "
            f"{environment} {observed.shape} and {acted.shape}; name what the arrays were recorded "
            "in."
        )
    assert isinstance(acted, spaces.Box)
    for name in ("observations", "next_observations"):
        if observed.dtype.kind in "iu" and not _holds(observed.dtype, getattr(arrays, name)):
            raise DatasetError(
                f"The {name} of {environment} are whole numbers ({observed.dtype}), but the arrays "
                "hold others; name what they were recorded in."
            )
    actions = arrays.actions.astype(np.float32)  # The type that training uses.
    slack = 1e-6 * np.maximum(1, np.maximum(abs(acted.low), abs(acted.high)))
    outside = ((actions < acted.low - slack) | (actions > acted.high + slack)).mean()
    if outside:
        advice = (
            "give actions in its units, as it executed them"
            if environment
            else "name the environment, or give the bounds of the robot's actions as action_low "
            "and action_high (else -1 and 1)"
        )
        raise DatasetError(
            f"{outside:.1%} of the actions' values are outside of "
            f"{f'those of {environment}' if environment else 'their bounds'}, "
            f"{ActionRange.of(acted.low.ravel(), acted.high.ravel())}; {advice}."
        )


def _holds(dtype: np.dtype[Any], array: NDArray[np.float64]) -> bool:
    """Whether a type can represent all values exactly."""
    with np.errstate(invalid="ignore"):
        return bool((array.astype(dtype) == array).all())


def _check(arrays: Arrays) -> None:
    lengths = {name: len(each) for name, each in arrays._asdict().items()}
    if len({*lengths.values()}) != 1 or not len(arrays.rewards):
        raise DatasetError(f"The arrays need one row for each transition, but have {lengths}.")
    if arrays.observations.shape != arrays.next_observations.shape:
        raise DatasetError(
            f"observations are {arrays.observations.shape}, but next_observations "
            f"{arrays.next_observations.shape}; they must be alike."
        )
    inside = ~(arrays.terminated | arrays.truncated)[:-1]
    same = arrays.observations[1:] == arrays.next_observations[:-1]
    broken = np.flatnonzero(inside & ~same.all(axis=tuple(range(1, same.ndim))))
    if len(broken):
        raise DatasetError(
            f"Row {broken[0] + 1} does not follow row {broken[0]} ({len(broken):,} such rows): its "
            "observation is not the next_observation before it; give the rows in the order of "
            "time, and truncated where an episode ends."
        )


def _episodes(
    arrays: Arrays, observed: np.dtype | None, acted: np.dtype | None
) -> Iterator[EpisodeBuffer]:
    first = 0
    for index, last in enumerate(arrays.ends):
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
