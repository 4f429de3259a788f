"""A checkpoint is there completely or not at all, and damage is noticed and explained."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    load,
    make_last,
    names,
    read_state,
    save,
)


def content(number: int) -> Checkpoint:
    """A checkpoint that says which one it is."""
    tensors = {
        "weights": torch.full((3, 2), float(number)).T,  # Not contiguous.
        "random_state": torch.arange(5, dtype=torch.uint8),
        "updates": torch.tensor(number),
        "algorithm.online": torch.tensor(False),
    }
    return Checkpoint(tensors, {"updates": number, "phase": "offline"})


def test_one_is_kept_for_good_under_a_name_that_sorts_last(tmp_path: Path) -> None:
    save(tmp_path, 5, content(5))
    save(tmp_path, 5, content(5))
    checkpoint.shutil.rmtree(tmp_path / "000000005")  # As in a copy of the second one alone.
    (tmp_path / "000000005-backup").mkdir()  # A user's.
    kept = checkpoint.for_good(tmp_path, "000000005-001")
    assert kept == "000000005-002"
    assert checkpoint.for_good(tmp_path, kept) == kept
    assert names(tmp_path) == ["000000005-001", kept]  # It is no reason to remove any.
    for number in (6, 7, 8):
        save(tmp_path, number, content(number), kept=2)
    assert names(tmp_path) == [kept, "000000007", "000000008"]
    assert load(tmp_path, kept).state == {**content(5).state, "keep": True}


def assert_is(saved: Checkpoint, number: int) -> None:
    expected = content(number)
    assert saved.tensors.keys() == expected.tensors.keys()
    for key, tensor in expected.tensors.items():
        assert torch.equal(saved.tensors[key], tensor)
        assert saved.tensors[key].dtype == tensor.dtype
    assert saved.state["updates"] == number


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    assert save(tmp_path, 50, content(50)) == tmp_path / "000000050"
    assert_is(load(tmp_path), 50)
    assert read_state(tmp_path, "000000050")["phase"] == "offline"


def test_the_last_one_is_loaded_unless_another_is_named(tmp_path: Path) -> None:
    for number in (10, 20):
        save(tmp_path, number, content(number))
    assert_is(load(tmp_path), 20)
    assert_is(load(tmp_path, "000000010"), 10)
    make_last(tmp_path, "000000010")
    assert_is(load(tmp_path), 10)


def test_as_many_are_kept_as_asked_for_and_those_that_are_marked(tmp_path: Path) -> None:
    for number in (10, 20, 30):
        save(tmp_path, number, content(number), keep=number == 20)
    assert len(names(tmp_path)) == 3
    for number in (40, 50):
        save(tmp_path, number, content(number), kept=2)
    assert names(tmp_path) == ["000000020", "000000040", "000000050"]
    assert not list(tmp_path.glob(".*"))


def test_a_second_one_of_the_same_step_stands_beside_the_first(tmp_path: Path) -> None:
    save(tmp_path, 10, content(10))
    assert save(tmp_path, 10, content(11), keep=True).name == "000000010-001"
    assert_is(load(tmp_path), 11)
    assert_is(load(tmp_path, "000000010"), 10)
    assert names(tmp_path) == ["000000010", "000000010-001"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_noticed_and_the_one_before_is_named(
    name: str, damage: str, tmp_path: Path
) -> None:
    for number in (10, 20):
        save(tmp_path, number, content(number))
    path = tmp_path / "000000020" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:-3])
    with pytest.raises(CheckpointError, match=r"continue from the one before, write 000000010"):
        load(tmp_path)
    make_last(tmp_path, "000000010")
    assert_is(load(tmp_path), 10)


def test_a_damaged_only_checkpoint_is_said_to_be_the_only_one(tmp_path: Path) -> None:
    path = save(tmp_path, 10, content(10)) / "state.json"
    path.write_text(path.read_text().replace("offline", "offlime"))
    with pytest.raises(CheckpointError, match=r"state.json is damaged; there is no other whole"):
        load(tmp_path)


def test_no_checkpoint_yet_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load(tmp_path)


def test_a_state_that_is_no_json_is_a_clear_error_and_is_not_removed(tmp_path: Path) -> None:
    save(tmp_path, 10, content(10))
    (tmp_path / "000000010" / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(tmp_path, "000000010")
    for number in (20, 30, 40):
        save(tmp_path, number, content(number), kept=2)
    assert names(tmp_path) == ["000000010", "000000030", "000000040"]


def full_disk(*_: Any, **__: Any) -> None:  # noqa: ANN401
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_at_call(number: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """The original function, which finds the disk full at one of its calls."""
    calls = iter(range(1, 100))

    def function(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if next(calls) == number:
            full_disk()
        return original(*arguments, **options)

    return function


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (safetensors.torch, "save_file", 1),
        (Path, "mkdir", 1),
        (Path, "write_text", 1),  # The state.
        (Path, "write_text", 2),  # The manifest.
        (Path, "write_text", 3),  # The file `last`, under its temporary name.
        (os, "fsync", 1),
        (Path, "rename", 1),
        (Path, "replace", 1),
    ],
)
def test_a_disk_that_fills_up_at_any_stage_leaves_the_last_one_loadable(
    owner: object, name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 10, content(10))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail_at_call(call, getattr(owner, name)))
        with pytest.raises(CheckpointError, match=r"No space left on device.*previous one is"):
            save(tmp_path, 20, content(20))
    assert_is(load(tmp_path), 10)
    assert "000000010" in names(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name[0] == "."]
    save(tmp_path, 30, content(30))
    assert_is(load(tmp_path), 30)


def test_a_killed_write_is_neither_loaded_nor_in_the_way(tmp_path: Path) -> None:
    save(tmp_path, 10, content(10))
    left = tmp_path / ".000000020.1234.tmp"
    left.mkdir()
    (left / "tensors.safetensors").write_bytes(b"half")
    assert_is(load(tmp_path), 10)
    assert names(tmp_path) == ["000000010"]
    save(tmp_path, 20, content(20))
    assert_is(load(tmp_path), 20)
    assert not left.exists()


def test_the_manifest_holds_the_hashes_of_both_files(tmp_path: Path) -> None:
    path = save(tmp_path, 10, content(10))
    hashes = json.loads((path / "manifest.json").read_text())
    assert hashes.keys() == {checkpoint.TENSORS, checkpoint.STATE}
    assert len(set(hashes.values())) == 2
