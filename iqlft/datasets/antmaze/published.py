"""The published datasets, which anyone can reproduce bit by bit, and cite.

They are 1M transitions of each task with seed 0 (100,000 for the demonstration), with the gait and
the noise of their version. `published.json` holds hashes of their content, not of their files,
which other releases of HDF5 may write differently.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqlft.datasets.reading import read_episodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import minari

    from iqlft.datasets.reading import RecordedEpisode

_HASHES = Path(__file__).with_name("published.json")
OBSERVATION_KEYS = ("achieved_goal", "desired_goal", "observation")
"""The keys of a generated dataset's observations."""


class ContentHash:
    """blake2b of generated episodes: their observations, actions, rewards and end flags."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, episode: RecordedEpisode) -> None:
        """Adds the next episode."""
        observations = [episode.observations[key] for key in OBSERVATION_KEYS]
        for array in (*observations, *episode[1:]):
            self._hash.update(np.ascontiguousarray(array).data)

    @property
    def digest(self) -> str:
        """The hash in hexadecimal."""
        return self._hash.hexdigest()


def published_hashes() -> Mapping[str, str]:
    """The published datasets' hashes by their Minari ids."""
    hashes: dict[str, str] = json.loads(_HASHES.read_text(encoding="utf-8"))
    return hashes


def is_published(dataset_id: str, digest: str) -> bool | None:
    """Whether a dataset is the published one of its id; None if none of this id is published."""
    hashes = published_hashes()
    return hashes[dataset_id] == digest if dataset_id in hashes else None


def find_out(dataset: minari.MinariDataset) -> bool | None:
    """Like `is_published`, for a dataset that is read only if its id is published."""
    if dataset.id not in published_hashes():
        return None
    return is_published(dataset.id, content_digest(dataset))


def content_digest(dataset: minari.MinariDataset) -> str:
    """Reads a generated dataset and returns the digest of its `ContentHash`."""
    content = ContentHash()
    for episode in read_episodes(dataset, OBSERVATION_KEYS):
        content.add(episode)
    return content.digest
