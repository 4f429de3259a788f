"""Reads the `metadata.json` of a Minari dataset as data, without running anything that it names.

Minari builds the recorded environment if a dataset does not say what its spaces are, and takes all
other values unchecked. So whatever would make Minari fail or run code is refused here first.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.storage import dataset_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

AGAIN = "make or download the dataset again"
"""Advice for a damaged dataset."""
_MOST = 2**40
"""No dataset has this many episodes or transitions."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_score(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and math.isfinite(float(str(value))))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_texts_or_one(value: object) -> bool:
    return value is None or _is_text(value) or _are_texts(value)


_NEEDED: dict[str, tuple[Callable[[object], bool], str]] = {
    "dataset_id": (_is_text, "a text"),
    "minari_version": (_is_text, "a text"),
    "data_format": (
        lambda value: value in ("hdf5", "arrow", "parquet"),
        "hdf5, arrow or parquet",
    ),
    "total_episodes": (_is_count, "a number of episodes"),
    "total_steps": (_is_count, "a number of transitions"),
    "observation_space": (_is_text, "a space as JSON"),
    "action_space": (_is_text, "a space as JSON"),
}
"""Required keys: the check of the value, and what it must be."""
_KNOWN: dict[str, tuple[Callable[[object], bool], str]] = {
    "env_spec": (lambda value: value is None or _is_text(value), "a specification as JSON"),
    "eval_env_spec": (lambda value: value is None or _is_text(value), "a specification as JSON"),
    "ref_min_score": (_is_score, "a finite number"),
    "ref_max_score": (_is_score, "a finite number"),
    "requirements": (_are_texts_or_one, "a list of texts"),
    "author": (_are_texts_or_one, "a list of texts"),
    "author_email": (_are_texts_or_one, "a list of texts"),
    "combined_datasets": (lambda value: value is None or _are_texts(value), "a list of ids"),
    "iqlft": (lambda value: isinstance(value, dict), "keys and values"),
}
"""Optional keys that are checked too."""


def read_metadata(dataset_id: str) -> dict[str, Any]:
    """Reads and checks the metadata of a local dataset.

    Raises:
        DatasetError: the file is missing or no JSON mapping, or a value is missing or not of the
            kind that Minari writes.
    """
    path = dataset_path(dataset_id) / "data" / "metadata.json"
    metadata = _load(path)
    for key, (fits, must) in (_NEEDED | _KNOWN).items():
        if key in _NEEDED and key not in metadata:
            raise DatasetError(f"{path} does not say {key}; {AGAIN}.")
        if key in metadata and not fits(metadata[key]):
            raise DatasetError(
                f"{path}: {key} is {metadata[key]!r:.99}, but must be {must}; {AGAIN}."
            )
    for key in ("env_spec", "eval_env_spec"):
        if metadata.get(key) is not None:
            _require_sound(path, key, metadata[key])
    return metadata


def _load(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"There is no {path}; {AGAIN}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); {AGAIN}.") from error
    if not isinstance(metadata, dict):
        kind = type(metadata).__name__
        raise DatasetError(f"{path} must hold keys and values, but holds {kind}; {AGAIN}.")
    return metadata


def _require_sound(path: Path, key: str, text: str) -> None:
    """Refuses an environment's specification that cannot have been written by `EnvSpec`."""
    try:
        spec = json.loads(text)
        wrong = _wrong(spec)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        wrong = f"is no specification of an environment ({type(error).__name__}: {error})"
    if wrong:
        raise DatasetError(f"{path}: {key} {wrong:.200}; {AGAIN}.")


def _wrong(spec: Mapping[str, Any]) -> str:
    """What is wrong with a specification; empty if nothing is."""
    steps = spec.get("max_episode_steps")
    if not isinstance(spec["id"], str) or not isinstance(spec["entry_point"], str | None):
        return f"names {spec['id']!r} and {spec['entry_point']!r}, which are no texts"
    if steps is not None and not (_is_count(steps) and steps):
        return f"has max_episode_steps {steps!r}, which is no number of steps"
    if not isinstance(spec.get("kwargs", {}), dict):
        return f"has kwargs {spec['kwargs']!r}, which are no keys and values"
    for wrapper in spec["additional_wrappers"]:
        texts = isinstance(wrapper["name"], str) and isinstance(wrapper["entry_point"], str)
        if not texts or not isinstance(wrapper["kwargs"], dict | None):
            return f"has the wrapper {wrapper!r}, which is none"
    return ""
