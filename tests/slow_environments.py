"""Simulators that are slow, hang, or exist once."""

import ctypes
import os
import socket
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

ID = "slow_environments:Slow-v0"
STEPS = 5
"""Length of an episode."""


def _hang() -> None:
    """Waits for ever in a call of C that no signal breaks off, as a simulator that is stuck does.

    A mutex that its own thread holds already, so that a processor has nothing to do meanwhile.
    """
    mutex, threads = ctypes.create_string_buffer(128), ctypes.CDLL(None)
    threads.pthread_mutex_init(mutex, None)
    threads.pthread_mutex_lock(mutex)
    threads.pthread_mutex_lock(mutex)


class Slow(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observes its steps.

    Args:
        build_seconds: slept in the constructor;
        reset_seconds: in each reset;
        step_seconds: in each step;
        close_seconds: in the end.
        hang_at: the step that never ends, and lets nobody know of signals meanwhile.
        port: held from the construction to `close`, as a server's; 0: none.
        built: file that gets a line with the process id at each construction.
        close_error: raised in the end.
        says: written to the standard output in each step.
    """

    def __init__(
        self,
        build_seconds: float = 0.0,
        reset_seconds: float = 0.0,
        step_seconds: float = 0.0,
        close_seconds: float = 0.0,
        hang_at: int = -1,
        port: int = 0,
        built: str = "",
        close_error: str = "",
        says: str = "",
    ) -> None:
        self._server = socket.create_server(("127.0.0.1", port)) if port else None
        if built:
            with Path(built).open("a") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(build_seconds)
        self._reset_seconds, self._step_seconds = reset_seconds, step_seconds
        self._close_seconds, self._hang_at = close_seconds, hang_at
        self._close_error, self._says = close_error, says
        self.observation_space = spaces.Box(0, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self._count = 0

    def _observation(self) -> NDArray[np.float32]:
        return np.array([self._count], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        time.sleep(self._reset_seconds)
        self._count = 0
        return self._observation(), {}

    def step(
        self,
        action: NDArray[np.float32],  # noqa: ARG002
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        time.sleep(self._step_seconds)
        if self._says:
            os.write(1, f"{self._says}\n".encode())
        if self._count == self._hang_at:
            _hang()
        self._count += 1
        return self._observation(), 1.0, False, False, {}

    def close(self) -> None:
        time.sleep(self._close_seconds)
        if self._server is not None:
            self._server.close()
        if self._close_error:
            raise RuntimeError(self._close_error)


if "Slow-v0" not in gymnasium.registry:
    gymnasium.register("Slow-v0", "slow_environments:Slow", max_episode_steps=STEPS)
