"""Digests that show whether a file of a run has been changed since it was written.

A file that is written as a whole carries its own digest, so that the two are replaced atomically;
for a file that grows, `meta.json` and the checkpoints hold length and digest. A file without a
digest is from version 0.1, or its owner has edited it and removed the digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import safetensors.numpy
import yaml
from safetensors import safe_open

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

KEY = "digest"
"""Key of the digest in a JSON object."""
_HEADER = "iqlft"
"""The text in a safetensors file's header that holds the digest, as JSON."""
_LINE = "# digest {} of what follows; without this line the file is taken as it is.\n"
_FIRST_LINE = re.compile(r"(?:# digest (\S*)|.* of what follows; without this line).*(?:\n|$)")
"""Matches the line by its beginning or its end, so that one flipped byte does not hide it."""
_CHANGED = "it is not as iqlft wrote it, so it was changed or damaged since"


def digest(data: bytes) -> str:
    """The digest of some bytes, as 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Prefix:
    """Length and digest of a file that grows.

    Attributes:
        size: bytes so far.
    """

    def __init__(self) -> None:
        self._hash, self.size = hashlib.blake2b(digest_size=16), 0

    @classmethod
    def of(cls, path: Path, size: int | None = None) -> Self:
        """The prefix of a file's first `size` bytes; of the whole file if None or if it is shorter.

        Raises:
            OSError: the file cannot be read.
        """
        prefix, left = cls(), path.stat().st_size if size is None else size
        with path.open("rb") as file:
            while chunk := file.read(min(left, 1 << 20)):
                prefix.add(chunk)
                left -= len(chunk)
        return prefix

    def add(self, data: bytes) -> None:
        """Adds bytes that were appended to the file."""
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """Digest of the bytes so far."""
        return self._hash.hexdigest()


# -- JSON -----------------------------------------------------------------------------------


def to_json(data: Mapping[str, Any]) -> str:
    """A JSON object that carries its digest, as text."""
    plain = {key: each for key, each in data.items() if key != KEY}
    return json.dumps({**plain, KEY: _json_digest(plain)}, indent=2) + "\n"


def from_json(text: str) -> dict[str, Any]:
    """A JSON object without its digest.

    Raises:
        ValueError: it is no JSON, no object, or not what was written.
    """
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"it must hold a JSON object, not {type(data).__name__}")
    found = data.pop(KEY, None)
    if found not in (None, _json_digest(data)):
        raise ValueError(f"{_CHANGED}; if you edited it, take out its entry {KEY!r}")
    return data


def _json_digest(data: Mapping[str, Any]) -> str:
    # After a round trip, so that keys and tuples are what JSON makes of them.
    return digest(json.dumps(json.loads(json.dumps(data)), sort_keys=True).encode())


# -- YAML -----------------------------------------------------------------------------------


def to_yaml(data: Mapping[str, Any]) -> str:
    """A YAML mapping behind a line with its digest, as text."""
    body = yaml.safe_dump(dict(data), sort_keys=False)
    return _LINE.format(digest(body.encode())) + body


def from_yaml(text: str, *, whole: bool = True) -> dict[str, Any]:
    """A YAML mapping of mappings.

    Args:
        text: text of the file.
        whole: whether to refuse a text that does not match its digest.

    Raises:
        ValueError: it is no YAML, no such mapping, or not what was written.
    """
    body, found = without_seal(text), _FIRST_LINE.match(text)
    if whole and found and found[1] != digest(body.encode()):
        raise ValueError(f"{_CHANGED}; if you edited it, take out its first line")
    try:
        data = yaml.safe_load(body)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The parser's message has several lines.
        raise ValueError(f"it is not valid YAML: {' '.join(str(error).split())}") from error
    _require_keys("it", data)
    for name, section in data.items():
        _require_keys(repr(name), section)
    return dict(data)


def _require_keys(name: str, data: object) -> None:
    if not (isinstance(data, dict) and all(isinstance(key, str) for key in data)):
        raise ValueError(f"{name} must hold names and values, not {type(data).__name__}")


def without_seal(text: str) -> str:
    """The text of a YAML file without the line with its digest."""
    return _FIRST_LINE.sub("", text, count=1) if _FIRST_LINE.match(text) else text


# -- arrays ---------------------------------------------------------------------------------


def save_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file that carries its digest.

    Args:
        path: the file.
        arrays: by name.
        about: texts for its header.
    """
    contiguous = {key: np.array(each, order="C") for key, each in arrays.items()}
    header = dict(about or {})
    header[KEY] = _array_digest(contiguous, header)
    # One text: safetensors writes several in any order, but files of equal runs must be equal.
    safetensors.numpy.save_file(contiguous, path, {_HEADER: json.dumps(header)})


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Reads a safetensors file: the arrays, and the texts of its header without the digest.

    Raises:
        OSError: it cannot be read.
        SafetensorError: it is no safetensors file.
        ValueError: it is not what was written.
    """
    with safe_open(path, "numpy") as file:
        header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- no mapping
    if not isinstance(header, dict):
        raise ValueError(_CHANGED)
    found = header.pop(KEY, None)
    if found not in (None, _array_digest(arrays, header)):
        raise ValueError(_CHANGED)
    return arrays, header


def _array_digest(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, str]) -> str:
    found = hashlib.blake2b(json.dumps(dict(header), sort_keys=True).encode(), digest_size=16)
    for name in sorted(arrays):
        each = arrays[name]
        found.update(f"{name} {each.dtype} {each.shape}\n".encode())
        found.update(each.tobytes())
    return found.hexdigest()
