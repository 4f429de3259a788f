"""Where commands say what they do, and what is said where their output cannot be written."""

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
"""Whether a command says only how it ends."""


def console() -> Console:
    """Where a command says what it does meanwhile; with --quiet that is nowhere."""
    return Console(quiet=QUIET.get())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in one sentence that what a command makes cannot be written.

    Args:
        path: what is written inside the block, or where.

    Raises:
        ConfigError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); choose another place with --out."
        ) from error
