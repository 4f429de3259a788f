"""Where Minari keeps its data, and how a dataset gets there complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from minari.dataset.minari_dataset import DATASET_ID_RE, parse_dataset_id
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage.datasets_root_dir import get_dataset_path

from iqlft.datasets.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK_FOLDER = ".iqlft-work"
"""Folder beside the datasets for unfinished work; hidden, so that Minari does not list it."""


def dataset_path(dataset_id: str) -> Path:
    """Folder of a dataset, whether it exists or not."""
    return Path(get_dataset_path(dataset_id))


def local_ids() -> list[str]:
    """The ids of all sets in the local Minari folder, damaged ones included."""
    root = dataset_path("")
    folders = sorted(each.parent for each in root.glob("**/data") if each.is_dir())
    ids = (folder.relative_to(root).as_posix() for folder in folders)
    return [each for each in ids if DATASET_ID_RE.fullmatch(each)]  # none of unfinished work


def work_folder(name: str) -> Path:
    """Makes and returns a folder for unfinished work, on the file system of the datasets.

    Raises:
        DatasetError: the folder cannot be written.
    """
    folder = dataset_path("") / WORK_FOLDER / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(
            f"Cannot write to {folder.parent}: {error.strerror}; "
            "set MINARI_DATASETS_PATH to a folder that you may write to."
        ) from error
    return folder


def require_absent(dataset_id: str) -> None:
    """Raises `DatasetError` when the dataset exists."""
    if dataset_path(dataset_id).exists():
        raise DatasetError(
            f"The dataset {dataset_id} exists already at {dataset_path(dataset_id)}; "
            "add --force to replace it, or use it as it is."
        )


@contextlib.contextmanager
def staged(dataset_id: str, work: Path) -> Iterator[None]:
    """Within it, Minari creates `dataset_id` aside; at its end the dataset moves into place.

    An existing dataset of that id is replaced at the very end. When the body raises, or the process
    dies, nothing is seen where datasets are looked for.

    Args:
        dataset_id: what the body creates.
        work: a folder on the same file system as the datasets.
    """
    final = dataset_path(dataset_id)
    with tempfile.TemporaryDirectory(prefix="minari-", dir=work) as stage:
        with _minari_root(stage):
            yield
        namespace = parse_dataset_id(dataset_id)[0]
        if namespace is not None and namespace not in list_local_namespaces():
            create_namespace(namespace)
        if final.exists():
            final.replace(Path(stage) / "replaced")
        (Path(stage) / dataset_id).replace(final)


@contextlib.contextmanager
def _minari_root(root: str) -> Iterator[None]:
    """Minari reads its root from the environment at every call and takes it from nowhere else."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = root
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def remove_work(folder: Path) -> None:
    """Removes a folder of unfinished work, and the parent when it is empty."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
