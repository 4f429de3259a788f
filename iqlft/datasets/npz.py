"""Imports NumPy's `.npz` files as Minari datasets: plain arrays, and OGBench's files."""

from __future__ import annotations

import difflib
import hashlib
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from iqlft.datasets.arrays import Arrays, write_arrays
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.imported import ImportedDataset, default_id
from iqlft_workers.environment import EnvironmentSpec, make

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from iqlft.datasets.imported import Report

    Content = Mapping[str, NDArray[Any]]

_OGBENCH = {"observations", "actions", "terminals"}
"""Arrays by which a file without rewards is known as one of OGBench's."""
_BOUNDS = ("action_low", "action_high")
_KNOWN = {*Arrays._fields, *_BOUNDS, *_OGBENCH}
_NONE = "is no .npz file, or a damaged one; give one that numpy.savez has written"


def is_npz(path: Path) -> bool:
    """Whether a file is, or claims to be, an `.npz` file."""
    return path.suffix == ".npz" or zipfile.is_zipfile(path)


def import_npz(
    path: Path,
    *,
    environment: str | None = None,
    dataset_id: str | None = None,
    force: bool = False,
) -> ImportedDataset:
    """Turns an `.npz` file into a Minari dataset.

    Args:
        path: a file with the arrays of `create_from_arrays` by their names, or one of OGBench's.
        environment: Gymnasium id of the environment of the recording; for OGBench's files that of a
            single task, such as `ogbench:antmaze-large-singletask-task1-v0`; None: it cannot be
            made.
        dataset_id: Minari id of the result; by default named after the file, in the namespace
            `imported`.
        force: replaces a dataset of the same id; it stays until the new one is complete.

    Raises:
        DatasetError: the file is none of these, a row does not follow from the previous row, the id
            cannot be used, or the dataset exists.
        EnvironmentMismatchError: the environment is unknown.
    """
    content, names = _read(path)
    notes: tuple[str, ...] = ()
    if content.keys() >= _OGBENCH and "rewards" not in content:
        content = _relabelled(path, environment)
    else:
        notes = _unused(path, names, bounds=environment is None)
    arrays = Arrays.of(content)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    dataset_id = dataset_id or default_id(path)
    report: Report = {
        "transitions": len(arrays.rewards),
        "episodes": len(arrays.ends),
        "terminated": int(arrays.terminated.sum()),
        "truncated": int((arrays.truncated & ~arrays.terminated).sum()),
    }
    try:
        write_arrays(
            dataset_id,
            arrays,
            environment,
            (content.get("action_low", -1), content.get("action_high", 1)),
            description=f"Imported from {path.name} (sha256 {sha256}).",
            origin={"file": path.name, "file_sha256": sha256, "report": report},
            force=force,
        )
    except DatasetError as error:
        # The notes may tell why: a mistyped action_low or action_high is not used.
        raise DatasetError(" ".join((str(error), *notes))) from error
    return ImportedDataset(dataset_id, report, notes)


def _unused(path: Path, names: list[str], *, bounds: bool) -> tuple[str, ...]:
    """A note about arrays that are not used, if there are any.

    Raises:
        DatasetError: a required array is missing.
    """
    used = (*Arrays._fields, *(_BOUNDS if bounds else ()))
    surplus = [name for name in names if name not in used]
    if missing := [name for name in Arrays._fields if name not in names]:
        hinted = [f"{name}{_meant(name, surplus)}" for name in missing]
        raise DatasetError(
            f"{path} has no array {' and no '.join(hinted)}; it holds {', '.join(names)}. A row "
            f"of each is a transition: {', '.join(Arrays._fields)}."
        )
    absent = [name for name in used if name not in names]
    told = [f"{name}{_meant(name, absent)}" for name in surplus]
    return (f"Not used of the file: {', '.join(told)}.",) if told else ()


def _meant(name: str, names: list[str]) -> str:
    # The cutoff is low enough to get from obs to observations.
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f" (did you mean {near[0]}?)" if near else ""


def _read(path: Path) -> tuple[Content, list[str]]:
    """The known arrays of a file, and the names of all its arrays.

    Arrays that would run code when read are refused.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DatasetError(f"{path} {_NONE}.")
        with np.load(path, allow_pickle=False) as arrays:
            used = {name: _array(path, arrays, name) for name in arrays.files if name in _KNOWN}
            return used, arrays.files
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # NumPy passes on whatever reading a foreign file raises
        raise DatasetError(f"{path} {_NONE} ({error}).") from error


def _array(path: Path, arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    try:
        return arrays[name]
    except ValueError as error:
        # NumPy's advice is allow_pickle, which would let a file from elsewhere run code.
        if "allow_pickle" not in str(error):
            raise
        raise DatasetError(
            f"{name} in {path} holds objects, not numbers; write it as a plain array of numbers."
        ) from error


def _relabelled(path: Path, environment: str | None) -> Content:
    """An OGBench file as transitions, with the rewards of one task, by OGBench's own functions.

    As in OGBench, a transition's reward depends on the state in which it begins: 0, and terminated,
    if the task is achieved there, else -1, or for a task of several parts minus the number of those
    not achieved. The transitions after such an end are data too.
    """
    try:
        from ogbench.relabel_utils import relabel_dataset  # noqa: PLC0415  # not a dependency
        from ogbench.utils import load_dataset  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            f"{path} is of OGBench's form, whose tasks come with its package, which is not here "
            f"({error}); install it: pip install ogbench."
        ) from error
    without = DatasetError(
        f"{path} is of OGBench's form, which has no rewards; name one of its single tasks, whose "
        "rewards it then gets: --environment ogbench:antmaze-large-singletask-v0 or its like."
    )
    if not environment:
        raise without
    with closing(make(EnvironmentSpec(environment, trust=True))) as made:
        if getattr(made.unwrapped, "_reward_task_id", None) is None:
            raise without
        dataset: dict[str, Any] = load_dataset(str(path), add_info=True)
        relabel_dataset(made.spec.id, made, dataset)  # type: ignore[union-attr]
    ends = dataset["terminals"].astype(bool)
    return dataset | {"terminated": dataset["masks"] == 0, "truncated": ends}
