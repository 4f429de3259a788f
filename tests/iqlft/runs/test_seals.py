"""A file that carries its digest is what was written, or it is refused; without one it is taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from iqlft.runs import seals

META = {"task": "umaze", "seed": 3, "seconds": 1.5, "nothing": None, "list": [1, "\u00e9"]}
CONFIG = {"pretrain": {"seed": 3, "rate": 3e-4, "kwargs": {"a": None}}, "finetune": {"steps": 9}}
ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.zeros((), np.int64)}


def test_json_and_yaml_are_read_as_they_were_written() -> None:
    assert seals.from_json(seals.to_json(META)) == META
    assert seals.from_json(seals.to_json(seals.from_json(seals.to_json(META)))) == META
    assert seals.from_yaml(seals.to_yaml(CONFIG)) == CONFIG
    # Who takes the digest out says that the file is as it is meant.
    assert seals.from_json(json.dumps(META)) == META
    assert seals.from_yaml(seals.without_seal(seals.to_yaml(CONFIG))) == CONFIG


@pytest.mark.parametrize(
    ("read", "written", "expected"),
    [
        (seals.from_json, seals.to_json(META), META),
        (seals.from_yaml, seals.to_yaml(CONFIG), CONFIG),
    ],
)
def test_no_flipped_bit_and_no_cut_changes_what_is_read(
    read: Callable[[str], dict[str, Any]], written: str, expected: dict[str, object]
) -> None:
    data = written.encode()
    damaged = [data[:length] for length in range(len(data) - 1)]
    for index in range(len(data)):
        damaged += [bytes([*data[:index], data[index] ^ bit, *data[index + 1 :]]) for bit in (1, 4)]
    refused = 0
    for each in damaged:
        try:
            found = read(each.decode("utf-8"))
        except ValueError:
            refused += 1
            continue
        # What has hit the digest's own name, or blanks, has changed nothing else.
        assert {key: found[key] for key in expected} == expected, each
    assert refused > len(damaged) * 0.7


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "{", "\x00", '"a"', "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must hold|not valid"):
        seals.from_yaml(text)
    with pytest.raises(ValueError, match=r"must hold|not valid|too deeply"):
        seals.from_json(text)


@pytest.mark.parametrize("text", ["a: 2001-99-99", "1: {}", "a: [1]", "a: {1: 2}", "? [x]\n: y"])
def test_yaml_that_is_no_mapping_of_mappings_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must hold|not valid"):
        seals.from_yaml(text)


def test_arrays_are_read_as_they_were_written_and_no_flipped_bit_changes_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "arrays.safetensors"
    seals.save_arrays(path, ARRAYS, {"version": "7"})
    written = path.read_bytes()
    seals.save_arrays(path, ARRAYS, {"version": "7"})
    assert path.read_bytes() == written
    found, about = seals.load_arrays(path)
    assert about == {"version": "7"}
    refused = 0
    for index in range(len(written)):
        path.write_bytes(bytes([*written[:index], written[index] ^ 4, *written[index + 1 :]]))
        try:
            other, _ = seals.load_arrays(path)
        except (OSError, ValueError, SafetensorError):
            refused += 1
            continue
        assert all(np.array_equal(other[key], each) for key, each in ARRAYS.items()), index
    assert refused > 0.8 * len(written)
    assert all(np.array_equal(found[key], each) for key, each in ARRAYS.items())
    # As version 0.1 wrote them.
    safetensors.numpy.save_file({"b": ARRAYS["b"]}, path)
    assert seals.load_arrays(path) == ({"b": ARRAYS["b"]}, {})


def test_the_prefix_of_a_file_that_grows_is_that_of_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"one\ntwo\n")
    grown = seals.Prefix.of(path)
    grown.add(b"three\n")
    with path.open("ab") as file:
        file.write(b"three\n")
    assert (grown.size, grown.digest) == (14, seals.digest(b"one\ntwo\nthree\n"))
    assert seals.Prefix.of(path, 4).digest == seals.digest(b"one\n")
    assert seals.Prefix.of(path, 99).size == 14


def test_a_flipped_byte_of_the_line_with_the_digest_is_told_too() -> None:
    text = seals.to_yaml({"pretrain": {"seed": 1}})
    for index in range(text.index("\n") + 1):
        for bit in (1, 4, 64):
            flipped = text[:index] + chr(ord(text[index]) ^ bit) + text[index + 1 :]
            try:
                assert seals.from_yaml(flipped) == {"pretrain": {"seed": 1}}
                assert seals.without_seal(flipped) == seals.without_seal(text)
            except ValueError:
                continue
