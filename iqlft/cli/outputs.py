"""Console output of running commands, and the error for outputs that cannot be written."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rich.console import Console

from iqlft.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether a command prints only how it ends."""


def console(*, stderr: bool = False) -> Console:
    """The console for a command's progress; it is silent with --quiet."""
    # Names may hold :dog: or :100:, which Rich would show as pictures.
    return Console(quiet=QUIET.get(), stderr=stderr, emoji=False)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` in its block into an error message about the output's path.

    Args:
        path: the file or folder that is written inside the block.

    Raises:
        ConfigError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); choose another place with --out."
        ) from error
