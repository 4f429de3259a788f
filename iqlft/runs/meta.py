"""`meta.json`, which describes a run: what it is, its status, and digests of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqlft.runs import seals
from iqlft.runs.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

_KINDS: dict[str, type] = {
    **dict.fromkeys(("task", "algorithm", "known_as", "status", "variant"), str),
    **dict.fromkeys(("dataset", "environment", "finetune", "versions", "files"), dict),
    **dict.fromkeys(("argv", "appended"), list),
    **dict.fromkeys(("seed", "port"), int),
}
"""Types of the entries, where they are present."""


def read_meta(folder: Path) -> dict[str, Any]:
    """The contents of a run's `meta.json`.

    Raises:
        RunError: it cannot be read, was changed, or has an entry of the wrong type.
    """
    path = folder / "meta.json"
    try:
        meta = seals.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); restore it from a copy.") from error
    for key, kind in _KINDS.items():
        if key in meta and not isinstance(meta[key], kind):
            raise RunError(f"{path}: {key} is {meta[key]!r}, but must be of type {kind.__name__}.")
    return meta
