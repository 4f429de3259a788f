"""The worker process: arguments, signals, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iqlft_workers.client import EndpointError
from iqlft_workers.discovery import LearnerLostError
from iqlft_workers.errors import UserError
from iqlft_workers.keys import WorkerKeys
from iqlft_workers.loop import work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a worker.

    Args:
        argv: the arguments; those of the process when absent.

    Returns:
        The exit code: 0 when the learner or a signal ended the work, 1 when the learner was away
        for too long, 2 when the work could not be done.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    leaving = _leave_on_signals(local=arguments.parent is not None)

    def wanted() -> bool:
        orphan = arguments.parent is not None and os.getppid() != arguments.parent
        return not leaving and not orphan

    try:
        keys = WorkerKeys.load(arguments.keys, arguments.worker_id) if arguments.keys else None
        work(_address(arguments.connect), arguments.worker_id, wanted, keys)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        # A learner that was frozen for so long starts its worker again, but not one it rejects.
        return 1 if isinstance(error, LearnerLostError) else 2
    return 0


def _address(connect: str) -> Callable[[], str | None]:
    """Where the learner is: always here, or where its endpoint file says at the moment.

    Raises:
        EndpointError: it is neither an address nor a file in a folder that there is.
    """
    if "://" in connect:
        return lambda: connect
    path = Path(connect)
    if re.fullmatch(r"[^/]+:\d+", connect) or not path.absolute().parent.is_dir():
        raise EndpointError(
            f"--connect is {connect!r}, but must be tcp://HOST:PORT, or the path of a run's "
            "endpoint file in a folder that there is."
        )

    def read() -> str | None:
        # A learner that has not begun, or is being started again, has no such file yet.
        try:
            return path.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None
        except ValueError as error:
            raise EndpointError(
                f"{path} holds no address but other bytes; the learner writes it anew when it is "
                "started again."
            ) from error

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("iqlft worker", description="A rollout worker.")
    parser.add_argument(
        "--connect", required=True, metavar="tcp://HOST:PORT|FILE",
        help="address of the learner, or its run's endpoint file",
    )  # fmt: skip
    parser.add_argument(
        "--worker-id", type=int, metavar="N", help="id to work under (default: any free one)"
    )
    parser.add_argument(
        "--keys", type=Path, metavar="DIR",
        help="folder with learner.public and this worker's secret, made by `iqlft keys new`",
    )  # fmt: skip
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="leave when this is no longer the parent process"
    )
    return parser


def _leave_on_signals(*, local: bool) -> list[int]:
    """Collects the signals that end the work; a local worker leaves Ctrl-C to the learner."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    if local:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    return received
