"""A walk through a journal that goes on after damage; `records.py` defines the format.

Whatever happened to some bytes, every record that they are not part of is found intact.
"""

from __future__ import annotations

import itertools
import os
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgpack

from iqlft.gateway.records import (
    CRC,
    GIVEN_UP,
    MAGIC,
    NAME_AT,
    OLD_PREFIX,
    PREFIX,
    SMALLEST,
    BatchName,
    Entry,
    Lost,
    checksum,
)
from iqlft_workers.messages import Batch
from iqlft_workers.wire import MAX_BYTES, WireError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST = MAX_BYTES + 2**16
"""The most bytes of a content."""
_OLD_BATCH = re.compile(
    rb"\x99(?:[\x00-\x7f]|\xcc.|\xcd..|\xce....)(?:\xc4.|\xc5..)\x94.\xa5BATCH", re.DOTALL
)
"""How the content of a record of format 1 begins."""
_MARKED = re.compile(re.escape(MAGIC))
_WINDOW = 2**20
"""Bytes that are read at a time."""
_OVERLAP = 64
"""Bytes by which windows overlap, so that no match is cut."""
_NAME_KINDS = [int, str, int, int, int]
"""Types of the parts of a name."""
_PAGE = 4096
"""Bytes of a page; a power failure empties whole pages."""
_MOST_PARTS = 16
"""The most parts of a name or a content."""
_OLDEST_PROTOCOL = 1
"""The oldest protocol whose journals can be read: BATCH has not changed since."""


class Record(NamedTuple):
    """A stretch of a journal, as it is found.

    Attributes:
        kind: a whole batch; one that was given up; damaged bytes that must have been one; or a torn
            record, which was not written to its end and is the last.
        begin: where it begins, in bytes.
        end: where it ends, in bytes.
        content: of a whole batch, or of a damaged one of format 1.
        name: of any other, as far as it is known.
    """

    kind: Literal["whole", "given up", "damaged", "torn"]
    begin: int
    end: int
    content: bytes = b""
    name: BatchName | None = None


def read_records(path: Path) -> Iterator[Entry | Lost]:
    """The records of a journal, in order, without a torn one.

    Args:
        path: the file, which need not be open; it is only read.
    """
    # The name in a damaged record of format 1 is believed if it is the next one of its session.
    last: dict[tuple[int, str], int] = {}
    for record in Walk(path):
        if record.kind == "torn":
            return
        if record.kind == "whole":
            worker_id, *frames = msgpack.unpackb(record.content)
            batch = cast("Batch", decode(frames, oldest_protocol=_OLDEST_PROTOCOL))
            last[worker_id, batch.session] = batch.sequence
            yield Entry(worker_id, batch, record.end, record.begin)
            continue
        name = record.name or _claimed(record.content)
        if name is not None and record.name is None:
            name = name if last.get(name[:2]) == name.sequence - 1 else None
        if name is not None:
            last[name[:2]] = name.sequence
        yield Lost(name, record.end, record.begin, given_up=record.kind == "given up")


def _claimed(content: bytes) -> BatchName | None:
    """The name in a damaged content of format 1; its episode may be wrong."""
    try:
        worker_id, *frames = msgpack.unpackb(content)
        batch = decode(frames, oldest_protocol=_OLDEST_PROTOCOL)
    except (ValueError, TypeError, WireError, msgpack.UnpackException):
        return None
    if type(worker_id) is not int or not isinstance(batch, Batch):
        return None
    return Entry(worker_id, batch, 0).name


class Walk:
    """Goes through a journal, record by record.

    Args:
        path: the file; it is only read.

    Attributes:
        salt: of the markers; None before one is found.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.salt: bytes | None = None
        self._old_seen = False

    def __iter__(self) -> Iterator[Record]:
        """All records; a torn one is the last."""
        with self._path.open("rb", buffering=0) as file:
            self._file, self._size = file, os.fstat(file.fileno()).st_size
            self._buffer, self._buffer_at = b"", 0
            begin = 0
            while begin < self._size:
                record = self._sound(begin) or self._without_prefix(begin) or self._unsound(begin)
                if record.kind == "whole":
                    # Once a run of version 0.1 is resumed, all further records are current ones.
                    self._old_seen = self._prefix(begin) is None and self._old(begin) is not None
                yield record
                if record.kind == "torn":
                    return
                begin = record.end

    # -- intact records ----------------------------------------------------------------------

    def _sound(self, begin: int) -> Record | None:
        """The record with an intact prefix here, in the current format or the old one."""
        return self._marked(begin) or self._old(begin)

    def _marked(self, begin: int) -> Record | None:
        if (sizes := self._prefix(begin)) is None:
            return None
        kind, name_size, size = sizes
        content_at = begin + NAME_AT + name_size + CRC.size
        end = content_at + size + CRC.size
        if end > self._size:
            # If bytes are missing in the middle, records follow all the same.
            found = self._next_marked(begin + 1)
            kinds: Literal["torn", "damaged"] = "torn" if found == self._size else "damaged"
            return Record(kinds, begin, found, name=self._name(begin, name_size))
        if kind == GIVEN_UP:
            return Record("given up", begin, end, name=self._name(begin, name_size))
        content = self._checked(content_at, size)
        if content is not None:
            return Record("whole", begin, end, content)
        if end == self._size and self._emptied(begin):
            return Record("torn", begin, end)
        name = self._name(begin, name_size)
        return Record("damaged", begin, self._corrected(begin, end), name=name)

    def _prefix(self, begin: int) -> tuple[int, int, int] | None:
        """Kind and sizes from a prefix of the current format; None if there is none here."""
        prefix = self._bytes(begin, PREFIX.size)
        if prefix is None or self._bytes(begin + PREFIX.size, CRC.size) != checksum(prefix):
            return None
        magic, salt, *sizes = PREFIX.unpack(prefix)
        if magic != MAGIC or self.salt not in {None, salt}:
            return None
        self.salt = salt
        return cast("tuple[int, int, int]", tuple(sizes))

    def _corrected(self, begin: int, end: int) -> int:
        """The end of a damaged record, which may have lost or gained bytes."""
        if end == self._size or self._prefix(end) or self._old(end) or self._without_prefix(end):
            return end
        found = self._next_marked(begin + 1)
        return found if found < end + SMALLEST else end

    def _old(self, begin: int) -> Record | None:
        length, checksum = self._old_prefix(begin)
        content = self._bytes(begin + OLD_PREFIX.size, length)
        # Pages emptied by a power failure would pass for records without content.
        if not content or zlib.crc32(content) != checksum:
            return None
        return Record("whole", begin, begin + OLD_PREFIX.size + length, content)

    def _old_prefix(self, begin: int) -> tuple[int, int]:
        prefix = self._bytes(begin, OLD_PREFIX.size)
        length, checksum = (0, 0) if prefix is None else OLD_PREFIX.unpack(prefix)
        return (length if length <= _LONGEST else 0), checksum

    # -- damaged records --------------------------------------------------------------------

    def _without_prefix(self, begin: int) -> Record | None:
        """The record with an intact content but no prefix, by the sizes of its own parts."""
        name_size = self._packed_size(begin + NAME_AT)
        if name_size:
            content_at = begin + NAME_AT + name_size + CRC.size
            size = self._packed_size(content_at)
            if size and (content := self._checked(content_at, size)) is not None:
                return Record("whole", begin, content_at + size + CRC.size, content)
        return self._old_without_length(begin)

    def _old_without_length(self, begin: int) -> Record | None:
        size, (_, checksum) = self._packed_size(begin + OLD_PREFIX.size), self._old_prefix(begin)
        content = self._bytes(begin + OLD_PREFIX.size, size)
        if not content or zlib.crc32(content) != checksum:
            return None
        return Record("whole", begin, begin + OLD_PREFIX.size + size, content)

    def _unsound(self, begin: int) -> Record:
        """An unreadable stretch, up to its end or to where reading can go on."""
        length, _ = self._old_prefix(begin)
        end = begin + OLD_PREFIX.size + length
        if length and (end == self._size or (end < self._size and self._sound(end))):
            content = self._bytes(begin + OLD_PREFIX.size, length) or b""
            return Record("damaged", begin, end, content)
        name_size = self._packed_size(begin + NAME_AT)
        name = self._name(begin, name_size) if name_size else None
        end = self._next(begin + 1)
        if end == self._size and self._looks_torn(begin, length):
            return Record("torn", begin, end)
        if end < begin + SMALLEST and not any(self._bytes(begin, end - begin) or b""):
            return Record("given up", begin, end)
        return Record("damaged", begin, end, name=name)

    def _looks_torn(self, begin: int, old_length: int) -> bool:
        """Whether the rest of the file is a record that was not written to its end."""
        rest = self._size - begin
        # A longer rest of the current format has its prefix, and is handled by `_marked`.
        old = old_length and (self._old_seen or begin == 0)
        cut = rest < NAME_AT or (old and rest < OLD_PREFIX.size + old_length)
        return bool(cut) or self._emptied(begin)

    def _emptied(self, begin: int) -> bool:
        """Whether a power failure has emptied the file's last pages, from within this record."""
        if (size := self._size - begin) > _LONGEST:
            return False
        rest = self._bytes(begin, size) or b""
        written = len(rest.rstrip(b"\0"))
        emptied_at = begin if not written else -(-(begin + written) // _PAGE) * _PAGE
        # More zeros than a checksum and the end of its data may have by chance.
        return self._size - emptied_at >= 2 * CRC.size

    def _next(self, begin: int) -> int:
        """Where the next readable record begins; the end of the file if there is none."""
        if self.salt is None:
            self.salt = self._most_common_salt(begin)
        marked = self._next_marked(begin)
        # Nothing inside a current record is taken for an old one; only the format of a journal's
        # first record is unknown.
        if self.salt is not None and not self._old_seen and begin > 1:
            return marked
        old = self._old if self._old_seen or self.salt is None else self._old_chain
        return min(marked, self._first(_OLD_BATCH, begin, OLD_PREFIX.size, old))

    def _old_chain(self, begin: int) -> bool:
        """Whether old records lead from here to a current one, as no bytes inside one could."""
        end = begin
        while record := self._old(end):
            end = record.end
        return end > begin and self._prefix(end) is not None

    def _next_marked(self, begin: int) -> int:
        return self._first(_MARKED, begin, 0, self._prefix)

    def _most_common_salt(self, begin: int) -> bytes | None:
        """The most common salt in the rest, which a peer cannot outnumber with its own markers."""
        found: Counter[bytes] = Counter()
        for at in self._matches(_MARKED, begin):
            self.salt = None
            if self._prefix(at):
                found[cast("bytes", self.salt)] += 1
        return max(found, key=lambda salt: found[salt], default=None)

    def _first(self, pattern: re.Pattern[bytes], begin: int, before: int, read: Any) -> int:  # noqa: ANN401
        found = (at - before for at in self._matches(pattern, begin + before))
        return next((at for at in found if read(at)), self._size)

    def _matches(self, pattern: re.Pattern[bytes], begin: int) -> Iterator[int]:
        """Where a pattern is found, from `begin` on."""
        for at in itertools.count(begin, _WINDOW):
            if at >= self._size:
                return
            window = self._bytes(at, min(_WINDOW + _OVERLAP, self._size - at)) or b""
            yield from (at + m.start() for m in pattern.finditer(window) if m.start() < _WINDOW)

    # -- bytes ------------------------------------------------------------------------------

    def _name(self, begin: int, size: int) -> BatchName | None:
        """The name in a record, if it is intact."""
        packed = self._checked(begin + NAME_AT, size)
        parts: Any = None if packed is None else msgpack.unpackb(packed)
        # It may be nil, or, if bytes are missing, the content.
        kinds = [type(part) for part in parts] if isinstance(parts, list) else []
        return BatchName(*parts) if kinds == _NAME_KINDS else None

    def _checked(self, at: int, size: int) -> bytes | None:
        """These bytes, if their checksum follows them."""
        data = self._bytes(at, size)
        if data is None or self._bytes(at + size, CRC.size) != checksum(data):
            return None
        return data

    def _packed_size(self, at: int) -> int:
        """Size in bytes of the msgpack list that begins here; 0 if there is none."""
        unpacker = msgpack.Unpacker(max_buffer_size=_LONGEST)
        unpacker.feed(self._bytes(at, min(_LONGEST, max(0, self._size - at))) or b"")
        try:
            for _ in range(min(unpacker.read_array_header(), _MOST_PARTS)):
                unpacker.skip()
        except (ValueError, TypeError, msgpack.UnpackException):
            return 0
        return int(unpacker.tell())

    def _bytes(self, at: int, size: int) -> bytes | None:
        """Bytes of the file; None if it ends before."""
        if at + size > self._size:
            return None
        first = at - self._buffer_at
        if first < 0 or first + size > len(self._buffer):
            wanted = min(max(size, _WINDOW), self._size - at)
            self._buffer, self._buffer_at = os.pread(self._file.fileno(), wanted, at), at
            first = 0
        found = self._buffer[first : first + size]
        return found if len(found) == size else None
