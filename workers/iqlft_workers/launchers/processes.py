"""Several workers on one machine for a learner on another: `iqlft-worker --processes N`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iqlft_workers.errors import FAILED, LOST, REJECTED, UNFIT
from iqlft_workers.heartbeat import GRACE_SECONDS
from iqlft_workers.keys import KeyFileError, worker_ids
from iqlft_workers.launchers.local import (
    HEALTHY_SECONDS,
    REJECTED_BACK_OFF_SECONDS,
    Restarts,
    end,
    exit_reason,
    start_worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from subprocess import Popen

LOOK_SECONDS = 0.1
"""Interval at which the processes are checked."""
_ENDED = {0, LOST, UNFIT, REJECTED}
"""Exit codes of a worker that has said why it leaves. After any other it is started again, and also
if it is rejected from a place that it had before.
"""

_log = logging.getLogger(__name__)


@dataclass
class _Process:
    arguments: list[str]
    running: Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: Restarts = field(default_factory=Restarts)
    restart_at: float = 0.0
    code: int | None = None


class Processes:
    """Worker processes that leave when this one does.

    Args:
        connect: where the learner is.
        count: how many.
        first_id: first of the ids to ask for; None for those of the keys, or any free ones.
        keys: folder of keys; None for none.

    Raises:
        KeyFileError: the folder has too few workers' keys.
    """

    def __init__(
        self, connect: str, count: int, first_id: int | None = None, keys: Path | None = None
    ) -> None:
        common = ["--connect", connect, *(("--keys", str(keys)) if keys else ())]
        self._processes = [
            _Process(common if each is None else [*common, "--worker-id", str(each)])
            for each in ids_of(count, first_id, keys)
        ]

    def run(self, asked: Callable[[], bool]) -> int:
        """Runs until all workers have left.

        Args:
            asked: whether they are to leave.

        Returns:
            The exit code: 0 if a worker has worked to its end, or if they were asked to leave;
            `LOST` if the learner was away for too long.
        """
        try:
            while any(each.code is None for each in self._processes):
                if asked():
                    return 0
                for each in self._processes:
                    self._look_after(each)
                time.sleep(LOOK_SECONDS)
        finally:
            # Calls of environments get a moment to finish.
            end([each.running for each in self._processes if each.running], 2 * GRACE_SECONDS)
        codes = [each.code or 0 for each in self._processes]
        for code in (0, LOST):
            if code in codes:
                return code
        return min(UNFIT, max(codes))

    def _look_after(self, process: _Process) -> None:
        """Starts a process that is not running and is due; handles the end of one that was."""
        now = time.monotonic()
        if process.code is not None or (process.running is None and now < process.restart_at):
            return
        if process.running is None:
            process.started_at = now
            try:
                process.running = start_worker(process.arguments)
            except OSError as error:  # The machine has no room for it at present.
                process.restart_at = now + REJECTED_BACK_OFF_SECONDS
                _log.warning("A worker process cannot be started: %s.", error.strerror)
        elif (code := process.running.poll()) is not None:
            self._handle_end(process, code, now)

    def _handle_end(self, process: _Process, code: int, now: float) -> None:
        lived = now - process.started_at
        process.restarts.forget(lived)
        # A worker that had a place may find it taken, even by itself, while the learner has not
        # noticed that it died; any other one was started for a place that there is not.
        regains = code == REJECTED and (process.restarts.count > 0 or lived > HEALTHY_SECONDS)
        pause = process.restarts.pause()
        if pause is None or (code in _ENDED and not regains):
            process.code = code if code in {*_ENDED, FAILED} else 1
            return
        process.running, process.restart_at = None, now + pause
        _log.warning("A worker process %s; it is started again.", exit_reason(code))


def ids_of(count: int, first: int | None, keys: Path | None) -> Sequence[int | None]:
    """The ids to ask for.

    Args:
        count: how many.
        first: the first of them; None for those of the keys, or any free ones.
        keys: folder of keys; None for none.

    Raises:
        KeyFileError: the folder has too few workers' keys.
    """
    if first is not None:
        return range(first, first + count)
    known = worker_ids(keys) if keys else None
    if known is None:
        return [None] * count
    if len(known) < count:
        raise KeyFileError(
            f"{count} processes need as many keys, but {keys} has the secrets of {len(known)} "
            "workers; copy the others, or ask for fewer."
        )
    return known[:count]
