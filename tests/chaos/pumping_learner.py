"""A learner that learns nothing: it keeps its workers stepping and looks at all that they send.

As a program it does so until SIGTERM ends it:

    python tests/chaos/pumping_learner.py FOLDER --port 5555 --workers 2
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import signal
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gateways
from actors import gaussian
from chaos import tallying
from iqlft.gateway.journal import Journal
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.keys import LearnerKeys
from iqlft_workers.transition import RowLayout
from synthetic_worker import INDEX, PROCESS, SESSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iqlft.gateway.gateway import Gateway
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.launchers.local import WorkerPool
    from iqlft_workers.transition import Transitions

Source = tuple[int, int]
"""Process id of a worker, and number of the session in it."""

LAYOUT = RowLayout(29, 8)
LEAD_STEPS = 4096
"""More than eight workers may have under way, so that nobody waits for the learner's pace."""
PUBLISH_SECONDS = 0.5
SECONDS_PER_STEP = 0.002


def open_gateway(
    folder: Path,
    workers: int,
    *,
    seconds_per_step: float = SECONDS_PER_STEP,
    **options: Any,  # noqa: ANN401
) -> Gateway:
    """A gateway with a journal, whose workers keep tallies; both are in the folder."""
    tallies = folder / "tallies"
    tallies.mkdir()
    kwargs = {"folder": str(tallies), "seconds_per_step": seconds_per_step}
    environment = EnvironmentSpec(tallying.ID, kwargs, trust=True)
    gateway = gateways.open_gateway(environment, LAYOUT, num_workers=workers, **options)
    gateway.recover(Journal(folder / "journal"))
    return gateway


def actor_weights(version: int) -> ActorWeights:
    """A small actor, the same for every version."""
    widths = (LAYOUT.observation_dim, 16, 16, LAYOUT.action_dim)
    return gaussian(
        tuple(np.zeros(shape, np.float32) for shape in itertools.pairwise(widths)),
        tuple(np.zeros(width, np.float32) for width in widths[1:]),
        np.full(LAYOUT.action_dim, -1.0, np.float32),
        np.zeros(LAYOUT.observation_dim, np.float32),
        np.ones(LAYOUT.observation_dim, np.float32),
        version,
    )


class Account:
    """What came, in order: each session's steps once and none left out, which it sees to.

    Attributes:
        env_steps: transitions so far.
        batches: batches so far.
        steps: transitions of each session so far.
        checksum: of all of them.
    """

    def __init__(self) -> None:
        self.env_steps = self.batches = self.checksum = 0
        self.steps: dict[Source, int] = {}

    def add(self, transitions: Transitions) -> None:
        """One batch more."""
        process, session = transitions.observations[0, [PROCESS, SESSION]]
        source, count = (int(process), int(session)), transitions.num_transitions
        begin = self.steps.get(source, 0)
        observations = transitions.observations
        assert (observations[:, [PROCESS, SESSION]] == source).all()
        np.testing.assert_array_equal(observations[:, INDEX], np.arange(begin, begin + count))
        self.steps[source] = begin + count
        self.env_steps += count
        self.batches += 1
        for array in transitions:
            self.checksum = zlib.crc32(array.tobytes(), self.checksum)

    @classmethod
    def of_journal(cls, path: Path, batches: int | None = None) -> Account:
        """What a journal holds, or its first batches."""
        account, journal = cls(), Journal(path)
        for entry in itertools.islice(journal.entries(), batches):
            account.add(entry.batch.transitions)
        journal.close()
        return account


class PumpingLearner:
    """Publishes, allows and receives; the account is of what it has received.

    Args:
        gateway: open.
        pool: its workers, to be watched; None if they are watched elsewhere.
    """

    def __init__(self, gateway: Gateway, pool: WorkerPool | None = None) -> None:
        self.account = Account()
        self._gateway, self._pool = gateway, pool
        self._version, self._publish_at = 0, 0.0

    def pump(self, seconds: float) -> float:
        """Goes on for a while; returns the transitions per second."""
        began, before = time.monotonic(), self.account.env_steps
        while time.monotonic() < began + seconds:
            self.turn()
        return (self.account.env_steps - before) / (time.monotonic() - began)

    def pump_until(self, condition: Callable[[], bool], patience_seconds: float) -> float:
        """Goes on until a condition holds; returns the seconds that it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + patience_seconds, "it took too long"
            self.turn()
        return time.monotonic() - began

    def turn(self) -> None:
        """Does once what is to be done, in a tenth of a second at most."""
        if time.monotonic() >= self._publish_at:
            self._publish_at = time.monotonic() + PUBLISH_SECONDS
            self._gateway.publish(actor_weights(self._version))
            self._version += 1
        self._gateway.allow(self.account.env_steps + LEAD_STEPS)
        for transitions in self._gateway.receive(0.1):
            self.account.add(transitions)
        if self._pool is not None:
            self._pool.watch()


def hold_the_interpreter(seconds: int) -> None:
    """No thread can run Python meanwhile, as in a call that does not let it go."""
    ctypes.PyDLL(None).sleep(seconds)


def main(argv: Sequence[str] | None = None) -> None:
    """Pumps until SIGTERM; holds the interpreter on SIGUSR1."""
    parser = argparse.ArgumentParser(Path(__file__).name)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--hold-seconds", type=int, default=0)
    options = parser.parse_args(argv)
    leaving: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: leaving.append(number))
    signal.signal(signal.SIGUSR1, lambda *_: hold_the_interpreter(options.hold_seconds))
    keys = LearnerKeys.load(options.folder / "keys")
    with open_gateway(options.folder, options.workers, port=options.port, keys=keys) as gateway:
        learner = PumpingLearner(gateway)
        while not leaving:
            learner.turn()


if __name__ == "__main__":
    main()
