"""Minari's folder of datasets, and how a dataset is put there completely or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from minari.dataset.minari_dataset import DATASET_ID_RE, parse_dataset_id
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage.datasets_root_dir import get_dataset_path

from iqlft.datasets.errors import DatasetError
from iqlft_workers.files import outermost

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

WORK_FOLDER = ".iqlft-work"
"""Folder beside the datasets for unfinished work; hidden, so that Minari does not list it."""
_NAMESPACE = "namespace_metadata.json"
"""Minari's file that marks a namespace folder rather than a dataset."""
_LEFT_SECONDS = 24 * 3600
"""Age from which unfinished work is taken to be left over from a killed process."""


def dataset_path(dataset_id: str) -> Path:
    """Folder of a dataset, whether it exists or not."""
    return Path(get_dataset_path(dataset_id))


def local_ids() -> list[str]:
    """The ids of all datasets in the local Minari folder, damaged ones included."""
    root = dataset_path("")

    def is_dataset(folder: Path, names: Collection[str]) -> bool:
        return "data" in names and not (folder / "data" / _NAMESPACE).exists()

    # As Minari finds them.
    ids = (folder.relative_to(root).as_posix() for folder in sorted(outermost(root, is_dataset)))
    return [each for each in ids if DATASET_ID_RE.fullmatch(each)]


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


@contextlib.contextmanager
def own_work_folder() -> Iterator[Path]:
    """A folder for this process's unfinished work, on the file system of the datasets.

    It is removed at the end; if the process is killed, by another one at least a day later.

    Raises:
        DatasetError: the folder cannot be written.
    """
    folder = work_folder(f"own-{secrets.token_hex(8)}")
    for each in folder.parent.glob("own-*"):
        with contextlib.suppress(OSError):
            if each.stat().st_mtime < time.time() - _LEFT_SECONDS:
                shutil.rmtree(each)
    try:
        yield folder
    finally:
        remove_work(folder)


def require_free(dataset_id: str, *, force: bool) -> None:
    """Checks that a dataset may be put in its place.

    Args:
        dataset_id: Minari id.
        force: whether an existing dataset may be replaced.

    Raises:
        DatasetError: there is one already and `force` is off, or the folder holds something else.
    """
    folder = dataset_path(dataset_id)
    if not folder.exists():
        return
    if others := sorted(each.name for each in folder.glob("*/") if each.name != "data"):
        raise DatasetError(
            f"{folder} is no dataset of its own: it holds {', '.join(others[:3])}"
            f"{', ...' if len(others) > 3 else ''}, which would be lost; choose another id."
        )
    if not force:
        raise DatasetError(
            f"The dataset {dataset_id} exists already at {folder}; "
            "add --force to replace it, or use it as it is."
        )


@contextlib.contextmanager
def staged(dataset_id: str, work: Path) -> Iterator[None]:
    """Has Minari create a dataset in a staging folder; at the end it is moved into place.

    An existing dataset of that id is replaced at the very end. If the body raises or the process
    dies, nothing appears in the folder of datasets.

    Args:
        dataset_id: the dataset that the body creates.
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
    """Sets Minari's root, which it reads from the environment at each call and nowhere else."""
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
    """Removes a folder of unfinished work, and its parent if that is empty then."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
