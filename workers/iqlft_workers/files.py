"""Files and folders of which nobody sees a part, whoever writes them.

They are made under a temporary name beside their own, `.<name>.<process>.tmp`, and renamed when
they are whole and on the disk. After an error nothing is left of them.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY = ".*.tmp"
"""Matches the temporary names, of which a process that was killed may leave some."""


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replaces a file in one move: a reader or a crash sees the old or the new."""
    with replacing(path) as temporary:
        if isinstance(data, str):
            temporary.write_text(data, encoding="utf-8")
        else:
            temporary.write_bytes(data)


def write_output(path: Path, data: str | bytes) -> None:
    """Writes a file where a user wants it: through a link or into a device, never in its place.

    Raises:
        OSError: it cannot be written; there may be a folder, or none to hold it.
    """
    try:
        special = not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        special = False
    if not special:
        write_atomically(path.resolve(), data)
        return
    with path.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path to write a file to, which replaces `path` at the end of the block."""
    temporary = _beside(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path`, as yet absent, at the end of the block."""
    temporary = _beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Brings a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
