"""Files and folders that are written atomically, so that nobody sees a part of one.

They are made beside their place under a temporary name, `.<name>.<process>.tmp`, and renamed when
they are complete and on the disk. After an error nothing is left of them.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

TEMPORARY = ".*.tmp"
"""Matches the temporary names; a process that was killed may leave such files behind."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No room on the disk, within a quota, or within the longest file allowed."""
_FORBIDDEN = {errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
_MISPLACED = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY}
"""A folder lies where a file belongs, or the other way round."""


def is_full(error: OSError) -> bool:
    """Whether there is no room: on the disk, within a quota, or within the longest file allowed."""
    return error.errno in _FULL


def is_unwritable(error: OSError) -> bool:
    """Whether the cause is the disk, its permissions, or a file or folder that is in the way."""
    return error.errno in _FULL | _FORBIDDEN | _MISPLACED


def as_os_error(error: Exception) -> OSError:
    """The `OSError` behind an error that a library has turned into text."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def unwritten(error: OSError, path: Path | str = "", *, needed_bytes: float = 0) -> str:
    """What cannot be written, where, why, and how much room is needed, without a full stop.

    Args:
        error: why.
        path: of the file; if empty, the error's own.
        needed_bytes: how much room the file needs; 0 if that is not known.
    """
    path = path or os.fsdecode(error.filename or "") or "A file"
    said = f"{path} cannot be written ({error.strerror or error})"
    if not is_full(error):
        return said
    folder = next(each for each in (Path(path), *Path(path).parents) if each.exists())
    needed = f", and at least {_mebibytes(needed_bytes)} are needed" if needed_bytes else ""
    return f"{said}: its disk has {_mebibytes(shutil.disk_usage(folder).free)} free{needed}"


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written."""
    if is_full(error):
        return "free some space"
    if error.errno in _MISPLACED:
        return "move away the file or folder that lies in its place"
    if error.errno == errno.EROFS:
        return "choose a place that is not mounted read-only"
    if error.errno == errno.EIO:
        return "see whether its disk is damaged"
    return "mend the permissions of its folder"


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replaces a file in one move: a reader or a crash finds the old or the new content."""
    with replacing(path) as temporary:
        if isinstance(data, str):
            temporary.write_text(data, encoding="utf-8")
        else:
            temporary.write_bytes(data)


def write_output(path: Path, data: str | bytes) -> None:
    """Writes a file where a user wants it: through a link or into a device, without replacing it.

    Raises:
        OSError: it cannot be written, as when the path is a folder, or in none.
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
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, os.fspath(temporary)):
            error.filename = os.fspath(path)  # A write names no file, a rename the temporary one.
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
    """Flushes a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def outermost(root: Path, wanted: Callable[[Path, Collection[str]], bool]) -> Iterator[Path]:
    """The wanted folders under a folder, or that folder itself, each once, without hidden ones.

    Links are followed: whoever lacks room moves a run or a dataset to another disk, and links to
    it. What lies inside of a wanted folder is not looked at.

    Args:
        root: where to look.
        wanted: whether a folder with entries of these names is wanted.
    """
    seen = set()
    for path, folders, files in os.walk(root, followlinks=True):
        here = os.path.realpath(path)
        if here in seen:
            folders.clear()
        elif wanted(Path(path), {*folders, *files}):
            folders.clear()
            yield Path(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        seen.add(here)


def file_stats(path: Path) -> list[os.stat_result]:
    """Sizes and times of a file, or of all files under a folder, without those that vanish.

    So a folder can be measured while others write in it.
    """
    found, folders = [path], os.walk(path)
    found += [Path(folder, name) for folder, _, names in folders for name in names]
    stats = []
    for each in found:
        with suppress(FileNotFoundError, NotADirectoryError):
            stats.append(each.stat())
    return [each for each in stats if stat.S_ISREG(each.st_mode)]


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
