"""Waiting for what processes and threads of a test come to."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout_seconds: float = 60.0) -> None:
    """Waits until a condition holds; fails if it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)
