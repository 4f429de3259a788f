"""Workers of this repository: what a learner receives from them through its gateway."""

import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import peer
from antmaze import ENVIRONMENT_ID
from live_gateway import serving

from iqlft.gateway.gateway import Gateway
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool

SPEC = EnvironmentSpec(ENVIRONMENT_ID, observation_keys=("achieved_goal", "observation"))
AHEAD = 2048
"""Steps per worker that may be under way."""
PATIENCE_SECONDS = 60.0


class Steps:
    """Environment steps that workers take while they are measured, and no others.

    Args:
        gateway: the gateway of the workers.
        count: number of workers.
    """

    def __init__(self, gateway: Gateway, count: int) -> None:
        self._gateway, self._ahead = gateway, AHEAD * count
        self._received = self._allowed = 0

    def start(self) -> None:
        """Waits until the workers have come, taken their first steps, and are at rest again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._received < self._ahead:
            self._allow()
            self._receive()
            if time.monotonic() > deadline:
                raise SystemExit("The workers do not come.")
        self._rest()

    def measure(self, seconds: float) -> float:
        """Environment steps per second over `seconds`; afterwards the workers come to rest."""
        first, began = self._received, time.perf_counter()
        while time.perf_counter() - began < seconds:
            self._allow()
            self._receive()
        measured = (self._received - first) / (time.perf_counter() - began)
        self._rest()
        return measured

    def _allow(self) -> None:
        self._allowed = self._received + self._ahead
        self._gateway.allow(self._allowed)

    def _receive(self) -> None:
        self._received += sum(part.num_transitions for part in self._gateway.receive(0.05))

    def _rest(self) -> None:
        while self._received < self._allowed:
            self._receive()


def main() -> None:
    count = int(os.environ["PEER_COUNT"])
    with tempfile.TemporaryDirectory() as folder, serving(SPEC, count, Path(folder)) as gateway:
        WorkerPool(count, gateway.endpoint, Path(folder) / "logs").start()
        steps = Steps(gateway, count)
        with closing(gateway):
            steps.start()
            peer.serve_steps(steps.measure, "iqlft", "mujoco")


if __name__ == "__main__":
    main()
