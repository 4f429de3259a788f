"""A live gateway and its workers, for the benchmarks of the transport."""

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft.gateway.service import Service
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.keys import LearnerKeys, new_keys
from iqlft_workers.transition import RowLayout

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from actors import gaussian
from synthetic_worker import ID, PROCESS, started

LAYOUT, SEED = RowLayout(29, 8), 0
COUNTING = EnvironmentSpec(ID, trust=True)
UNLIMITED = 10**15
PATIENCE_SECONDS = 120.0


class Mode(NamedTuple):
    """Whether transitions are journalled, and encrypted by CURVE."""

    journal: bool = False
    curve: bool = False

    @property
    def cells(self) -> tuple[str, str]:
        """The flags as cells of a table."""
        return ("no", "yes")[self.journal], ("no", "yes")[self.curve]


PLAIN = Mode()
MODES = [Mode(*flags) for flags in itertools.product((False, True), repeat=2)]


class Window(NamedTuple):
    """What was received in a window of time."""

    seconds: float
    transitions: int
    batches: int

    @property
    def per_second(self) -> float:
        """Transitions per second."""
        return self.transitions / self.seconds


def weights(version: int) -> ActorWeights:
    """An actor of the published size, the same for every version."""
    rng = np.random.default_rng(0)
    widths = (LAYOUT.observation_dim, 256, 256, LAYOUT.action_dim)
    return gaussian(
        tuple(rng.normal(0, 1 / 16, shape).astype("<f4") for shape in itertools.pairwise(widths)),
        tuple(np.zeros(width, np.float32) for width in widths[1:]),
        np.full(LAYOUT.action_dim, -1.0, np.float32),
        np.zeros(LAYOUT.observation_dim, np.float32),
        np.ones(LAYOUT.observation_dim, np.float32),
        version,
    )


@contextmanager
def serving(
    environment: EnvironmentSpec, num_workers: int, folder: Path, mode: Mode = PLAIN
) -> Iterator[Gateway]:
    """A live gateway with weights; keys and journal are in the folder."""
    if mode.curve:
        new_keys(folder / "keys", num_workers)
    service = Service(environment, LAYOUT, "benchmark", SEED, num_workers)
    gateway = Gateway(
        service,
        keys=LearnerKeys.load(folder / "keys") if mode.curve else None,
        insecure=not mode.curve,
    )
    if mode.journal:
        gateway.recover(Journal(folder / "journal"))
    with gateway:
        gateway.publish(weights(0))
        yield gateway


@contextmanager
def synthetic(
    num_workers: int, batch: int, mode: Mode = PLAIN, seconds_per_step: float = 0.0
) -> Iterator[Gateway]:
    """A gateway and its synthetic workers, which end when it is closed."""
    arguments = [f"--batch={batch}", f"--seconds-per-step={seconds_per_step}"]
    with tempfile.TemporaryDirectory() as folder:
        if mode.curve:
            arguments.append(f"--keys={folder}/keys")
        with (
            serving(COUNTING, num_workers, Path(folder), mode) as gateway,
            started(num_workers, f"--connect={gateway.endpoint}", *arguments),
            closing(gateway),
        ):
            yield gateway


def set_to_work(gateway: Gateway, num_workers: int) -> None:
    """Lets the workers step, and returns when every one has sent transitions."""
    gateway.allow(UNLIMITED)
    processes: set[float] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(processes) < num_workers:
        processes |= {float(part.observations[0, PROCESS]) for part in gateway.receive(1.0)}
        if time.monotonic() > deadline:
            raise SystemExit(f"Only {len(processes)} of {num_workers} workers have come.")


def receive_for(gateway: Gateway, seconds: float) -> Window:
    """Receives for `seconds` seconds, and keeps nothing."""
    transitions = batches = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        parts = gateway.receive(0.1)
        transitions += sum(part.num_transitions for part in parts)
        batches += len(parts)
    return Window(elapsed, transitions, batches)


def gateway_seconds() -> float:
    """Processor time of the gateway's thread so far."""
    (thread,) = (each for each in threading.enumerate() if each.name == "gateway benchmark")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
