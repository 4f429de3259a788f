"""The journal, a write-ahead log: every accepted batch, on disk before it is acknowledged.

A record is the length and the CRC-32 of what follows (`u32`, little endian), and then the worker
id and the frames of the BATCH message, as they came, in msgpack. What was acknowledged is in the
file, whatever kills the learner; a record that was being written at that moment is cut off at the
next opening. A record holds a batch, not a transition, because a batch is what is numbered and
acknowledged: there is never half of one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

import msgpack
import numpy as np

from iqlft_workers.errors import UserError
from iqlft_workers.messages import Batch
from iqlft_workers.wire import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from iqlft_workers.transition import RowLayout
    from iqlft_workers.wire import Frame

CHUNK_ROWS = 65_536
"""Rows handed on at a time, or a batch more."""
_PREFIX = struct.Struct("<II")
"""Length and checksum of a record."""
_OLDEST_PROTOCOL = 1
"""BATCH has not changed since, so that journals of these learners can be read."""

_log = logging.getLogger(__name__)


class JournalError(UserError):
    """A journal that cannot be opened, or is damaged where it must not be."""


class Entry(NamedTuple):
    """An accepted batch.

    Attributes:
        worker_id: whose it is.
        batch: as it was accepted.
        end: the journal's length with it, in bytes.
    """

    worker_id: int
    batch: Batch
    end: int


class Journal:
    """An open journal; a record that a crash cut short is removed at the opening.

    Args:
        path: the file; made when absent.
        position: its length in bytes when the last checkpoint was written, which it must have.

    Attributes:
        position: see above.
        length: of all records, in bytes.

    Raises:
        JournalError: it cannot be opened, or is not whole up to `position`; then it is left as is.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._path, self.position = path, position
        try:
            # Unbuffered, so that a record is the kernel's before the batch is acknowledged.
            self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        except OSError as error:
            raise JournalError(
                f"The journal {path} cannot be opened ({error.strerror}); mend the permissions."
            ) from error
        self.length = max((end for _, end in _payloads(path)), default=0)
        if self.length < position:
            self.close()
            raise JournalError(
                f"{path} is damaged after {self.length:,} bytes, of which the checkpoint needs "
                f"{position:,}; restore it from a copy, or start a new run."
            )
        if (rest := path.stat().st_size - self.length) > 0:
            _log.warning("%d bytes of a batch that was never acknowledged are cut off.", rest)
        self._torn = True

    def append(self, worker_id: int, frames: Sequence[Frame]) -> int:
        """Writes a record.

        Args:
            worker_id: whose the batch is.
            frames: of its message, checked.

        Returns:
            The journal's length with it.

        Raises:
            OSError: it cannot be written; what is in the journal stays.
        """
        record = _record(worker_id, frames)
        if self._torn:
            self._file.truncate(self.length)
        self._torn = True
        written = os.pwrite(self._file.fileno(), record, self.length)
        if written != len(record):
            raise OSError(0, "only a part was written")
        self._torn = False
        self.length += len(record)
        return self.length

    def sync(self) -> None:
        """Brings the records to the disk, so that they outlive a power failure too.

        Raises:
            OSError: they cannot be brought there.
        """
        os.fsync(self._file.fileno())

    def entries(self) -> Iterator[Entry]:
        """All records, in the order in which the batches were accepted."""
        return read_entries(self._path)

    def rows(self, layout: RowLayout) -> Iterator[NDArray[np.float32]]:
        """The transitions up to `position`, as rows `(n, width)` for the replay.

        Args:
            layout: where a row's fields stand.
        """
        return read_rows(self._path, layout, self.position)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _record(worker_id: int, frames: Sequence[Frame]) -> bytes:
    payload: bytes = msgpack.packb([worker_id, *frames])
    return _PREFIX.pack(len(payload), zlib.crc32(payload)) + payload


def bytes_per_step(layout: RowLayout, transitions: int) -> float:
    """What a journal takes for an environment step.

    Args:
        layout: of a transition.
        transitions: in a batch, which has a header.
    """
    rows = np.zeros((transitions, layout.width), np.float32)
    session, sequence, episode = "0" * 36, 2**16, 2**8
    batch = Batch(session, sequence, episode, None, 0.0, *layout.transitions(rows))
    return len(_record(0, encode(batch))) / transitions


def read_entries(path: Path) -> Iterator[Entry]:
    """The records of a journal that nobody need have opened, in their order.

    Args:
        path: the file; it is only read.
    """
    for payload, end in _payloads(path):
        worker_id, *frames = msgpack.unpackb(payload)
        yield Entry(worker_id, cast("Batch", decode(frames, oldest_protocol=_OLDEST_PROTOCOL)), end)


def read_rows(
    path: Path, layout: RowLayout, position: float = math.inf
) -> Iterator[NDArray[np.float32]]:
    """A journal's transitions as rows `(n, width)`, about `CHUNK_ROWS` at a time.

    Args:
        path: the file; it is only read.
        layout: where a row's fields stand.
        position: where to stop, in bytes; all whole records when absent.
    """
    rows: list[NDArray[np.float32]] = []
    count = 0
    for entry in read_entries(path):
        if entry.end > position:
            break
        rows.append(layout.pack(entry.batch.transitions))
        count += len(rows[-1])
        if count >= CHUNK_ROWS:
            yield np.concatenate(rows)
            rows, count = [], 0
    if rows:
        yield np.concatenate(rows)


def _payloads(path: Path) -> Iterator[tuple[bytes, int]]:
    """Contents and ends of the records that are whole."""
    end = 0
    with path.open("rb") as file, contextlib.suppress(struct.error):
        while True:
            length, checksum = _PREFIX.unpack(file.read(_PREFIX.size))
            payload = file.read(length)
            # Pages that a power failure has emptied would pass for records without content.
            if not payload or len(payload) < length or zlib.crc32(payload) != checksum:
                return
            end += _PREFIX.size + length
            yield payload, end
