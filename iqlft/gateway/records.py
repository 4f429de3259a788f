"""The records of a journal: what they are, and their bytes; `walk.py` reads them.

A record of the current format, 2, all numbers little-endian:

    marker   16 bytes: 8 that are always the same, and 8 that this journal drew at random
    kind     u8: a batch, or the place of one that was given up
    sizes    u16 of the name, u32 of the content; then the CRC-32 of all so far
    name     msgpack `[worker, session, sequence, episode, steps]`; then its CRC-32
    content  msgpack `[worker, frames of the BATCH message, as they came]`; then its CRC-32

So a flipped byte costs a batch only if it is in the content, and the name is still known then;
elsewhere the sizes follow from the name and content themselves. If more is damaged, reading goes on
at the next marker. Peers choose bytes of the content, but do not know the marker.

Format 1, which is still read, was the length and the CRC-32 of the content, then the content.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft_workers.messages import Batch
    from iqlft_workers.wire import Frame

SALT_BYTES = 8
"""Bytes of a marker that are drawn at random."""
MAGIC = b"\xf1IQLJ2\r\n"
"""Bytes of a marker that are always the same; impossible as the length of a format 1 record."""
PREFIX = struct.Struct(f"<{len(MAGIC)}s{SALT_BYTES}sBHI")
"""Marker, kind and sizes."""
CRC = struct.Struct("<I")
"""A checksum."""
OLD_PREFIX = struct.Struct("<II")
"""Length and checksum of a record of format 1."""
NAME_AT = PREFIX.size + CRC.size
"""Offset of the name in a record."""
SMALLEST = NAME_AT + 1 + 2 * CRC.size
"""Bytes of the smallest record, which has neither name nor content."""
BATCH, GIVEN_UP = 0, 1
"""Kinds of records."""


class BatchName(NamedTuple):
    """What identifies a batch.

    Attributes:
        worker_id: whose it is.
        session: uuid of the worker's session.
        sequence: its number in the session.
        episode: index of the worker's episode.
        steps: how many transitions it has.
    """

    worker_id: int
    session: str
    sequence: int
    episode: int
    steps: int

    def __str__(self) -> str:
        """As `iqlft clean --drop-batches` takes it."""
        return f"{self.worker_id}:{self.episode}:{self.sequence}"


class Entry(NamedTuple):
    """An accepted batch.

    Attributes:
        worker_id: whose it is.
        batch: as it was accepted.
        end: where its record ends in the journal, in bytes.
        begin: where its record begins.
    """

    worker_id: int
    batch: Batch
    end: int
    begin: int = 0

    @property
    def name(self) -> BatchName:
        """What identifies the batch."""
        batch = self.batch
        steps = len(batch.rewards)
        return BatchName(self.worker_id, batch.session, batch.sequence, batch.episode, steps)


class Lost(NamedTuple):
    """Bytes that once held a batch and no longer do.

    Attributes:
        name: of the batch; None if it cannot be read, or there were several.
        end: where they end in the journal.
        begin: where they begin.
        given_up: whether the batch was dropped on purpose, or its loss was accepted.
    """

    name: BatchName | None
    end: int
    begin: int
    given_up: bool = False


def pack_record(salt: bytes, worker_id: int, frames: Sequence[Frame]) -> bytes:
    """The bytes of a record.

    Args:
        salt: of the journal.
        worker_id: whose the batch is.
        frames: of its message, checked.
    """
    content: bytes = msgpack.packb([worker_id, *frames])
    _, _, fields, shapes = msgpack.unpackb(frames[0])
    # Rewards are the third array of a batch.
    name = BatchName(
        worker_id, fields["session"], fields["sequence"], fields["episode"], shapes[2][0]
    )
    return _packed(salt, BATCH, name, content)


def pack_given_up(salt: bytes, size: int, name: BatchName | None) -> bytes:
    """A record of exactly this size that stands for what was lost.

    Args:
        salt: of the journal.
        size: in bytes; if it is too small for a record, all bytes are zeros.
        name: of the batch, as far as it is known.
    """
    for known in (name, None):
        room = size - len(_packed(salt, GIVEN_UP, known, b""))
        if room >= 0:
            return _packed(salt, GIVEN_UP, known, bytes(room))
    return bytes(size)


def _packed(salt: bytes, kind: int, name: BatchName | None, content: bytes) -> bytes:
    packed = msgpack.packb(name)
    prefix = PREFIX.pack(MAGIC, salt, kind, len(packed), len(content))
    return b"".join(part + checksum(part) for part in (prefix, packed, content))


def checksum(data: bytes) -> bytes:
    """The CRC-32 that follows each part of a record."""
    return CRC.pack(zlib.crc32(data))
