"""The process of one run among several side by side; see `parallel.py`, which starts it."""

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

if TYPE_CHECKING:
    import io
    from typing import TextIO

    from iqlft.training.progress import Reporter, Status


class Parent:
    """Tells the parent process what happens.

    Args:
        out: where it listens.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def tell(self, **message: object) -> None:
        """Sends a message; one to a parent that is gone is lost."""
        with contextlib.suppress(BrokenPipeError):
            self._out.write(json.dumps(message) + "\n")

    def status(self, status: Status) -> None:
        """Sends a status."""
        self.tell(status=status.to_json())

    def event(self, sentence: str) -> None:
        """Sends an event."""
        self.tell(event=sentence)


def main() -> int:
    """Does the job that comes as the first line of the standard input.

    Returns:
        The exit code, as that of the command for this run alone.
    """
    leave_to_parent()
    # What a library prints goes elsewhere: the parent expects messages.
    parent = Parent(os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"))
    os.dup2(2, 1)
    # Unbuffered: at the end of Python nobody may hold the lock of a buffer.
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
    """Interrupts the main thread, as Ctrl-C does, for each byte and at the end."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    more = True
    while more:
        more = bool(orders.read(1))
        signal.pthread_kill(main_thread, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
