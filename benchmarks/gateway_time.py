"""What a batch costs the gateway, in milliseconds of processor time.

    python benchmarks/gateway_time.py [--sizes 1 64 256] [--workers 8 64] [--out FILE.md]

All times are processor time, since the machine may do other work. `state` is the state machine with
a journal on disk: a message is decoded, checked, written ahead, counted and acknowledged, and after
every batch the timers are checked. `decoding`, `checks` and `journal` are parts of it, measured
alone; these four are medians of blocks. `thread` is the whole thread of a live gateway, with
sockets, CURVE and a journal as in a run, and synthetic workers at a steady rate. On a busy machine
it finds its caches cold, so the least of its blocks is shown.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from live_gateway import (
    COUNTING,
    LAYOUT,
    UNLIMITED,
    Mode,
    gateway_seconds,
    receive_for,
    set_to_work,
    synthetic,
    weights,
)
from measuring import ACTION_DIM, OBSERVATION_DIM, Table, parser, write

import iqlft_workers
from iqlft.datasets.value_bounds import Range, ValueBounds
from iqlft.gateway.ingestion import check_batch
from iqlft.gateway.journal import Journal
from iqlft.gateway.service import Service
from iqlft.gateway.state import GatewayState
from iqlft_workers import messages
from iqlft_workers.messages import Batch
from iqlft_workers.wire import Frame, decode, encode

BOUNDS = ValueBounds(Range(-1000.0, 1000.0), Range(-1000.0, 1000.0))
BATCHES_PER_SECOND = 200
"""Rate of the live gateway's batches, and of those of the state machine on its own clock."""


def frames_of(session: str, sequence: int, count: int) -> list[Frame]:
    """The frames of a batch on the wire."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (count, LAYOUT.width)).astype(np.float32)
    rows[:, -3:] = 0
    batch = Batch(session, sequence, 0, None, 0.1, *LAYOUT.transitions(rows))
    return [bytes(frame) for frame in encode(batch)]


class Served:
    """A gateway's state with workers that are ready, and a journal.

    Args:
        num_workers: number of workers.
        folder: the journal's folder.
    """

    def __init__(self, num_workers: int, folder: Path) -> None:
        service = Service(COUNTING, LAYOUT, "benchmark", 0, num_workers, bounds=BOUNDS)
        self._state, self._now = GatewayState(service, 1, keyed=False), 0.0
        self._state.recover(Journal(folder / "journal"))
        self._state.publish(weights(0))
        self._state.allow(UNLIMITED)
        self._routes = [b"%d" % number for number in range(num_workers)]
        for worker_id, route in enumerate(self._routes):
            hello = messages.Hello(worker_id, route.decode(), iqlft_workers.__version__)
            ready = messages.Ready(route.decode(), OBSERVATION_DIM, ACTION_DIM, "", "")
            for message in (hello, ready):
                self.say(route, encode(message))

    def say(self, route: bytes, frames: list[Frame]) -> None:
        """One turn of the gateway's thread, `1 / BATCHES_PER_SECOND` after the one before."""
        self._now += 1 / BATCHES_PER_SECOND
        self._state.receive(route, frames, self._now)
        self._state.tick(self._now)
        self._state.outbox.clear()
        self._state.wait_seconds(self._now)

    def seconds(self, size: int, rounds: int, first: int) -> float:
        """Processor seconds per batch, over `rounds` batches of every worker."""
        sent = [
            (route, frames_of(route.decode(), first + sequence, size))
            for sequence in range(rounds)
            for route in self._routes
        ]
        began = time.process_time()
        for route, frames in sent:
            self.say(route, frames)
        ended = time.process_time()
        self._state.deliver()
        return (ended - began) / len(sent)


def state_seconds(num_workers: int, size: int, blocks: int) -> float:
    """The state machine's time per batch: the median over blocks."""
    rounds = max(1, 512 // num_workers)
    with tempfile.TemporaryDirectory() as folder:
        served = Served(num_workers, Path(folder))
        found = [served.seconds(size, rounds, 1 + n * rounds) for n in range(blocks + 1)]
    return statistics.median(found[1:])


def part_seconds(size: int, blocks: int) -> Iterator[float]:
    """Decoding, checks and the journal's record of a batch, each alone."""
    frames = frames_of("0" * 36, 1, size)
    batch = decode(frames)
    assert isinstance(batch, Batch)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        yield each(lambda: decode(frames), blocks)
        yield each(lambda: check_batch(batch, LAYOUT, 0, BOUNDS), blocks)
        yield each(lambda: journal.append(0, frames), blocks)
        journal.close()


def each(action: Callable[[], object], blocks: int, calls: int = 300) -> float:
    """Processor seconds per call: the median over blocks."""
    found = []
    for _ in range(blocks):
        began = time.process_time()
        for _ in range(calls):
            action()
        found.append((time.process_time() - began) / calls)
    return statistics.median(found)


def thread_seconds(num_workers: int, size: int, seconds: float, blocks: int) -> float:
    """A live gateway thread's time per batch, at a steady rate: the least of the blocks."""
    per_step = num_workers / (BATCHES_PER_SECOND * size)
    found = []
    with synthetic(num_workers, size, Mode(journal=True, curve=True), per_step) as gateway:
        set_to_work(gateway, num_workers)
        for _ in range(blocks):
            began = gateway_seconds()
            window = receive_for(gateway, seconds)
            found.append((gateway_seconds() - began) / window.batches)
    return min(found)


def main() -> None:
    options = parser(__doc__, seconds=2.0, rounds=7)
    options.add_argument("--sizes", type=int, nargs="+", default=[1, 64, 256])
    options.add_argument("--workers", type=int, nargs="+", default=[8, 64])
    options.add_argument("--live-workers", type=int, default=8, help="0: no live gateway")
    args = options.parse_args()
    heading = ("batches of", "workers", "decoding", "checks", "journal", "state", "thread")
    table = Table("Processor's milliseconds of a batch", heading)
    for size, num_workers in itertools.product(args.sizes, args.workers):
        cells = [f"{1000 * part:.3f}" for part in part_seconds(size, args.rounds)]
        cells.append(f"{1000 * state_seconds(num_workers, size, args.rounds):.3f}")
        live = num_workers == args.live_workers
        seconds = thread_seconds(num_workers, size, args.seconds, args.rounds) if live else 0.0
        table.add(str(size), str(num_workers), *cells, f"{1000 * seconds:.3f}" if live else "")
    write("The gateway's time", [table], args.out)


if __name__ == "__main__":
    main()
