"""Standard output and error that may go away: a reader such as `head`, a terminal, room on a disk.

What cannot be written is lost, and the command goes on: its work is in files. A command whose work
is what it prints says by its exit code that it was not heard.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = {errno.EPIPE, errno.EIO}
"""The reader has closed its end, or the terminal is closed: nothing will ever arrive."""


class LastingStream:
    """A text stream that never fails, for as long as it is written to.

    Args:
        stream: where to.

    Attributes:
        failure: why something was lost first; None while nothing was.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, or loses the text."""
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Brings what is written to its reader, or loses it."""
        with self._lasting():
            self._stream.flush()

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            if error.errno in _GONE:
                self.silence()

    def silence(self) -> None:
        """Sends all that comes, and what a buffer still holds, nowhere."""
        with contextlib.suppress(OSError), _nowhere() as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
            self._stream.flush()


@contextlib.contextmanager
def lasting_streams() -> Iterator[LastingStream]:
    """Standard output and error as such streams; yields the output."""
    _fill_gaps()
    before = sys.stdout, sys.stderr
    output, errors = (LastingStream(each or _nowhere()) for each in before)
    # What a log cannot write is no reason for a traceback either.
    logs, logging.raiseExceptions = logging.raiseExceptions, False
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", errors)
    try:
        yield output
    finally:
        for each in (output, errors):
            each.flush()
            if each.failure:
                each.silence()  # Or Python would try again at its end.
        sys.stdout, sys.stderr = before
        logging.raiseExceptions = logs


def _fill_gaps() -> None:
    """Opens what was closed by the caller, lest a file of a run becomes standard output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, and as such a stream of the processes that are started too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
