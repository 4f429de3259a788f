"""What the transport carries and what it costs: IQLP/1 through a live gateway.

    python benchmarks/transport.py [throughput cpu broadcast overhead soak] [--out FILE.md]

Throughput, cost and latency come from synthetic workers (`tests/synthetic_worker.py`): processes
with the real sockets, session and loop that make whole batches at once. The overhead of a real
worker is measured in AntMaze against a bare loop that takes the same steps; blocks of the two
alternate, so that a drifting machine slows both.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import zmq
from live_gateway import (
    MODES,
    PATIENCE_SECONDS,
    SEED,
    UNLIMITED,
    gateway_seconds,
    receive_for,
    serving,
    set_to_work,
    synthetic,
    weights,
)
from measuring import processor

from iqlft.gateway.gateway import Gateway
from iqlft_workers.actor import GaussianActor
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.rollout import episode_randomness

# In tests/, which the import of live_gateway has added to the path.
from synthetic_worker import FRACTION, PROCESS, SECONDS

ANTMAZE = EnvironmentSpec(
    "iqlft/AntMaze-Medium-v0", observation_keys=("achieved_goal", "observation")
)
STEADY_PER_SECOND = 10_000
PUBLISH_SECONDS = 0.1
WARM_ROUNDS = 2

Rows = Iterator[tuple[str, ...]]


def throughput(options: argparse.Namespace) -> Rows:
    """Transitions per second, as fast as synthetic workers can."""
    yield "workers", "batch", "journal", "CURVE", "min", "median", "max", "ratio"
    for num_workers, batch in itertools.product(options.workers, (64, 256)):
        plain = 0.0
        for mode in MODES:
            with synthetic(num_workers, batch, mode) as gateway:
                set_to_work(gateway, num_workers)
                receive_for(gateway, options.seconds)
                windows = [receive_for(gateway, options.seconds) for _ in range(options.rounds)]
            rates = [window.per_second for window in windows]
            plain = plain or statistics.median(rates)
            mean_batch = sum(w.transitions for w in windows) / sum(w.batches for w in windows)
            figures = (min(rates), statistics.median(rates), max(rates))
            ratio = f"{statistics.median(rates) / plain:.2f}"
            cells = (f"{figure:,.0f}" for figure in figures)
            yield str(num_workers), f"{mean_batch:.0f}", *mode.cells, *cells, ratio


def cpu(options: argparse.Namespace) -> Rows:
    """Shares of a core at a steady rate: the gateway's thread, and the whole learner around it."""
    yield "workers", "batch", "journal", "CURVE", "per second", "gateway", "learner"
    num_workers = max(options.workers)
    for batch, mode in itertools.product((64, 256), MODES):
        shares = []
        with synthetic(num_workers, batch, mode, num_workers / STEADY_PER_SECOND) as gateway:
            set_to_work(gateway, num_workers)
            for _ in range(options.rounds):
                thread, process = gateway_seconds(), time.process_time()
                window = receive_for(gateway, options.seconds)
                thread, process = gateway_seconds() - thread, time.process_time() - process
                shares.append(
                    (window.per_second, thread / window.seconds, process / window.seconds)
                )
        rate, thread, process = (statistics.median(column) for column in zip(*shares, strict=True))
        figures = f"{rate:,.0f}", f"{thread:.2%}", f"{process:.2%}"
        yield str(num_workers), str(batch), *mode.cells, *figures


def arrivals(
    gateway: Gateway, num_workers: int, version: int, credit: Iterator[int]
) -> list[float]:
    """When weights of a version reached each worker, on the monotonic clock."""
    came: dict[float, float] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(came) < num_workers and time.monotonic() < deadline:
        gateway.allow(next(credit))
        for part in gateway.receive(0.1):
            for row in part.observations[part.versions == version]:
                came[float(row[PROCESS])] = float(row[SECONDS]) + float(row[FRACTION])
    return list(came.values())


def broadcast(options: argparse.Namespace) -> Rows:
    """Milliseconds from `publish` to workers that wait for credit, and to workers that step."""
    yield "workers", "they", "who", "median", "95 %", "max"
    num_workers = max(options.workers)
    seconds_per_step = num_workers / STEADY_PER_SECOND
    # Waiting workers get one step each at every look, which reports when their weights came.
    waiting = itertools.count(num_workers, num_workers)
    for name, credit in (("wait", waiting), ("step", itertools.repeat(UNLIMITED))):
        rounds = []
        with synthetic(num_workers, 64, seconds_per_step=seconds_per_step) as gateway:
            for version in range(1, options.publications + WARM_ROUNDS + 1):
                published_at = time.monotonic()
                gateway.publish(weights(version))
                time.sleep(PUBLISH_SECONDS)
                came = arrivals(gateway, num_workers, version, credit)
                rounds.append([1000 * (at - published_at) for at in came])
        each = sorted(itertools.chain(*rounds[WARM_ROUNDS:]))
        last = sorted(max(one) for one in rounds[WARM_ROUNDS:])
        for who, values in (("each", each), ("the last", last)):
            middle, high = statistics.median(values), values[int(0.95 * (len(values) - 1))]
            figures = (f"{value:.1f}" for value in (middle, high, values[-1]))
            yield str(num_workers), name, who, *figures


def bare_steps(environment: Environment, actor: GaussianActor) -> Iterator[None]:
    """The steps of worker 0, one at a time, with nothing around them."""
    for episode in itertools.count():
        seed, rng = episode_randomness(SEED, 0, episode)
        observation, over = environment.reset(seed), False
        while not over:
            step = environment.step(actor.sample(observation, rng))
            observation, over = step.observation, step.terminated or step.truncated
            yield


def bare_loop(connection: Connection) -> None:
    """Receives numbers of steps, takes them, and sends the seconds they took; ends at 0."""
    steps = bare_steps(Environment(ANTMAZE), GaussianActor(weights(0)))
    while count := connection.recv():
        began = time.perf_counter()
        for _ in itertools.islice(steps, count):
            pass
        connection.send(time.perf_counter() - began)


def worker_rate(gateway: Gateway, allowed: int, count: int) -> float:
    """Steps per second of the worker over `count` more steps, from its first batch to its last."""
    gateway.allow(allowed + count)
    first = came = 0
    began = ended = 0.0
    while came < count:
        for part in gateway.receive(PATIENCE_SECONDS):
            ended = time.perf_counter()
            came += part.num_transitions
            if not first:
                first, began = came, ended
    return (came - first) / (ended - began)


def overhead(options: argparse.Namespace) -> Rows:
    """Steps per second in AntMaze: a bare loop of environment and actor, and a worker."""
    yield "bare loop", "worker", "ratio: min", "median", "max"
    count, pairs = options.block_steps, []
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    bare = spawn.Process(target=bare_loop, args=(theirs,), daemon=True)
    bare.start()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(ANTMAZE, 1, Path(folder)) as gateway,
        WorkerPool(1, gateway.endpoint, Path(folder)),
        closing(gateway),
    ):
        for index in range(options.rounds + 1):
            ours.send(count)
            plain = count / ours.recv()
            pairs.append((plain, worker_rate(gateway, index * count, count)))
    ours.send(0)
    bare.join()
    rates = (f"{statistics.median(column):,.0f}" for column in zip(*pairs[1:], strict=True))
    ratios = [worker / plain for plain, worker in pairs[1:]]
    figures = (min(ratios), statistics.median(ratios), max(ratios))
    yield *rates, *(f"{figure:.3f}" for figure in figures)


def resident_mebibytes() -> float:
    """Memory of this process, which includes the gateway."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def soak(options: argparse.Namespace) -> Rows:
    """Memory of the learner while it takes in all that two workers can send, and publishes."""
    yield "minutes", "MiB", "transitions", "published"
    transitions = version = 0
    with synthetic(2, 256) as gateway:
        set_to_work(gateway, 2)
        began = time.monotonic()
        for minutes in sorted({0.0, min(1.0, options.minutes), options.minutes}):
            while time.monotonic() < began + 60 * minutes:
                transitions += receive_for(gateway, PUBLISH_SECONDS).transitions
                version += 1
                gateway.publish(weights(version))
                # A real learner calls these too.
                gateway.worker_status()
                gateway.training_episodes()
            yield f"{minutes:g}", f"{resident_mebibytes():.1f}", f"{transitions:,}", str(version)


PARTS = {each.__name__: each for each in (throughput, cpu, broadcast, overhead, soak)}


def table(part: str, options: argparse.Namespace) -> str:
    """Prints a part's table row by row, and returns it."""
    lines = []
    for row in itertools.chain([None], PARTS[part](options)):
        lines.append("".join(f"{cell:>13}" for cell in row) if row else PARTS[part].__doc__ or "")
        print(lines[-1], flush=True)
    print()
    return "\n".join(lines)


def machine() -> str:
    """Cores, processor and versions."""
    return (
        f"{len(os.sched_getaffinity(0))} cores ({processor('model name') or 'unknown'}), "
        f"pyzmq {zmq.pyzmq_version()}, libzmq {zmq.zmq_version()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5, help="windows or blocks of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window")
    parser.add_argument("--publications", type=int, default=100, help="of the broadcast")
    parser.add_argument("--block-steps", type=int, default=2048, help="of the overhead")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--out", type=Path, help="a file for the tables, in Markdown")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    tables = [table(part, options) for part in options.parts or PARTS]
    if options.out:
        command = " ".join(["python", "benchmarks/transport.py", *sys.argv[1:]])
        body = "\n\n".join(f"```\n{each}\n```" for each in tables)
        text = f"# Transport\n\n`{command}`, {date.today()}, {machine()}.\n\n{body}\n"
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
