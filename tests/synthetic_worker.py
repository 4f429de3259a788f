"""Workers whose transitions say where they came from, for tests and benchmarks of the transport.

`Counting` is an environment that costs nothing and counts its steps. The real worker process runs
it, wherever its path leads to this folder, for Gymnasium imports the module that `ID` names.
`SyntheticWorker` makes whole batches of the same steps at once, for the speed of many workers; its
sockets, its session and its loop are the real ones. As a program:

    python tests/synthetic_worker.py --connect tcp://host:port --batch 256
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from iqlft_workers.client import Client
from iqlft_workers.discovery import Discovery
from iqlft_workers.keys import WorkerKeys
from iqlft_workers.loop import EXCHANGE_SECONDS, Worker
from iqlft_workers.session import WorkerSession
from iqlft_workers.transition import Transitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

ID = "synthetic_worker:Counting-v0"
PROCESS, SESSION, INDEX = 0, 1, 2
"""Observation values: process id, number of the session in it, index of the step in the session."""
SECONDS, FRACTION = 3, 4
"""When the weights of a synthetic worker came, on `time.monotonic`, which all processes share."""
_EXACT = 2**24
"""Up to here every integer is a float32; indices of longer sessions begin again."""

_numbers = itertools.count()


class Counting(gymnasium.Env["NDArray[np.float64]", "NDArray[np.float32]"]):
    """Observes its process, its number in the process and its steps; each one pays its number.

    Args:
        observation_dim: O, at least 3.
        action_dim: A; actions change nothing.
        episode_steps: length of an episode.
        seconds_per_step: slept in each step.
    """

    def __init__(
        self,
        observation_dim: int = 29,
        action_dim: int = 8,
        episode_steps: int = 1000,
        seconds_per_step: float = 0.0,
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (observation_dim,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        self._episode_steps, self._seconds_per_step = episode_steps, seconds_per_step
        self._observation = np.zeros(observation_dim)
        self._observation[[PROCESS, SESSION]] = os.getpid(), next(_numbers)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._observation.copy(), {}

    def step(
        self,
        action: NDArray[np.float32],  # noqa: ARG002
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        time.sleep(self._seconds_per_step)
        self._observation[INDEX] += 1
        count = float(self._observation[INDEX])
        return self._observation.copy(), count, False, count % self._episode_steps == 0, {}


if "Counting-v0" not in gymnasium.registry:
    gymnasium.register("Counting-v0", "synthetic_worker:Counting")


def indices_by_session(transitions: Transitions) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Indices of the steps of each (process, session), in the order of their arrival.

    Where nothing was lost, doubled or reordered each of them is 0, 1, 2, ...
    """
    sources = transitions.observations[:, [PROCESS, SESSION]]
    return {
        (int(source[0]), int(source[1])): transitions.observations[
            (sources == source).all(axis=1), INDEX
        ].astype(np.int64)
        for source in np.unique(sources, axis=0)
    }


class SyntheticWorker(Worker):
    """A worker in a `Counting` environment that takes the steps of a batch all at once.

    Args:
        client: the sockets.
        session: a fresh one.
        wanted: whether to go on; asked about every second.
        batch: transitions in a batch, where there is credit for so many.
        seconds_per_step: the least time between two steps, on average.
    """

    def __init__(
        self,
        client: Client,
        session: WorkerSession,
        wanted: Callable[[], bool],
        *,
        batch: int,
        seconds_per_step: float,
    ) -> None:
        super().__init__(client, session, wanted, Discovery(lambda: client.address))
        self._batch, self._seconds_per_step = batch, seconds_per_step
        self._free_at = self._weights_came_at = 0.0

    def _exchange(self, timeout_seconds: float) -> None:
        known = self._session.weights
        super()._exchange(timeout_seconds)
        if self._session.weights is not known:
            self._weights_came_at = time.monotonic()

    def _step(self) -> None:
        """Sends a batch once its steps would be over; looks at the sockets meanwhile."""
        session = self._session
        assert session.welcome is not None
        count = min(self._batch, session.credit_left)
        due_at = self._free_at + count * self._seconds_per_step
        time.sleep(min(EXCHANGE_SECONDS, max(0.0, due_at - time.monotonic())))
        if (now := time.monotonic()) >= due_at:
            stepping_seconds = count * self._seconds_per_step
            transitions = self._transitions(count)
            session.send_batch(session.welcome.episode, None, transitions, stepping_seconds)
            session.env_steps += count
            session.steps += count
            # Small delays are made up for, so that the rate is kept; a pause for credit is not.
            self._free_at = max(due_at, now - EXCHANGE_SECONDS)

    def _transitions(self, count: int) -> Transitions:
        environment, session = self._environments[0], self._session
        assert session.weights is not None
        observations = np.repeat(environment.reset()[None], count, axis=0)
        observations[:, INDEX] = (session.env_steps + np.arange(count)) % _EXACT
        observations[:, SECONDS] = self._weights_came_at // 1
        observations[:, FRACTION] = self._weights_came_at % 1
        next_observations = observations.copy()
        next_observations[:, INDEX] += 1
        return Transitions(
            observations,
            np.zeros((count, environment.action_dim), np.float32),
            next_observations[:, INDEX].copy(),
            next_observations,
            np.zeros(count, np.bool_),
            np.zeros(count, np.bool_),
            np.full(count, session.weights.version, np.uint32),
        )


@contextmanager
def started(count: int, *arguments: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of synthetic workers with the ids 0 to `count - 1`; they are gone afterwards."""
    command = [sys.executable, __file__, *arguments]
    processes = [
        subprocess.Popen([*command, "--worker-id", str(worker_id)]) for worker_id in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    """Works until the learner says stop, or the process that started this one is gone."""
    parser = argparse.ArgumentParser(Path(__file__).name)
    parser.add_argument("--connect", required=True, metavar="tcp://HOST:PORT")
    parser.add_argument("--worker-id", type=int)
    parser.add_argument("--keys", type=Path, metavar="DIR")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds-per-step", type=float, default=0.0)
    options = parser.parse_args(argv)
    keys = options.keys and WorkerKeys.load(options.keys, options.worker_id)
    parent, outcome = os.getppid(), ""
    with Client(options.connect, keys) as client:
        while outcome != "stopped":
            with SyntheticWorker(
                client,
                WorkerSession(options.worker_id),
                lambda: os.getppid() == parent,
                batch=options.batch,
                seconds_per_step=options.seconds_per_step,
            ) as worker:
                outcome = worker.run()


if __name__ == "__main__":
    main()
