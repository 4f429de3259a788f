"""The worker process: arguments, signals, exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from iqlft_workers.discovery import Address, EndpointError, read_endpoint
from iqlft_workers.errors import UserError
from iqlft_workers.failures import EnvironmentFailedError
from iqlft_workers.keys import WorkerKeys
from iqlft_workers.launchers.local import Engine
from iqlft_workers.launchers.processes import Processes
from iqlft_workers.loop import conclude, work
from iqlft_workers.text import PlainFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iqlft_workers.launchers.ray import RayWorkers

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, prog: str = "iqlft worker") -> int:
    """Runs a worker, or starts several.

    Args:
        argv: the arguments; those of the process when absent.
        prog: what the command is called.

    Returns:
        The exit code: 0 when the learner or a signal ended the work, 2 when the work could not be
        done, 5 when the learner told the worker to leave because its environment hung, 6 when the
        learner was away for too long. With `--parent` also 3 when a later try may succeed, and 4
        when the environment failed, or gave what the learner refuses.
    """
    arguments = _parser(prog).parse_args(argv)
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(PlainFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[log])
    launched = arguments.parent is not None
    leaving = _leave_on_signals(local=launched)

    def wanted() -> bool:
        orphan = launched and os.getppid() != arguments.parent
        return not leaving and not orphan

    try:
        if arguments.num > 1 or arguments.engine != "local":
            where = arguments.connect, arguments.num, arguments.worker_id, arguments.keys
            return _crew(arguments.engine)(*where).run(lambda: not wanted())
        keys = WorkerKeys.load(arguments.keys, arguments.worker_id) if arguments.keys else None
        address = _address(arguments.connect, arguments.worker_id, keys)
        work(address, arguments.worker_id, wanted, _Tally(arguments.tally).add, launched=launched)
    except UserError as error:
        if isinstance(error, EnvironmentFailedError):  # With its traceback, for those who mend it.
            _log.error("The environment has failed.", exc_info=error.__cause__)
        return conclude(error, launched=launched)
    return 0


def _crew(engine: Engine) -> type[Processes | RayWorkers]:
    """The class that starts several workers."""
    if engine == "local":
        return Processes
    from iqlft_workers.launchers.ray import RayWorkers  # noqa: PLC0415 -- an extra

    return RayWorkers


def _address(
    connect: str, worker_id: int | None, keys: WorkerKeys | None
) -> Callable[[], Address | None]:
    """Makes a function for the learner's address: a fixed one, or the one in its endpoint file now.

    Raises:
        EndpointError: `connect` is neither an address nor a file in an existing folder.
    """
    if "://" in connect:
        return lambda: Address(connect, keys)
    # Absolute, because an environment may change the working directory.
    path = Path(connect).absolute()
    if re.fullmatch(r"[^/]+:\d+", connect) or not path.parent.is_dir():
        raise EndpointError(
            f"--connect is {connect!r}, but must be tcp://HOST:PORT, or the path of a run's "
            "endpoint file in a folder that there is."
        )
    return lambda: read_endpoint(path, worker_id, keys)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog, description="Rollout workers for a learner.")
    parser.add_argument(
        "--connect", required=True, metavar="tcp://HOST:PORT|FILE",
        help="address of the learner, or its run's endpoint file",
    )  # fmt: skip
    parser.add_argument(
        "--worker-id", type=_worker_id, metavar="N", help="id to work under (default: any free one)"
    )
    parser.add_argument(
        "--keys", type=Path, metavar="DIR",
        help="folder with learner.public and this worker's secret, made by `iqlft keys new`",
    )  # fmt: skip
    parser.add_argument(
        "--processes", "--num", dest="num", type=_count, default=1, metavar="N",
        help="so many workers, with ids from --worker-id on or those of the keys (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=get_args(Engine), default="local",
        help="what starts them: this machine, or a Ray cluster (default: local)",
    )  # fmt: skip
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="leave when this is no longer the parent process"
    )
    parser.add_argument(
        "--tally", type=Path, metavar="FILE", help="write the number of environment steps there"
    )
    return parser


def _worker_id(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is no id; ids count from 0")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; at least one works")
    return number


def _leave_on_signals(*, local: bool) -> _Received:
    """Collects the signals that end the work, also during a call of the environment.

    A local worker leaves all but SIGTERM to the learner, which receives them too. Signals other
    than SIGINT and SIGTERM stay ignored if they were ignored before, as SIGHUP under `nohup`.
    """
    received = _Received()
    received.follow(signal.SIGTERM)
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if local:
            signal.signal(each, signal.SIG_IGN)
        elif each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN:
            received.follow(each)
    return received


class _Received:
    """Whether one of the followed signals has come, as a truth value.

    Python calls a handler only when the main thread is back from its simulator, but writes the
    signal's number into a pipe at once.
    """

    def __init__(self) -> None:
        self._followed: set[int] = set()
        self._one = False
        self._pipe, end = os.pipe()
        for descriptor in (self._pipe, end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        # Signals to a process that a simulator forks are not meant for this one.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def follow(self, number: signal.Signals) -> None:
        """Follows a signal from now on."""
        self._followed.add(number)
        signal.signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        self._one = True

    def __bool__(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._one |= not self._followed.isdisjoint(os.read(self._pipe, 4096))
        return self._one


class _Tally:
    """Keeps a count of environment steps in a file, which goes on over restarts of the process.

    Args:
        path: of the file; None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600) if path else None
        self._steps = int(os.pread(self._file, 20, 0) or 0) if self._file is not None else 0

    def add(self, steps: int) -> None:
        """Adds steps to the count."""
        self._steps += steps
        if self._file is not None and steps:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, b"%020d" % self._steps, 0)
