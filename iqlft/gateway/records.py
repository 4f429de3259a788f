"""The records of a journal: what they are, and their bytes; `walk.py` reads them.

A record of today, format 2, all numbers little-endian:

    marker   16 bytes: 8 that are always the same, and 8 that this journal drew by lot
    kind     u8: a batch, or the place of one that was given up
    sizes    u16 of the name, u32 of the content; then the CRC-32 of all so far
    name     msgpack `[worker, session, sequence, episode, steps]`; then its CRC-32
    content  msgpack `[worker, frames of the BATCH message, as they came]`; then its CRC-32

So a flipped byte costs a batch only where it is in its content, and its name is still known then:
what stands in front of the content can be found by the content's own sizes. Where more is damaged
reading goes on at the next marker. Peers choose bytes of the content, but do not know the marker.

Format 1, which is still read, was the length and the CRC-32 of the content, and the content.
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
"""Of a marker, drawn by lot."""
MAGIC = b"\xf1IQLJ2\r\n"
"""Of a marker, always the same; as the length of a record of format 1 it would be impossible."""
PREFIX = struct.Struct(f"<{len(MAGIC)}s{SALT_BYTES}sBHI")
"""Marker, kind and sizes."""
CRC = struct.Struct("<I")
"""A checksum."""
OLD_PREFIX = struct.Struct("<II")
"""Length and checksum of a record of format 1."""
NAME_AT = PREFIX.size + CRC.size
"""Where the name of a record stands."""
SMALLEST = NAME_AT + 1 + 2 * CRC.size
"""Bytes of the smallest record, which has neither name nor content."""
BATCH, GIVEN_UP = 0, 1
"""Kinds of records."""


class BatchName(NamedTuple):
    """Which batch it is.

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
        end: the journal's length with it, in bytes.
        begin: the length without it.
    """

    worker_id: int
    batch: Batch
    end: int
    begin: int = 0

    @property
    def name(self) -> BatchName:
        """Which batch it is."""
        batch = self.batch
        steps = len(batch.rewards)
        return BatchName(self.worker_id, batch.session, batch.sequence, batch.episode, steps)


class Lost(NamedTuple):
    """Bytes that hold no batch, but did.

    Attributes:
        name: of the batch; None where that cannot be read, or there were several.
        end: the journal's length with them.
        begin: the length without them.
        given_up: whether that is settled: it was dropped, or its loss was accepted.
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
    # Rewards are the third of a batch's arrays.
    name = BatchName(
        worker_id, fields["session"], fields["sequence"], fields["episode"], shapes[2][0]
    )
    return _packed(salt, BATCH, name, content)


def pack_given_up(salt: bytes, size: int, name: BatchName | None) -> bytes:
    """Bytes of just this size that stand for what was lost.

    Args:
        salt: of the journal.
        size: in bytes; where it is no room for a record they are zeros.
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
    """What follows each part of a record."""
    return CRC.pack(zlib.crc32(data))
