"""IQL's update and the worker loop beside other libraries', each in an environment of its own.

    python benchmarks/peers.py [--only jax iqlft] [--blocks 7] [--seconds 2] [--cache FOLDER]

It makes virtual environments with `venv` and pip, which takes some minutes the first time. All
learn from the same random transitions of AntMaze's dimensions, batch 256, networks 256-256,
sampling included, on as many cores as they may have threads. The worker loops step the same
environment with policies of the same size. All peers of a table are started together and measured
in turn; the others wait. A peer that cannot be installed or fails has a row that says why.
"""

import contextlib
import importlib.metadata
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from measuring import heading, parser, ratio

HERE = Path(__file__).resolve().parent
WORKERS = HERE.parent / "workers"
RESULT = HERE / "results" / "peers.md"
START_SECONDS, SPARE_SECONDS = 300.0, 60.0
"""How long a peer may take to be ready, and to answer beyond the seconds that it measures."""

ENVIRONMENTS: dict[str, Sequence[str]] = {
    "iqlft": (),
    "jax": ("jax>=0.10", "flax>=0.12", "optax>=0.2.8"),
    "d3rlpy": ("d3rlpy>=2.8.1",),
    "torchrl": ("torchrl>=0.14.1", f"--editable={WORKERS}"),
    "rlox": ("rlox>=1.2",),
    "sb3": ("stable-baselines3>=2.9", f"--editable={WORKERS}"),
}
"""What pip installs in each; nothing for iqlft, whose environment is the one that runs this."""
CONSTRAINTS = ("torch>=2.11,<2.14", f"mujoco=={importlib.metadata.version('mujoco')}")
"""The same PyTorch and physics everywhere."""


class Peer(NamedTuple):
    """A row of a table.

    Attributes:
        name: in the table.
        environment: a key of `ENVIRONMENTS`.
        command: a script in `benchmarks/peers`, and its arguments.
    """

    name: str
    environment: str
    command: tuple[str, ...]


JAX, EAGER, OURS = "JAX, JAX-CORL's way", "eager PyTorch, CORL's way", "iqlft float32"
LEARNERS = [
    Peer(JAX, "jax", ("jax_iql.py",)),
    Peer(EAGER, "iqlft", ("eager_iql.py",)),
    Peer("d3rlpy", "d3rlpy", ("d3rlpy_iql.py",)),
    Peer("torchrl", "torchrl", ("torchrl_iql.py",)),
    Peer("rlox", "rlox", ("rlox_iql.py",)),
    Peer(OURS, "iqlft", ("iqlft_iql.py", "float32")),
    Peer("iqlft bf16", "iqlft", ("iqlft_iql.py", "bf16")),
]
VECTOR = "Stable-Baselines3 SubprocVecEnv"
LOOPS = [
    Peer(VECTOR, "sb3", ("sb3_vecenv.py",)),
    Peer("torchrl MultiCollector", "torchrl", ("torchrl_collector.py",)),
    Peer("iqlft workers", "iqlft", ("iqlft_rollouts.py",)),
]


class PeerError(Exception):
    """A peer cannot be measured; the message says why in a sentence."""


class Found(NamedTuple):
    """What was measured of a peer.

    Attributes:
        versions: of its packages.
        losses: of the first update, by name; empty where they cannot be had.
        rates: per second, block by block.
    """

    versions: Mapping[str, str]
    losses: Mapping[str, float]
    rates: list[float]


def install(name: str, cache: Path) -> Path:
    """The Python of an environment, which is made where it is missing.

    Raises:
        PeerError: pip fails.
    """
    requirements = ENVIRONMENTS[name]
    if not requirements:
        return Path(sys.executable)
    folder = cache / name
    python, ready = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join([*requirements, *CONSTRAINTS])
    if not ready.exists() or ready.read_text() != wanted:
        print(f"Installing {' '.join(requirements)} in {folder}", file=sys.stderr, flush=True)
        constraints = cache / "constraints.txt"
        cache.mkdir(parents=True, exist_ok=True)
        constraints.write_text("\n".join(CONSTRAINTS))
        _call([sys.executable, "-m", "venv", folder])
        _call([python, "-m", "pip", "install", "--quiet", "-c", constraints, *requirements])
        ready.write_text(wanted)
    return python


def _call(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"not installed: {_reason(done.stderr or done.stdout)}")


def _reason(log: str) -> str:
    """The line of a log that gives the reason: pip's first error, or the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["no reason given"]
    errors = (line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: "))
    return next(errors, lines[-1])[:200].replace("|", "/")


class Process:
    """A peer that is ready to be measured.

    Args:
        python: of its environment.
        peer: which one.
        count: its threads or processes.
    """

    def __init__(self, python: Path, peer: Peer, count: int, *, threads: int) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # `close` closes it.
        script, *arguments = peer.command
        self._process = subprocess.Popen(
            [python, HERE / "peers" / script, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=environment_variables(peer, count, threads), process_group=0,
        )  # fmt: skip

    def read(self, seconds: float) -> dict[str, Any]:
        """The peer's next answer.

        Raises:
            PeerError: it has ended, or takes longer than `seconds`.
        """
        answers = self._process.stdout
        assert answers is not None
        if not select.select([answers], [], [], seconds)[0]:
            raise PeerError(f"failed: no answer in {seconds:.0f} s")
        line = answers.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            raise PeerError(f"failed: {_reason(self._log.read())}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def measure(self, seconds: float) -> float:
        """The peer's rate over a block."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(seconds, file=self._process.stdin, flush=True)
        return float(self.read(seconds + SPARE_SECONDS)["rate"])

    def close(self) -> None:
        """Ends the peer, and what it has started."""
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


def environment_variables(peer: Peer, count: int, threads: int) -> dict[str, str]:
    """The environment variables of a peer: its threads, and where it finds modules."""
    variables = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "OMP_WAIT_POLICY"}}
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    variables |= dict.fromkeys(names, str(threads))
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    path = [str(HERE)]
    if peer.environment == "iqlft":
        path += [str(HERE.parent), str(WORKERS)]
    return variables | {"PYTHONPATH": os.pathsep.join(path), "PEER_COUNT": str(count)}


def measure(
    peers: Sequence[Peer],
    python: Callable[[str], Path],
    count: int,
    *,
    threads: int,
    seconds: float,
    blocks: int,
) -> dict[str, Found | str]:
    """The measurements of each peer by name, or why there are none; their blocks alternate."""
    found: dict[str, Found | str] = {}
    running: dict[str, Process] = {}

    @contextlib.contextmanager
    def reporting(name: str) -> Iterator[None]:
        try:
            yield
        except PeerError as error:
            found[name] = str(error)

    try:
        for peer in peers:
            with reporting(peer.name):
                process = Process(python(peer.environment), peer, count, threads=threads)
                running[peer.name] = process
                ready = process.read(START_SECONDS)
                found[peer.name] = Found(ready["versions"], ready["losses"], [])
        for _ in range(blocks):
            for name, process in running.items():
                if isinstance(so_far := found[name], Found):
                    with reporting(name):
                        so_far.rates.append(process.measure(seconds))
    finally:
        for process in running.values():
            process.close()
    return found


def rows(
    found: Mapping[str, Found | str], count: int, references: Sequence[str]
) -> Iterator[list[str]]:
    """A table's rows for one number of threads or processes.

    Args:
        found: by the peers' names.
        count: of threads or processes.
        references: the peers to which each row has its ratio.
    """
    rates = {name: each.rates for name, each in found.items() if isinstance(each, Found)}
    for name, each in found.items():
        if isinstance(each, str):
            yield [name, each, str(count), "", *("" for _ in references)]
            continue
        versions = ", ".join(f"{package} {number}" for package, number in each.versions.items())
        middle, least, most = statistics.median(each.rates), min(each.rates), max(each.rates)
        ratios = (f"{ratio(rates, name, to):.2f}" if to in rates else "" for to in references)
        yield [name, versions, str(count), f"{middle:,.0f} ({least:,.0f}-{most:,.0f})", *ratios]


def difference(found: Mapping[str, Found | str], name: str) -> str:
    """The greatest difference of a peer's first losses from ours, as a share of ours."""
    one, ours = found.get(name), found.get(OURS)
    if not isinstance(one, Found) or not isinstance(ours, Found) or not one.losses or one is ours:
        return ""
    shares = (abs(one.losses[key] / ours.losses[key] - 1) for key in ours.losses)
    return f"{max(shares):.0e}"


def markdown(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    rule = ["---"] * len(columns)
    return f"{title}:\n\n" + "\n".join(f"| {' | '.join(x)} |" for x in [columns, rule, *lines])


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(out=RESULT)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iqlft-peers"
    options.add_argument("--only", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    options.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    options.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    options.add_argument("--cache", type=Path, default=cache, help="folder of the environments")
    args = options.parse_args()
    failed: dict[str, PeerError] = {}

    def python(name: str) -> Path:
        if name not in failed:
            try:
                return install(name, args.cache)
            except PeerError as error:
                failed[name] = error
        raise failed[name]

    def chosen(peers: Sequence[Peer]) -> list[Peer]:
        return [peer for peer in peers if peer.environment in args.only]

    how = {"seconds": args.seconds, "blocks": args.rounds}
    learners, loops = [], []
    for threads in args.threads:
        found = measure(chosen(LEARNERS), python, threads, threads=threads, **how)
        lines = rows(found, threads, (JAX, EAGER))
        learners += [[*line, difference(found, line[0])] for line in lines]
    for processes in args.processes:
        found = measure(chosen(LOOPS), python, processes, threads=1, **how)
        loops += rows(found, processes, (VECTOR,))
    columns = ("", "versions", "threads", "updates/s", "of JAX", "of eager", "losses differ by")
    first = markdown("IQL updates per second, median (least-most)", columns, learners)
    columns = ("", "versions", "processes", "environment steps/s", "of SubprocVecEnv")
    second = markdown("Environment steps per second, AntMaze umaze", columns, loops)
    text = f"{heading('iqlft beside its peers')}\n{first}\n\n{second}\n\n{NOTES}"
    print(text)
    args.out.write_text(text)


NOTES = """\
An update has batch 256, two critics, V and an actor of 256-256, Adam, and samples from 100,000
random transitions. JAX makes eight updates in each call. *Losses differ by* compares those of one
update from the same weights on the same batch with iqlft's in float32; where it is empty a library
brings its own weights. rlox's actor has no standard deviation and a squared error; torchrl and
eager PyTorch take the advantage before V's step. SubprocVecEnv steps in lockstep and stores
nothing; torchrl's collector and iqlft's workers deliver batches to the learner's process.
"""

if __name__ == "__main__":
    main()
