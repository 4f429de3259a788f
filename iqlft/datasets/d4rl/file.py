"""D4RL's own HDF5 files: flat arrays of rows, read in pieces.

A row holds an observation, the action taken there and its outcome; the observation that followed is
in the next row, unless an episode ended between the two.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.reading import as_flags, usable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_VECTORS = ("observations", "actions")
"""Required arrays with one vector per row."""
_COLUMNS = ("rewards", "terminals")
"""Required arrays with one number per row."""
TIMEOUTS = "timeouts"
"""Optional array with one flag per row, which some files lack."""
_CACHE_BYTES = 16 * 2**20
"""Chunk cache per array: chunks hold more rows than an episode, and are decompressed once."""


class Family(NamedTuple):
    """The meaning of the arrays in a family of files.

    Attributes:
        next_observation: arrays that, concatenated, are the observation after a row's step, if the
            file has them.
        in_maze: whether observations begin with a position in metres, and a terminal marks a place
            at the goal; otherwise a terminal ends the episode.
        others: further required arrays.
    """

    next_observation: tuple[str, ...]
    in_maze: bool
    others: tuple[str, ...] = ()


ANTMAZE = Family(("infos/qpos", "infos/qvel"), in_maze=True, others=("infos/goal",))
"""AntMaze, whose generator recorded the simulator's state after the step."""
VECTORS = Family(("next_observations",), in_maze=False)
"""Locomotion, Adroit and whatever else has one vector of observations."""


class D4RLFile:
    """An open file of N rows.

    Args:
        file: an open HDF5 file.
        path: the file's path, for messages.
        family: which arrays are needed, and what they mean.

    Raises:
        DatasetError: an array is missing, holds no numbers or has the wrong shape.
    """

    def __init__(self, file: h5py.File, path: Path, family: Family) -> None:
        self.path, self.family = path, family
        names = (*_VECTORS, *_COLUMNS, *family.others)
        found = {name: file.get(name) for name in (*names, TIMEOUTS, *family.next_observation)}
        # Kept open, for closing an array drops its cache of decompressed chunks.
        self._arrays = {n: each for n, each in found.items() if isinstance(each, h5py.Dataset)}
        missing = [name for name in names if name not in self._arrays]
        if missing:
            raise DatasetError(
                f"{path} has no array {' and no '.join(missing)}; it holds {_names(file)}, which "
                "is not the form of D4RL's files of this kind."
            )
        self.num_rows = int(self._arrays["rewards"].size)
        for name, array in self._arrays.items():
            if array.dtype.kind not in "biuf":
                raise DatasetError(f"{path} has {name} of {array.dtype}, but numbers are needed.")
            rows = (
                array.size
                if name in (*_COLUMNS, TIMEOUTS)
                else len(array)
                if array.ndim == 2
                else 0
            )
            if rows != self.num_rows or rows < 2:
                raise DatasetError(
                    f"{path} has {self.num_rows} rewards, but {name} of the shape {array.shape}; "
                    "all arrays need the same number of rows, and at least two."
                )
        self.has_timeouts = TIMEOUTS in self._arrays
        following = [name for name in family.next_observation if name in self._arrays]
        self.has_next = len(following) == len(family.next_observation) and (
            sum(map(self.width, following)) == self.width("observations")
        )

    def width(self, name: str) -> int:
        """Number of values per row in an array of vectors."""
        return int(self._arrays[name].shape[1])

    def read(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Rows `first` up to but not including `last` of an array.

        Raises:
            DatasetError: the rows cannot be read, or hold values that are not finite.
        """
        try:
            rows: NDArray[Any] = self._arrays[name][first:last]
        except OSError as error:
            raise DatasetError(
                f"{self.path} is damaged: its {name} cannot be read ({error}); download it again."
            ) from error
        if not (finite := usable(rows)).all():
            row = first + int(np.argwhere(~finite)[0, 0])
            raise DatasetError(
                f"{self.path} has {name} that are not finite numbers of float32, the first of them "
                f"in row {row}; nothing can be learnt from such a file."
            )
        return rows

    def read_column(self, name: str) -> NDArray[Any]:
        """A whole array of one value per row, `(N,)`."""
        return self.read(name).reshape(self.num_rows)

    def read_flags(self, name: str) -> NDArray[np.bool_]:
        """A whole array of one flag per row, `(N,)`."""
        return as_flags(self.read_column(name), f"{self.path} has {name}")

    def read_next(self, first: int, last: int) -> NDArray[Any]:
        """The recorded next observations of rows `first` to `last - 1`; requires `has_next`."""
        parts = [self.read(name, first, last) for name in self.family.next_observation]
        return np.concatenate(parts, axis=1)


@contextlib.contextmanager
def open_file(path: Path, family: Family) -> Iterator[D4RLFile]:
    """Opens one of D4RL's files.

    Raises:
        DatasetError: the file is missing, is not HDF5, or is not of this family.
    """
    if not path.is_file():
        raise DatasetError(f"There is no file {path}.")
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be opened as HDF5, which D4RL's files are ({error}); "
            "if it is one of them, download it again."
        ) from error
    with file:
        yield D4RLFile(file, path, family)


def _names(file: h5py.File) -> str:
    names: list[str] = []
    file.visititems(
        lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return ", ".join(names[:12]) or "no arrays"
