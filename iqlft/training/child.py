"""The process of one of several parallel runs; started by `parallel.py`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqlft.config.layers import override
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.training.finetune import finetune
from iqlft.training.interruption import leave_to_parent
from iqlft.training.pretrain import pretrain
from iqlft.training.resume import resume
from iqlft_workers.errors import Stopped, UserError
from iqlft_workers.leaving import leave

if TYPE_CHECKING:
    import io
    from typing import TextIO

    from iqlft.training.progress import Reporter, Status


class Parent:
    """A reporter that sends status and events to the parent process.

    Args:
        out: the stream that the parent reads.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def tell(self, **message: object) -> None:
        """Sends a message; it is lost if the parent is gone."""
        with contextlib.suppress(BrokenPipeError):
            self._out.write(json.dumps(message) + "\n")

    def status(self, status: Status) -> None:
        """Sends a status."""
        self.tell(status=status.to_json())

    def event(self, sentence: str) -> None:
        """Sends an event."""
        self.tell(event=sentence)


def main() -> int:
    """Does the job that is the first line of the standard input.

    Returns:
        The exit code that the command would have for this run alone.
    """
    leave_to_parent()
    # The parent expects only messages: what libraries print goes to standard error.
    parent = Parent(os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"))
    os.dup2(2, 1)
    # Unbuffered: when the interpreter exits, no thread may hold a buffer's lock.
    orders = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 -- for as long as it lives
    job = json.loads(orders.readline())
    sys.argv = job["argv"]
    sys.path += [each for each in job["path"] if each not in sys.path]
    threading.Thread(target=_interrupt, args=(orders,), daemon=True).start()
    try:
        _train(job, parent)
    except UserError as error:
        parent.tell(failure=str(error))
        return error.exit_code
    except (Stopped, KeyboardInterrupt):
        return Stopped.exit_code
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


def _train(job: dict[str, Any], reporter: Reporter) -> None:
    command, arguments = job["command"], job["arguments"]
    if command == "pretrain":
        pretrain(override(PretrainConfig(), arguments, command), reporter)
    elif command == "finetune":
        finetune(override(FinetuneConfig(), arguments, command), reporter)
    else:
        resume(Path(job["folder"]), reporter=reporter, **arguments)


def _interrupt(orders: io.FileIO) -> None:
    """Interrupts the main thread, as Ctrl-C does, for each byte of the input and at its end."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    more = True
    while more:
        more = bool(orders.read(1))
        signal.pthread_kill(main_thread, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(leave(main()))
