"""NumPy's `.npz` files become Minari datasets: plain arrays of transitions, and OGBench's files."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from iqlft.datasets import storage
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
"""What OGBench's files have instead of rewards and next observations."""


def is_npz(path: Path) -> bool:
    """Whether a file is read here."""
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
        path: with the arrays of `create_from_arrays` by their names, or one of OGBench's.
        environment: Gymnasium id of what it was recorded in; for OGBench's a single task's, such as
            `ogbench:antmaze-large-singletask-task1-v0`; None: nobody can make it.
        dataset_id: Minari id of the result; by default after the file, in the namespace `imported`.
        force: replaces a dataset of the same id; it stays until the new one is complete.

    Raises:
        DatasetError: the file is none of these, a row does not follow the one before, the id cannot
            be used, or the dataset exists.
        EnvironmentMismatchError: the environment is unknown.
    """
    content = _read(path)
    if content.keys() >= _OGBENCH and "rewards" not in content:
        content = _relabelled(path, environment)
    if missing := [name for name in Arrays._fields if name not in content]:
        raise DatasetError(
            f"{path} has no array {' and no '.join(missing)}; it holds {', '.join(content)}. A row "
            f"of each is a transition: {', '.join(Arrays._fields)}."
        )
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
    write_arrays(
        dataset_id,
        arrays,
        environment,
        (content.get("action_low", -1), content.get("action_high", 1)),
        description=f"Imported from {path.name} (sha256 {sha256}).",
        origin={"file": path.name, "file_sha256": sha256, "report": report},
        force=force,
    )
    return ImportedDataset(dataset_id, storage.dataset_path(dataset_id), report)


def _read(path: Path) -> Content:
    """The arrays of a file; those that would run code when they are read are refused."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"{path} cannot be read ({reason}); give a file that numpy.savez has written, of plain "
            "arrays of numbers."
        ) from error


def _relabelled(path: Path, environment: str | None) -> Content:
    """An OGBench file as transitions, with the rewards of one task, by OGBench's own functions.

    As OGBench has it, a transition's reward is that of the state in which it begins, -1 where the
    task is not achieved there and 0 with an end where it is (of several parts, as many below 0 as
    are missing); what follows such an end is data too.
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
