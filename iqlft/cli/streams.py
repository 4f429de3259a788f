"""Standard streams that survive the loss of their reader, their terminal or of room on the disk.

Text that cannot be written is lost, and the command goes on, because its results are in files. A
command whose result is its output reports the loss by its exit code.
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
"""Errors of a closed pipe or terminal, after which nothing can be written any more."""


class LastingStream:
    """A text stream whose writes never fail.

    Args:
        stream: the stream to write to.

    Attributes:
        failure: the first error by which text was lost; None if there was none.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, which is lost if writing fails; letters that cannot be are escaped."""
        with self._lasting():
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:  # A letter that the terminal's encoding lacks.
                known = text.encode(error.encoding, "backslashreplace")
                self._stream.write(known.decode(error.encoding))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream; buffered text is lost if this fails."""
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
        """Redirects the stream, with what its buffer still holds, to the null device."""
        with contextlib.suppress(OSError), _nowhere() as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
            self._stream.flush()


@contextlib.contextmanager
def lasting_streams() -> Iterator[LastingStream]:
    """Makes standard output and error `LastingStream`s; yields the output."""
    _fill_gaps()
    before = sys.stdout, sys.stderr
    output, errors = (LastingStream(each or _nowhere()) for each in before)
    # A log record that cannot be written must not cause a traceback either.
    logs, logging.raiseExceptions = logging.raiseExceptions, False
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", errors)
    try:
        yield output
    finally:
        for each in (output, errors):
            each.flush()
            if each.failure:
                each.silence()  # Else Python would try again when it exits.
        sys.stdout, sys.stderr = before
        logging.raiseExceptions = logs


def _fill_gaps() -> None:
    """Opens standard descriptors that the caller closed, lest a run's file gets their number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # `open` takes the lowest free number; child processes inherit it as theirs.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
