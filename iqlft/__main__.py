"""`python -m iqlft` does what the command `iqlft` does."""

# ruff: noqa: E402 -- before anything is imported that may lie in the current folder
from iqlft_workers.search_path import forget_current_folder

forget_current_folder()

import logging
import signal
import sys

from iqlft.cli.main import main
from iqlft_workers.leaving import leave
from iqlft_workers.text import PlainFormatter


def run() -> int:
    """Runs the command of this process's arguments, and returns its exit code."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())
    # As Ctrl-C, so that keys and unfinished files are removed also before training listens to it.
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main()
    # The work is done: an interrupt while Python ends would only leave a traceback behind.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    return leave(code)


if __name__ == "__main__":
    sys.exit(run())
