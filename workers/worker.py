"""The worker process: arguments, signals, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from workers.errors import UserError
from workers.loop import work

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a worker.

    Args:
        argv: the arguments; those of the process when absent.

    Returns:
        The exit code: 0 when the learner or a signal ended the work, 2 when it could not be done.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    leaving = _leave_on_signals(local=arguments.parent is not None)

    def wanted() -> bool:
        orphan = arguments.parent is not None and os.getppid() != arguments.parent
        return not leaving and not orphan

    try:
        work(arguments.connect, arguments.worker_id, wanted)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("iqlft worker", description="A rollout worker.")
    parser.add_argument(
        "--connect", required=True, metavar="tcp://HOST:PORT", help="address of the learner"
    )
    parser.add_argument(
        "--worker-id", type=int, metavar="N", help="id to work under (default: any free one)"
    )
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
