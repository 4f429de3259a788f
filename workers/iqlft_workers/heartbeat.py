"""The worker's heartbeat: the learner is answered while a call of the environment lasts.

The simulator runs in the main thread, and so does everything else between calls of the environment.
During a call, and only then, a second thread looks after sockets and session. A lock says which
thread may use them: the main thread holds it except during calls of the environment.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from iqlft_workers.environment import Environment, EnvironmentSpec, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

BEAT_SECONDS = 0.25
"""Interval at which the sockets are checked during a call."""
GRACE_SECONDS = 10.0
"""How long a call of the environment is waited for when the work is over."""


class Heartbeat:
    """A thread that beats during calls of the environment; a context manager around each call.

    Args:
        beat: looks after sockets and session; returns how many more seconds the call may last,
            infinity for no limit.
        abandon: ends the process because a call has lasted longer; gets what `beat` raised, if
            anything.

    Attributes:
        calls: how many calls of the environment have finished.
    """

    def __init__(
        self, beat: Callable[[], float], abandon: Callable[[Exception | None], None]
    ) -> None:
        self._beat, self._abandon = beat, abandon
        self._error: Exception | None = None
        self._failed_at = 0.0
        self._closed = threading.Event()
        self._ours = threading.Lock()
        self._ours.acquire()
        self.calls = 0
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        self._ours.release()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ours.acquire()
        self.calls += 1
        if kind is None and self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends the thread; sockets and session stay with the caller."""
        self._closed.set()
        self._ours.release()
        self._thread.join()
        self._ours.acquire()

    def _run(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            with self._ours:
                if not self._closed.is_set():
                    self._look()

    def _look(self) -> None:
        try:
            left = GRACE_SECONDS + self._failed_at - time.monotonic()
            if self._error is None:
                left = self._beat()
        except Exception as error:  # noqa: BLE001  # raised again where the call comes to its end
            self._error, self._failed_at = error, time.monotonic()
            return
        if left <= 0:
            self._abandon(self._error)


class AttendedEnvironment(Environment):
    """An environment whose calls may take long, because the heartbeat goes on meanwhile.

    Args:
        spec: what to build.
        call: entered around the construction and every call.
    """

    def __init__(self, spec: EnvironmentSpec, call: AbstractContextManager[Any]) -> None:
        self._call = call
        with call:
            super().__init__(spec)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """See `Environment.reset`."""
        with self._call:
            return super().reset(seed)

    def step(self, action: NDArray[np.float32]) -> Step:
        """See `Environment.step`."""
        with self._call:
            return super().step(action)

    def close(self) -> None:
        """See `Environment.close`."""
        with self._call:
            super().close()
