"""Errors of the run folder, and the message when a file of it cannot be written."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from iqlft_workers.errors import UserError
from iqlft_workers.files import is_unwritable, remedy, unwritten

if TYPE_CHECKING:
    from collections.abc import Iterator

AGAIN = "repeat the command"
"""How to go on when nothing has begun yet."""


class RunError(UserError):
    """A run folder that exists already, is missing, or cannot be read or written."""


def command(*words: object) -> str:
    """A command of iqlft for a message, as a shell takes it, whatever a path in it is called."""
    return f"`iqlft {shlex.join(map(str, words))}`"


@contextmanager
def writing(folder: Path, way_on: str = "") -> Iterator[None]:
    """Context in which a failed write of a run raises `RunError` in place of `OSError`.

    Args:
        folder: the run folder.
        way_on: what to do when there is room again; by default, to resume the run.
    """
    try:
        yield
    except OSError as error:
        if not is_unwritable(error):
            raise
        raise RunError(no_room(error, folder, way_on=way_on)) from error


def no_room(error: OSError, folder: Path, path: Path | None = None, way_on: str = "") -> str:
    """A message: what cannot be written, why, how much room a checkpoint takes, and how to go on.

    Args:
        error: why it cannot be written.
        folder: the run folder.
        path: the file; None: that of the error, or the run folder if it names none.
        way_on: see `writing`.
    """
    checkpoints = folder / "checkpoints"
    sizes = [
        sum(each.stat().st_size for each in path.parent.iterdir())
        for path in checkpoints.glob("[0-9]*/manifest.json")
    ]
    where = path or (Path(os.fsdecode(error.filename)) if error.filename else folder)
    said = unwritten(error, where, needed_bytes=max(sizes, default=0))
    way_on = way_on or f"continue with {command('resume', folder)}"
    return f"{said}; {remedy(error)}, then {way_on}."
