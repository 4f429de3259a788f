"""Lists the datasets on this machine, and downloads others."""

from __future__ import annotations

from dataclasses import dataclass

import minari
from minari.dataset.minari_dataset import DATASET_ID_RE

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.metadata import read_metadata
from iqlft.datasets.storage import dataset_path, local_ids, require_free
from iqlft_workers.files import file_stats


@dataclass(frozen=True)
class LocalDataset:
    """A dataset on this machine.

    Attributes:
        id: Minari id.
        transitions: number of transitions.
        episodes: number of episodes.
        size_bytes: total size of its files.
        damage: why it cannot be read; empty if it can.
    """

    id: str
    transitions: int
    episodes: int
    size_bytes: int
    damage: str = ""


def list_local() -> list[LocalDataset]:
    """All datasets in the local Minari folder, by id."""
    return [_local(dataset_id) for dataset_id in local_ids()]


def _local(dataset_id: str) -> LocalDataset:
    path, sizes, damage = dataset_path(dataset_id), (0, 0), ""
    size = sum(each.st_size for each in file_stats(path))
    try:
        metadata = read_metadata(dataset_id)
        sizes = metadata["total_steps"], metadata["total_episodes"]
    except DatasetError as error:
        damage = str(error)
    return LocalDataset(dataset_id, *sizes, size, damage)


def download(dataset_id: str, *, force: bool = False) -> None:
    """Downloads a dataset from Farama's server (or `MINARI_REMOTE`).

    Args:
        dataset_id: such as `D4RL/antmaze/umaze-v1`.
        force: replaces a local dataset of the same id.

    Raises:
        DatasetError: it is here already, the `hf` extra is missing, there is no network, or the
            server has no such dataset.
    """
    if not DATASET_ID_RE.fullmatch(dataset_id):
        raise DatasetError(f"{dataset_id!r} is no Minari id; one looks like D4RL/antmaze/umaze-v1.")
    require_free(dataset_id, force=force)
    try:
        minari.download_dataset(dataset_id, force_download=force)
    except ImportError as error:
        raise DatasetError(
            f"Downloading {dataset_id} needs more of Minari: pip install 'minari[hf]'."
        ) from error
    except Exception as error:  # each remote raises network errors of its own
        raise DatasetError(
            f"{dataset_id} could not be downloaded ({type(error).__name__}: {error}); "
            "check the id and the network, or set MINARI_REMOTE to a server that you can reach."
        ) from error
