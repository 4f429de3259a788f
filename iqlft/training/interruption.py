"""Graceful stops: what Ctrl-C, SIGTERM and similar signals do to a training command."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iqlft.runs.errors import command
from iqlft_workers.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import FrameType


class Interrupted(Stopped):
    """Runs were stopped by a signal; everything needed to resume them is on disk.

    Args:
        folders: the run folders.
        not_begun: folders of runs that had not begun.
    """

    def __init__(self, folders: Sequence[Path], not_begun: Sequence[Path] = ()) -> None:
        parts = []
        if folders:
            parts.append(f"continue with {command('resume', *folders)}")
        if not_begun:
            names = ", ".join(folder.name for folder in not_begun)
            parts.append(f"begin what has not begun ({names}) by a command of its own")
        super().__init__(f"Interrupted; {', and '.join(parts)}.")
        self.folders = folders


IMPATIENT = (signal.SIGINT, signal.SIGTERM)
"""Signals of which the second one stops at once; others before it do not count."""
STOPPING = (*IMPATIENT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask to stop: from a user, a closed terminal, or a scheduler before time is up."""


class StopSignal:
    """The first signal asks to stop; a second SIGINT or SIGTERM stops at once.

    A closing terminal or a scheduler may repeat its signal without asking for more.
    """

    def __init__(self) -> None:
        self.requested = False
        self._impatient = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number in IMPATIENT:
            if self._impatient:
                raise KeyboardInterrupt
            self._impatient = True
        self.requested = True

    def listening(self) -> AbstractContextManager[None]:
        """Handles the signals inside the block, see `handling`."""
        return handling(self._handle)


@contextmanager
def handling(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handles the signals that ask to stop by a function inside the block, in the main thread only.

    Signals that were ignored before, as by `nohup`, stay ignored, except SIGINT: a shell ignores it
    for what it starts in the background.
    """
    before: dict[signal.Signals, Any] = {}
    try:
        for each in STOPPING:
            if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN:
                before[each] = signal.signal(each, handle)
    except ValueError:  # Not the main thread: the caller owns the signals.
        before = {}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def leave_to_parent() -> None:
    """Ignores the signals that a scheduler or service manager sends to all processes of a command.

    The parent receives them too, and passes the request on; together they would be two requests.
    """
    for each in STOPPING:
        if each != signal.SIGINT:
            signal.signal(each, signal.SIG_IGN)
