"""The end of a process, whatever threads a user's code has left behind."""

from __future__ import annotations

import os
import sys
import threading
import time

GRACE_SECONDS = 30.0
"""How long Python may wait for threads at its end; whatever iqlft itself leaves is faster."""


def leave(code: int, seconds: float = GRACE_SECONDS) -> int:
    """Sees to it that the process ends soon, with this exit code, which is returned.

    Python waits at its end for every thread that is no daemon. An environment's own, such as one
    that reads from a robot, may go on for ever.

    Args:
        code: exit code of the process.
        seconds: how long the threads may take to end.
    """
    if _left():
        threading.Thread(target=_end, args=(code, seconds), daemon=True).start()
    return code


def _left() -> list[str]:
    """Names of the threads that keep this process alive."""
    found = (each for each in threading.enumerate() if not each.daemon)
    return [each.name for each in found if each is not threading.main_thread()]


def _end(code: int, seconds: float) -> None:
    time.sleep(seconds)
    sys.stderr.write(
        f"The process ends without threads that go on though the work is done: "
        f"{', '.join(_left())}; end them in the environment's close().\n"
    )
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
