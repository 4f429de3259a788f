"""`python -m iqlft` does what the command `iqlft` does."""

import signal
import sys

from iqlft.cli.main import main


def run() -> int:
    """Runs the command of this process's arguments, and returns its exit code."""
    code = main()
    # The work is done: an interrupt while Python ends would only leave a traceback behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(run())
