"""A machine that has run out of something."""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def _limited(kind: int, least: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def no_more_files() -> AbstractContextManager[None]:
    """Inside the block this process can open no file and start no process."""
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    return _limited(resource.RLIMIT_NOFILE, lowest)


def no_file_longer_than(size: int) -> AbstractContextManager[None]:
    """The kernel refuses this process to write beyond; a write across it is cut short."""
    return _limited(resource.RLIMIT_FSIZE, size)
