"""`python -m iqlft_workers --connect tcp://host:port`: a rollout worker, without torch."""

# ruff: noqa: E402 -- before anything is imported that may lie in the current folder
from iqlft_workers.search_path import forget_current_folder

forget_current_folder()

import sys

from iqlft_workers.leaving import leave
from iqlft_workers.worker import main


def run() -> int:
    """Runs a worker with this process's arguments, and returns its exit code."""
    return leave(main())


if __name__ == "__main__":
    sys.exit(run())
