"""Calls per second; needs nothing but Python, because it also runs where iqlft is not installed."""

import time
from collections.abc import Callable


def rate(
    action: Callable[[], object],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], object] = lambda: None,
) -> float:
    """Calls per second over about `seconds`; `settle` waits for work that is still under way."""
    count, began = 0, clock()
    while clock() - began < seconds:
        action()
        count += 1
    settle()
    return count / (clock() - began)
