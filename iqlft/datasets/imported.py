"""What all imports of a user's files share: the dataset's id, and a report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minari.dataset.minari_dataset import DATASET_ID_RE

from iqlft.datasets.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

Report = dict[str, int | float]
"""Measurements by name: counts are integers; shares and metres are floats."""
RESERVED = ("D4RL", "iqlft")
"""Namespaces of official and regenerated datasets, which imported ones may not use."""


@dataclass(frozen=True)
class ImportedDataset:
    """The dataset made from a file.

    Attributes:
        id: Minari id.
        report: measurements of the file, and of the episodes made from it.
        notes: further sentences about the file, for the user.
    """

    id: str
    report: Report
    notes: tuple[str, ...] = ()


def default_id(path: Path) -> str:
    """Minari id made from a file's name, in the namespace `imported`; adds `-v0` if needed."""
    name = re.sub(r"[^-\w]+", "_", path.stem)
    return f"imported/{name}" if re.search(r"-v\d+$", name) else f"imported/{name}-v0"


def check_id(dataset_id: str) -> None:
    """Raises `DatasetError` unless a user's dataset may have this id."""
    match = DATASET_ID_RE.fullmatch(dataset_id)
    if match is None or match["version"] is None:
        raise DatasetError(
            f"{dataset_id!r} is no Minari id: that is a name of letters, digits, - and _ with -v "
            "and a number at its end, and a namespace before its slash has two characters or more; "
            "one looks like imported/antmaze/medium-play-v0."
        )
    if "data" in dataset_id.split("/"):
        raise DatasetError(
            f"{dataset_id} has a part that is called data, as the folder of a dataset's files is; "
            "choose another id."
        )
    if dataset_id.partition("/")[0] in RESERVED:
        raise DatasetError(
            f"{dataset_id} would be taken for an official or a regenerated dataset; choose an id "
            f"that begins with neither {' nor '.join(RESERVED)}."
        )
