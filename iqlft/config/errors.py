"""The error for settings that cannot be read or make no sense, and a hint for its message."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable


class ConfigError(UserError):
    """A configuration that cannot be read or makes no sense."""


def nearest(name: str, names: Iterable[str]) -> str:
    """` Did you mean ...?` for a mistyped name, or nothing."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
