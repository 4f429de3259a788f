"""Reads recorded episodes, skipping what loading does not use.

Minari also reads every episode's infos, and opens each array through several Python objects, which
takes twice as long as reading the data. So HDF5, Minari's documented default format, is read
directly; other formats go through Minari.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.metadata import AGAIN
from iqlft_workers.actions import actions_refusal
from iqlft_workers.observation import pick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import minari
    from numpy.typing import NDArray

    Read = Callable[[str], NDArray[Any]]

_FILE = "main_data.hdf5"
"""Minari's file of a dataset's episodes."""
_UNREADABLE = (KeyError, OSError, ValueError, TypeError, RuntimeError, MemoryError)
"""Errors that h5py raises if a file or an array is damaged."""


class RecordedEpisode(NamedTuple):
    """An episode of T transitions as it was recorded.

    Attributes:
        observations: `(T+1, O)`, or a nested mapping of such arrays.
        actions: `(T, A)`.
        rewards: `(T,)`.
        terminations: `(T,)` bool.
        truncations: `(T,)` bool.
    """

    observations: Any
    actions: NDArray[Any]
    rewards: NDArray[Any]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]


def read_episodes(
    dataset: minari.MinariDataset, keys: tuple[str, ...], *, sound: bool = True
) -> Iterator[RecordedEpisode]:
    """Reads a dataset's episodes in order, one at a time.

    Args:
        dataset: an opened one.
        keys: the keys of a Dict observation that are needed, nested ones joined by slashes; empty
            for a Box observation.
        sound: whether to refuse episodes that nothing can be learned from: arrays of wrong lengths
            or widths, or values that are not finite.

    Raises:
        DatasetError: an episode cannot be read, or is not sound; the message names the file, the
            episode and the array.
    """
    for place, read in _readers(dataset):
        observations: Any = (
            _nested({key: read(f"observations/{key}") for key in keys})
            if keys
            else read("observations")
        )
        names = RecordedEpisode._fields[2:]
        rewards, *flags = (_column(read(name), f"{place}/{name}") for name in names)
        ends = (_flags(each, place) for each in flags)
        episode = RecordedEpisode(observations, read("actions"), rewards, *ends)
        if sound:
            _require_sound(dataset, keys, place, episode)
        yield episode


def _flags(array: NDArray[Any], place: str) -> NDArray[np.bool_]:
    try:
        return as_flags(array, f"{place} has flags")
    except DatasetError as error:
        raise DatasetError(f"{str(error).rstrip('.')}; {AGAIN}.") from error


def as_flags(array: NDArray[Any], what: str) -> NDArray[np.bool_]:
    """Converts an array of zeros and ones to bools.

    Raises:
        DatasetError: there are other values; the message begins with `what`.
    """
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise DatasetError(f"{what} that are neither 0 nor 1.")
    return array.astype(np.bool_, copy=False)


def read_column(dataset: minari.MinariDataset, name: str) -> Iterator[NDArray[Any]]:
    """Reads one array of every episode, in order.

    Args:
        dataset: an opened one.
        name: such as `rewards`, or `observations/achieved_goal`.

    Raises:
        DatasetError: an array cannot be read, or holds values that are not finite.
    """
    field, _, key = name.partition("/")
    for place, read in _readers(dataset):
        array = read(name) if key else _column(read(name), f"{place}/{name}")
        if field == "observations":
            _require_width(array, pick(dataset.observation_space, key), f"{place}/{name}")
        _require_finite(array, f"{place}/{name}")
        yield array


def _readers(dataset: minari.MinariDataset) -> Iterator[tuple[str, Read]]:
    """Where each episode is, for messages, and what reads an array of it by its name."""
    path = _hdf5_file(dataset)
    if path is None:
        for place, episode in _through_minari(dataset):
            yield place, functools.partial(_part, episode, place)
        return
    with _opened(path) as file:
        for index in dataset.episode_indices:
            name = f"episode_{index}"
            yield f"{path}: {name}", _Reader(file, name, dataset)


def require_episodes(dataset: minari.MinariDataset) -> None:
    """Raises `DatasetError` unless the file can be opened and holds the announced episodes."""
    path = _hdf5_file(dataset)
    if path is None:
        return
    with _opened(path) as file:
        missing = next((i for i in dataset.episode_indices if f"episode_{i}" not in file), None)
        held = len(file)
    if missing is not None:
        raise DatasetError(
            f"{path} holds {held:,} of the {dataset.total_episodes:,} episodes that its metadata "
            f"announce; the first that is missing is episode_{missing}: {AGAIN}."
        )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading."""
    try:
        file = h5py.File(path, "r")
    except _UNREADABLE as error:
        advice = AGAIN
        if "unable to lock" in str(error):
            advice = "end the process that writes it, or set HDF5_USE_FILE_LOCKING=FALSE"
        raise DatasetError(f"{path} cannot be read ({_line(error)}); {advice}.") from error
    with file:
        yield file


def _through_minari(
    dataset: minari.MinariDataset,
) -> Iterator[tuple[str, minari.EpisodeData]]:
    """Reads episodes of formats other than HDF5; with where each is."""
    episodes: Iterator[minari.EpisodeData] | None = None
    for index in dataset.episode_indices:
        place = f"{dataset.storage.data_path}: episode_{index}"
        try:
            # Inside the `try`, for some formats open all files before the first episode.
            episodes = iter(dataset.iterate_episodes()) if episodes is None else episodes
            episode = next(episodes)
        except Exception as error:  # each format has errors of its own
            raise DatasetError(f"{place} cannot be read ({_line(error)}); {AGAIN}.") from error
        yield place, episode


def _part(episode: minari.EpisodeData, place: str, name: str) -> NDArray[Any]:
    """An array of an episode; refuses what Minari returns in place of a missing one."""
    field, _, key = name.partition("/")
    array = np.asarray(pick(getattr(episode, field), key))
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{place}/{name} is of {array.dtype}, but numbers are needed; {AGAIN}.")
    return array


def _line(error: Exception) -> str:
    """An error's message on one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text:.200}"


def _column(array: NDArray[Any], place: str) -> NDArray[Any]:
    """Rewards or flags as `(T,)`; some datasets store them as `(T, 1)`."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DatasetError(
            f"{place} has the shape {array.shape}, but one value per step is needed; {AGAIN}."
        )
    return array


def _require_sound(
    dataset: minari.MinariDataset, keys: tuple[str, ...], place: str, episode: RecordedEpisode
) -> None:
    """Refuses an episode that nothing can be learned from."""
    steps = len(episode.rewards)
    if not steps:
        raise DatasetError(f"{place} has no transitions; {AGAIN}.")
    arrays = {"actions": (episode.actions, dataset.action_space)}
    for key in keys or ("",):
        name = f"observations/{key}".rstrip("/")
        arrays[name] = pick(episode.observations, key), pick(dataset.observation_space, key)
    for name, (array, space) in arrays.items():
        length = steps + name.startswith("observations")
        if array.shape[:1] != (length,):
            raise DatasetError(
                f"{place}/{name} has {len(array) if array.ndim else 0} rows for {steps} "
                f"transitions; {length} are needed: {AGAIN}."
            )
        _require_width(array, space, f"{place}/{name}")
        _require_finite(array, f"{place}/{name}")
    _require_finite(episode.rewards, f"{place}/rewards")
    for name in RecordedEpisode._fields[3:]:
        if len(getattr(episode, name)) != steps:
            raise DatasetError(
                f"{place}/{name} has {len(getattr(episode, name))} values for {steps} "
                f"transitions; {AGAIN}."
            )


def _require_width(array: NDArray[Any], space: Any, place: str) -> None:  # noqa: ANN401
    if array.shape[1:] != space.shape:
        raise DatasetError(
            f"{place} has rows of the shape {array.shape[1:]}, but its space is {space}; {AGAIN}."
        )


def usable(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are finite in float32, the type that training uses."""
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype(np.float32, copy=False))


def _require_finite(array: NDArray[Any], place: str) -> None:
    finite = usable(array)
    if not finite.all():
        step = int(np.argwhere(~finite)[0][0])
        raise DatasetError(
            f"{place} holds {array[step].ravel()[~finite[step].ravel()][0]:g} in row {step}, which "
            f"nothing can be learned from: {AGAIN}, or leave that episode out."
        )


def _hdf5_file(dataset: minari.MinariDataset) -> Path | None:
    path = Path(dataset.storage.data_path) / _FILE
    return path if dataset.storage.FORMAT == "hdf5" and path.exists() else None


def _nested(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Turns arrays by paths such as `achieved_goal/kettle` into nested mappings."""
    nested: dict[str, Any] = {}
    for path, array in arrays.items():
        *outer, name = path.split("/")
        inner = nested
        for each in outer:
            inner = inner.setdefault(each, {})
        inner[name] = array
    return nested


class _Reader:
    """Reads whole arrays of an episode by HDF5's own functions, which saves most of h5py's work.

    Args:
        file: an open file.
        episode: name of the episode's group.
        dataset: the dataset of the file.
    """

    def __init__(self, file: h5py.File, episode: str, dataset: minari.MinariDataset) -> None:
        self._file, self._episode = file, episode
        self._most = int(dataset.total_steps) + 1

    def __call__(self, name: str) -> NDArray[Any]:
        """The array of this name.

        Raises:
            DatasetError: it is missing, damaged, or holds no numbers.
        """
        place = f"{self._file.filename}: {self._episode}/{name}"
        try:
            stored = h5py.h5d.open(self._file.id, f"{self._episode}/{name}".encode())
            shape, dtype = stored.shape, stored.dtype
            if dtype.kind in "biuf" and shape and shape[0] <= self._most:
                array = np.empty(shape, dtype)
                stored.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
                return array
        except _UNREADABLE as error:
            raise DatasetError(f"{place} cannot be read ({_line(error)}); {AGAIN}.") from error
        raise DatasetError(
            f"{place} is of {dtype} and the shape {shape}, but numbers, a row for each step, are "
            f"needed; {AGAIN}."
        )


def recorded_actions_refusal(dataset: minari.MinariDataset) -> str:
    """Why a dataset's actions cannot be learned, and what to do; empty if they can."""
    recorded = dataset.env_spec.additional_wrappers if dataset.env_spec is not None else ()
    wrappers = (each.entry_point.rpartition(":")[2] for each in recorded)
    return actions_refusal(dataset.action_space, wrappers)
