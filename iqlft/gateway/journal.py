"""The journal, a write-ahead log: every accepted batch, on disk before it is acknowledged.

What was acknowledged is in the file, whatever kills the learner; a record that was being written at
that moment is ignored at the next opening. A record holds a batch, not a transition, because a
batch is what is numbered and acknowledged: there is never half of one. `records.py` defines the
bytes, `walk.py` reads them.

If records are damaged, the others are still read. What is lost is named, and the run goes on
without it only if the user accepts that: then, as for batches that are dropped on purpose, records
of the same size take its place, so that all other records stay where checkpoints expect them.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np

from iqlft.gateway.records import (
    SALT_BYTES,
    BatchName,
    Entry,
    Lost,
    pack_given_up,
    pack_record,
)
from iqlft.gateway.walk import Walk, read_records
from iqlft_workers.errors import UserError
from iqlft_workers.files import remedy, replacing
from iqlft_workers.messages import Batch
from iqlft_workers.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from iqlft.datasets.value_bounds import ValueBounds
    from iqlft_workers.transition import RowLayout
    from iqlft_workers.wire import Frame

CHUNK_ROWS = 65_536
"""Rows yielded at a time, exceeded by less than a batch."""
_SHOWN = 10
"""The most losses that are named one by one."""

_log = logging.getLogger(__name__)


class JournalError(UserError):
    """A journal that cannot be opened or changed, or is damaged."""


class Journal:
    """An open journal; a record that a crash cut short is removed by the next `append`.

    Args:
        path: the file; made when absent.
        position: its length in bytes when the last checkpoint was written, where a record must end.
        accept_loss: whether to go on without what is damaged.

    Attributes:
        position: see above.
        length: of all records, in bytes.
        loss: a sentence on the damage that was accepted at this opening; else empty.

    Raises:
        JournalError: it cannot be opened, does not fit the checkpoint, or is damaged and that is
            not accepted; it is left as it is.
    """

    def __init__(self, path: Path, position: int = 0, *, accept_loss: bool = False) -> None:
        self._path, self.position, self.loss = path, position, ""
        try:
            path.parent.mkdir(exist_ok=True)
            path.open("ab").close()
            self._look(accept_loss=accept_loss)
            # Unbuffered, so that the kernel has a record before the batch is acknowledged.
            self._file = path.open("r+b", buffering=0)
        except OSError as error:
            raise JournalError(
                f"The journal {path} cannot be opened ({error.strerror}); {remedy(error)}."
            ) from error
        if (rest := path.stat().st_size - self.length) > 0:
            _log.warning("%d bytes of a batch that was never acknowledged are cut off.", rest)
        self._torn = True

    def _look(self, *, accept_loss: bool) -> None:
        """Finds the length and any damage, and gives up what is damaged if that is accepted."""
        walk, self.length, damaged, aligned = Walk(self._path), 0, False, self.position == 0
        for record in walk:
            if record.kind != "torn":
                self.length = record.end
                damaged |= record.kind == "damaged"
                aligned |= record.end == self.position
        self._salt = walk.salt or os.urandom(SALT_BYTES)
        if not damaged and self.length >= self.position:
            self._require_position(found=aligned)
            return
        lost = list(self._damaged(aligned=aligned))
        named = describe(lost, missing(read_records(self._path)), self.position)
        sentence = f"{self._path} is damaged. {named}"
        if not accept_loss:
            raise JournalError(
                f"{sentence} Restore it from a copy, or resume with --accept-loss to go on without."
            )
        give_up(self._path, lost, self._salt)
        self.length, self.loss = max(self.length, lost[-1].end), sentence
        _log.warning("%s", sentence)

    def _damaged(self, *, aligned: bool) -> Iterator[Lost]:
        """The places that are lost and not given up yet, split at the checkpoint's position."""
        for each in read_records(self._path):
            if isinstance(each, Lost) and not each.given_up:
                if each.begin < self.position < each.end:
                    aligned = True
                    yield Lost(None, self.position, each.begin)
                    each = Lost(None, each.end, self.position)  # noqa: PLW2901
                yield each
        if self.length < self.position:
            yield Lost(None, self.position, self.length)
        else:
            self._require_position(found=aligned)

    def _require_position(self, *, found: bool) -> None:
        if not found:
            raise JournalError(
                f"{self._path} is not the one that the checkpoint was written with: no batch ends "
                f"after its {self.position:,} bytes; restore it from a copy, or start a new run."
            )

    def append(self, worker_id: int, frames: Sequence[Frame]) -> int:
        """Writes a record.

        Args:
            worker_id: whose the batch is.
            frames: of its message, checked.

        Returns:
            The journal's length with the record.

        Raises:
            OSError: it cannot be written; the records before it are unharmed.
        """
        record = pack_record(self._salt, worker_id, frames)
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
        """Flushes the records to the disk, so that they survive a power failure too.

        Raises:
            OSError: they cannot be flushed.
        """
        os.fsync(self._file.fileno())

    def records(self) -> Iterator[Entry | Lost]:
        """All batches, in the order in which they were accepted, and what was given up."""
        return read_records(self._path)

    def entries(self) -> Iterator[Entry]:
        """All batches, in the order in which they were accepted."""
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


def missing(records: Iterable[Entry | Lost]) -> list[str]:
    """Which batches are missing, by gaps in their numbers, where damaged bytes do not name them.

    Args:
        records: of a journal; in an intact one the numbers of a session have no gap.
    """
    last: dict[str, tuple[int, int]] = {}
    found, unnamed_at = [], -1
    for record in records:
        if (name := record.name) is None:
            unnamed_at = unnamed_at if isinstance(record, Lost) and record.given_up else record.end
            continue
        sequence, end = last.get(name.session, (0, 0))
        if name.sequence > sequence + 1 and unnamed_at > end:
            found.append(
                f"batches {sequence + 1:,} to {name.sequence - 1:,} of a session of worker "
                f"{name.worker_id}"
            )
        last[name.session] = name.sequence, record.end
    return found


def describe(lost: Sequence[Lost], gaps: Sequence[str], position: float) -> str:
    """What is lost, in sentences.

    Args:
        lost: at least one place in a journal.
        gaps: see `missing`.
        position: the journal's length when the last checkpoint was written.
    """
    places = "1 place" if len(lost) == 1 else f"{len(lost):,} places"
    named = _listed([_described(each, position) for each in lost])
    rest = f" By the numbers there are missing: {_listed(gaps)}." if gaps else ""
    return f"{places} in it cannot be read: {named}.{rest}"


def _listed(parts: Sequence[str]) -> str:
    more = f"; and {len(parts) - _SHOWN:,} more" if len(parts) > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more


def _described(lost: Lost, position: float) -> str:
    learned = "learned from already" if lost.end <= position else "not learned from yet"
    where = f"bytes {lost.begin:,} to {lost.end:,}"
    if (name := lost.name) is None:
        return f"{where}, which do not say which batches they were ({learned})"
    return (
        f"batch {name.sequence} of worker {name.worker_id} in its episode {name.episode}, "
        f"{name.steps:,} step{'s' * (name.steps != 1)} ({learned}; {where})"
    )


def give_up(path: Path, lost: Iterable[Lost], salt: bytes) -> None:
    """Replaces each lost place by a record of the same size; a crash leaves all or none.

    Args:
        path: of a journal that nobody has open.
        lost: the places.
        salt: of its markers.

    Raises:
        OSError: it cannot be written, and is as before.
    """
    with replacing(path) as copy:
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            for each in lost:
                file.seek(each.begin)
                file.write(pack_given_up(salt, each.end - each.begin, each.name))


def drop_batches(
    path: Path, chosen: Callable[[BatchName], bool], *, dry_run: bool = False
) -> list[BatchName]:
    """Takes batches out of a journal for good.

    Args:
        path: of a journal that nobody has open.
        chosen: which ones.
        dry_run: whether to change nothing, and only return them.

    Returns:
        The chosen batches, in the journal's order.

    Raises:
        OSError: it cannot be read or written, and is as before.
    """
    found = [each for each in read_entries(path) if chosen(each.name)]
    if found and not dry_run:
        walk = Walk(path)
        for _ in walk:
            pass
        salt = walk.salt or os.urandom(SALT_BYTES)
        give_up(path, (Lost(each.name, each.end, each.begin) for each in found), salt)
    return [each.name for each in found]


def outliers(path: Path, bounds: ValueBounds) -> list[BatchName]:
    """The batches in a journal that ingestion would refuse today for their values.

    Args:
        path: the file; it is only read.
        bounds: limits on the values.
    """
    entries = read_entries(path)
    return [each.name for each in entries if bounds.violation(each.batch.transitions)]


def bytes_per_step(layout: RowLayout, transitions: int) -> float:
    """Bytes that an environment step takes in a journal.

    Args:
        layout: of a transition.
        transitions: how many share a batch, and so its header.
    """
    rows = np.zeros((transitions, layout.width), np.float32)
    session, sequence, episode = "0" * 36, 2**16, 2**8
    batch = Batch(session, sequence, episode, None, 0.0, *layout.transitions(rows))
    return len(pack_record(bytes(SALT_BYTES), 0, encode(batch))) / transitions


def read_entries(path: Path) -> Iterator[Entry]:
    """The batches in a journal, in order.

    Args:
        path: the file, which need not be open; it is only read.
    """
    return (each for each in read_records(path) if isinstance(each, Entry))


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
