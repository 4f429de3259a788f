"""Stopping politely: what Ctrl-C and SIGTERM do to a training command."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iqlft_workers.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import FrameType


class Interrupted(Stopped):
    """Runs were stopped by a signal; everything needed to resume them is on disk.

    Args:
        folders: the run folders.
        not_begun: folders of runs that were still to come.
    """

    def __init__(self, folders: Sequence[Path], not_begun: Sequence[Path] = ()) -> None:
        parts = []
        if folders:
            parts.append(f"continue with `iqlft resume {' '.join(map(str, folders))}`")
        if not_begun:
            names = ", ".join(folder.name for folder in not_begun)
            parts.append(f"begin what has not begun ({names}) by a command of its own")
        super().__init__(f"Interrupted; {', and '.join(parts)}.")
        self.folders = folders


class StopSignal:
    """The first SIGINT or SIGTERM asks to stop; the second one stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals inside the block, where the main thread is ours to ask."""

        def handle(number: int, frame: FrameType | None) -> None:
            del number, frame
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True

        before: dict[signal.Signals, Any] = {}
        try:
            for each in (signal.SIGINT, signal.SIGTERM):
                before[each] = signal.signal(each, handle)
        except ValueError:  # Not the main thread: the caller owns the signals.
            before = {}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
