"""Recorded episodes, without what loading does not use.

Minari reads every episode's infos too, and opens each array through several Python objects, which
takes twice as long as the data themselves. So HDF5, Minari's default format and documented by it,
is read directly; other formats go through Minari.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import minari
    from numpy.typing import NDArray

_FILE = "main_data.hdf5"
"""Minari's file of a set's episodes."""


class RecordedEpisode(NamedTuple):
    """T transitions as they were recorded.

    Attributes:
        observations: `(T+1, O)`, or a mapping of such arrays or mappings.
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
    dataset: minari.MinariDataset, keys: tuple[str, ...]
) -> Iterator[RecordedEpisode]:
    """Reads a dataset's episodes in order, one at a time.

    Args:
        dataset: where from.
        keys: the keys of a Dict observation that are needed, nested ones with slashes between;
            empty for a Box observation.
    """
    path = _hdf5_file(dataset)
    if path is None:
        for episode in dataset.iterate_episodes():
            yield RecordedEpisode(*(getattr(episode, name) for name in RecordedEpisode._fields))
        return
    with h5py.File(path, "r") as file:
        for index in dataset.episode_indices:
            group = f"episode_{index}"
            observations: Any = (
                _nested({key: _read(file, f"{group}/observations/{key}") for key in keys})
                if keys
                else _read(file, f"{group}/observations")
            )
            others = (_read(file, f"{group}/{name}") for name in RecordedEpisode._fields[1:])
            yield RecordedEpisode(observations, *others)


def read_column(dataset: minari.MinariDataset, name: str) -> Iterator[NDArray[Any]]:
    """Reads one array of every episode, in order.

    Args:
        dataset: where from.
        name: such as `rewards`, or `observations/achieved_goal`.
    """
    path = _hdf5_file(dataset)
    if path is None:
        field, _, key = name.partition("/")
        for episode in dataset.iterate_episodes():
            column = getattr(episode, field)
            yield column[key] if key else column
        return
    with h5py.File(path, "r") as file:
        for index in dataset.episode_indices:
            yield _read(file, f"episode_{index}/{name}")


def _hdf5_file(dataset: minari.MinariDataset) -> Path | None:
    path = Path(dataset.storage.data_path) / _FILE
    return path if dataset.storage.FORMAT == "hdf5" and path.exists() else None


def _nested(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Arrays by paths such as `achieved_goal/kettle` as mappings within mappings."""
    nested: dict[str, Any] = {}
    for path, array in arrays.items():
        *outer, name = path.split("/")
        inner = nested
        for each in outer:
            inner = inner.setdefault(each, {})
        inner[name] = array
    return nested


def _read(file: h5py.File, name: str) -> NDArray[Any]:
    """A whole array by HDF5's own functions, which skips most of h5py's work per array."""
    stored = h5py.h5d.open(file.id, name.encode())
    array = np.empty(stored.shape, stored.dtype)
    stored.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array
