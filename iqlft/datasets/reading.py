"""Recorded episodes, without what loading does not use.

Minari reads every episode's infos too, and opens each array through several Python objects, which
takes twice as long as the data themselves. So HDF5, Minari's default format and documented by it,
is read directly; other formats go through Minari.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import minari
    from numpy.typing import NDArray

_FILE = "main_data.hdf5"


class RecordedEpisode(NamedTuple):
    """T transitions as they were recorded.

    Attributes:
        observations: `(T+1, O)`, or a mapping of such arrays.
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
        keys: the keys of a Dict observation that are needed; empty for a Box observation.
    """
    path = dataset.storage.data_path / _FILE
    if dataset.storage.FORMAT != "hdf5" or not path.exists():
        for episode in dataset.iterate_episodes():
            yield RecordedEpisode(*(getattr(episode, name) for name in RecordedEpisode._fields))
        return
    with h5py.File(path, "r") as file:
        for index in dataset.episode_indices:
            group = f"episode_{index}"
            observations: Any = {
                key: _read(file, f"{group}/observations/{key}") for key in keys
            } or _read(file, f"{group}/observations")
            others = (_read(file, f"{group}/{name}") for name in RecordedEpisode._fields[1:])
            yield RecordedEpisode(observations, *others)


def _read(file: h5py.File, name: str) -> NDArray[Any]:
    """A whole array by HDF5's own functions, which skips most of h5py's work per array."""
    stored = h5py.h5d.open(file.id, name.encode())
    array = np.empty(stored.shape, stored.dtype)
    stored.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array
