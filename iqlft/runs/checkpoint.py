"""Checkpoints: folders of safetensors and JSON, renamed into place and never overwritten.

checkpoints/000050000/tensors.safetensors   parameters, targets, moments, random streams
                      state.json            counters, positions in the run's files
                      manifest.json         blake2b of the two
checkpoints/last                            the name of the newest one
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError

from iqlft.nn.adam import STATE_PREFIX
from iqlft.runs.errors import command
from iqlft_workers.errors import UserError
from iqlft_workers.files import (
    TEMPORARY,
    as_os_error,
    new_folder,
    remedy,
    sync,
    unwritten,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

TENSORS, STATE, MANIFEST, LAST = "tensors.safetensors", "state.json", "manifest.json", "last"
"""The files of a checkpoint, and the one beside the checkpoints that names the newest."""
ALGORITHM_PREFIX = "algorithm."
"""Prefix of the names of an algorithm's tensors; others belong to the replay or to evaluations."""
_NAME = re.compile(r"\d{9,}(-\d{3,})?")
"""Pattern of names: the updates, and a number if a checkpoint of that name existed already."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or does not fit."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        tensors: by name, on the CPU.
        state: JSON data.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(
    folder: Path,
    updates: int,
    checkpoint: Checkpoint,
    *,
    keep: bool = False,
    kept: int | None = None,
) -> Path:
    """Writes a checkpoint atomically and makes it the last one.

    Args:
        folder: the run's `checkpoints/`.
        updates: updates so far; they name the checkpoint.
        checkpoint: what to write.
        keep: whether it is never removed to make room, as at the end of pretraining.
        kept: how many checkpoints without `keep` stay, counting this one; None: all.

    Raises:
        CheckpointError: the disk is full or the folder not writable; the last one still loads.
    """
    name = _free_name(folder, updates)
    needed = sum(each.nbytes for each in checkpoint.tensors.values())
    for left in folder.glob(TEMPORARY):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with new_folder(folder / name) as temporary:
            _write(temporary, checkpoint, keep=keep)
        make_last(folder, name)
    except (OSError, SafetensorError) as error:
        cause = as_os_error(error)
        raise CheckpointError(
            f"The checkpoint {unwritten(cause, folder / name, needed_bytes=needed)}"
            f"{_way_on(cause, folder)}"
        ) from error
    if kept is not None:
        _prune(folder, name, kept)
    return folder / name


def _way_on(error: OSError, folder: Path) -> str:
    if (folder / LAST).is_file():
        way = f"then continue with {command('resume', folder.parent)}"
        return f"; the previous one is intact: {remedy(error)}, {way}."
    return f"; it is the first one: {remedy(error)}, remove {folder.parent}, and begin anew."


def _write(folder: Path, checkpoint: Checkpoint, *, keep: bool) -> None:
    tensors = {key: each.detach().contiguous().cpu() for key, each in checkpoint.tensors.items()}
    safetensors.torch.save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps({**checkpoint.state, "keep": keep}, indent=1))
    hashes = {each: _digest(folder / each) for each in (TENSORS, STATE)}
    (folder / MANIFEST).write_text(json.dumps(hashes, indent=1))
    for path in folder.iterdir():
        sync(path)


def load(folder: Path, name: str | None = None) -> Checkpoint:
    """Reads a checkpoint, the last one unless named.

    Raises:
        CheckpointError: there is none, or a file is missing or differs from the manifest.
    """
    name = name or last(folder)
    require_whole(folder, name)
    path = folder / name
    try:
        tensors = safetensors.torch.load_file(path / TENSORS)
        return _upgraded(Checkpoint(tensors, json.loads((path / STATE).read_text())))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _unreadable(folder, name, error) from error


def require_whole(folder: Path, name: str) -> None:
    """Refuses a checkpoint that is not as it was written; its tensors are not loaded.

    Raises:
        CheckpointError: a file is missing or differs from the manifest.
    """
    try:
        damaged = _damaged(folder / name)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name, error) from error
    if damaged:
        raise CheckpointError(f"{damaged[0]} is damaged{_advice(folder, name)}")


def _unreadable(folder: Path, name: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {folder / name} cannot be read ({error}){_advice(folder, name)}"
    )


def last(folder: Path) -> str:
    """The name that the file `last` holds.

    Raises:
        CheckpointError: the file is missing or damaged, or names no checkpoint that is here.
    """
    path, found = folder / LAST, names(folder)
    try:
        name = path.read_text(encoding="utf-8").strip()
        reason = f"{path} names no checkpoint that is here"
    except (OSError, ValueError) as error:
        name, reason = "", f"{path} cannot be read ({error})"
    if name in found or (_NAME.fullmatch(name) and (folder / name).is_dir()):
        return name
    if not found:
        raise CheckpointError(
            f"{folder} has no checkpoint yet, so there is nothing to continue; remove "
            f"{folder.parent}, and begin anew."
        )
    raise CheckpointError(
        f"{reason}; there are {', '.join(found)}: write one of these names into it, or let "
        "`iqlft resume` take the newest that is whole."
    )


def newest_whole(folder: Path) -> str:
    """Name of the newest checkpoint that is not damaged.

    Raises:
        CheckpointError: there is none.
    """
    if whole := [name for name in names(folder) if _is_whole(folder / name)]:
        return whole[-1]
    raise CheckpointError(f"{folder} has no whole checkpoint, so the run must be started anew.")


def _is_whole(path: Path) -> bool:
    try:
        return not _damaged(path)
    except (OSError, ValueError):
        return False


def _damaged(path: Path, files: Sequence[str] = (TENSORS, STATE)) -> list[Path]:
    """Those of some files of a checkpoint that differ from its manifest.

    Raises:
        OSError: a file cannot be read.
        ValueError: the manifest is not a JSON object.
    """
    hashes = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(hashes, dict):
        raise ValueError(f"{MANIFEST} holds no hashes")
    return [path / each for each in files if _digest(path / each) != hashes.get(each)]


def algorithm_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The algorithm's part of a checkpoint's tensors, by their own names."""
    return {
        key.removeprefix(ALGORITHM_PREFIX): each
        for key, each in tensors.items()
        if key.startswith(ALGORITHM_PREFIX)
    }


def networks_alone(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint without what only further updates need; itself if there is nothing to drop."""
    tensors = {
        ALGORITHM_PREFIX + key: each
        for key, each in algorithm_tensors(checkpoint.tensors).items()
        if not key.startswith(STATE_PREFIX)
    }
    if tensors.keys() == checkpoint.tensors.keys():
        return checkpoint
    return Checkpoint(tensors, {**checkpoint.state, "evaluation": []})


def _upgraded(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of version 0.1 in today's form: the algorithm's tensors lacked the phase."""
    tensors, state = checkpoint
    if ALGORITHM_PREFIX + "online" in tensors:
        return checkpoint
    renamed = {key.replace("algorithm.dropout.", ALGORITHM_PREFIX): t for key, t in tensors.items()}
    renamed[ALGORITHM_PREFIX + "online"] = torch.tensor(state["phase"] == "online")
    return Checkpoint(renamed, state)


@contextmanager
def fitting(run_folder: Path) -> Iterator[None]:
    """Context in which tensors that are missing or of another shape raise `CheckpointError`."""
    try:
        yield
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The checkpoint in {run_folder} does not fit its configuration ({error}); "
            "was config.yaml edited, or is it of another version?"
        ) from error


def read_state(folder: Path, name: str) -> dict[str, Any]:
    """The JSON part of a checkpoint alone.

    Raises:
        CheckpointError: it cannot be read, or differs from the manifest.
    """
    path = folder / name / STATE
    try:
        if _damaged(path.parent, [STATE]):
            raise CheckpointError(f"{path} is damaged{_advice(folder, name)}")
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}){_advice(folder, name)}") from error
    return state


def for_good(folder: Path, name: str) -> str:
    """Name of a checkpoint with the content of this one that is never removed to make room."""
    if read_state(folder, name).get("keep", False):
        return name
    return save(folder, updates_of(name), load(folder, name), keep=True).name


def make_last(folder: Path, name: str) -> None:
    """Makes a checkpoint the one that `load` takes by default."""
    write_atomically(folder / LAST, name)


def names(folder: Path) -> list[str]:
    """Names of the complete checkpoints, oldest first."""
    found = (path.parent.name for path in folder.glob(f"[0-9]*/{MANIFEST}"))
    return sorted(name for name in found if _NAME.fullmatch(name))


def rewind(folder: Path, updates: int) -> None:
    """If `last` is later than `updates`, goes back to the checkpoint there; removes later ones."""
    beyond = [name for name in names(folder) if updates_of(name) > updates]
    if last(folder) in beyond:
        make_last(folder, name_at(folder, updates))
        for name in beyond:
            shutil.rmtree(folder / name)


def names_at(folder: Path, updates: int) -> list[str]:
    """Names of the complete checkpoints after `updates` updates, oldest first."""
    return [name for name in names(folder) if updates_of(name) == updates]


def updates_of(name: str) -> int:
    """The updates that a checkpoint is named after."""
    return int(name.split("-", maxsplit=1)[0])


def name_at(folder: Path, updates: int) -> str:
    """Name of the newest checkpoint after `updates` updates.

    Raises:
        CheckpointError: there is none.
    """
    found = names_at(folder, updates)
    if not found:
        raise CheckpointError(
            f"{folder} has no checkpoint after {updates:,} updates, where the runs beside it have "
            "their last one; resume this run alone."
        )
    return found[-1]


def _advice(folder: Path, name: str) -> str:
    others = [each for each in names(folder) if each != name and _is_whole(folder / each)]
    if not others:
        return "; there is no other whole checkpoint, so the run must be started anew."
    return f"; to continue from the one before, write {others[-1]} into {folder / LAST}."


def _free_name(folder: Path, updates: int) -> str:
    """A name that sorts behind those of the checkpoints after as many updates."""
    name = f"{updates:09d}"
    taken = [path.name for path in folder.glob(f"{name}*") if _NAME.fullmatch(path.name)]
    suffixes = [int(each.partition("-")[2] or 0) for each in taken if updates_of(each) == updates]
    return f"{name}-{max(suffixes) + 1:03d}" if suffixes else name


def _prune(folder: Path, newest: str, kept: int) -> None:
    removable = []
    for name in names(folder):
        try:
            keep = read_state(folder, name).get("keep", False)
        except CheckpointError:
            keep = True  # A damaged one is left for the user to examine and remove.
        if not keep and name != newest:
            removable.append(name)
    for name in removable[: max(0, len(removable) - (kept - 1))]:
        shutil.rmtree(folder / name, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
