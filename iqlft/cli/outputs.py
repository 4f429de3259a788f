"""What is said where a command's output cannot be written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from iqlft.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
