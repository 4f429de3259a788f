"""Minari datasets as one stream of float32 rows, each a transition.

Episodes are read one at a time and passed on in chunks, so that a dataset streams into the replay's
block and is never in memory twice.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, cast

import numpy as np

from iqlft.datasets.antmaze.published import (
    OBSERVATION_KEYS,
    ContentHash,
    is_published,
    published_hashes,
)
from iqlft.datasets.row_statistics import RowStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from iqlft.datasets.source import GoalMode, Source
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.transition import RowLayout


CHUNK_ROWS = 65_536
"""Most rows in a chunk."""


class OfflineDataset:
    """Minari datasets read one after another, and the environment that belongs to them.

    Args:
        ids: Minari ids.
        sources: the datasets, in the order of their ids.
        environment: spec of the environment for evaluation and fine-tuning.
        goal: the goal mode.
        num_episodes: number of recorded episodes.
        reference_scores: returns that score 0 and 100, or None.
        label: the data's name in figures and tables.
        notes: sentences that a user should see; the first reading of the data adds more.
        num_appended: how many of the last sources were appended; they affect neither normalisation
            nor the time limit.

    Attributes:
        ids: the Minari ids.
        id: the ids joined by ` + `.
        time_limit: steps after which the environment ends an episode; None: not known.
    """

    def __init__(
        self,
        ids: Sequence[str],
        sources: Sequence[Source],
        *,
        environment: EnvironmentSpec,
        goal: GoalMode,
        num_episodes: int,
        reference_scores: tuple[float, float] | None,
        label: str,
        notes: tuple[str, ...],
        num_appended: int = 0,
    ) -> None:
        self.ids = tuple(ids)
        self.id = " + ".join(ids)
        self._sources = sources
        self._num_own = len(sources) - num_appended
        self.environment = environment
        self.goal = goal
        self.num_episodes = num_episodes
        self.reference_scores = reference_scores
        self._label = label
        self._published: bool | None = None
        self.notes = notes
        self._statistics: RowStatistics | None = None
        self.time_limit: int | None = None

    def __repr__(self) -> str:
        return (
            f"<OfflineDataset {self.id}: {self.num_transitions:,} transitions in "
            f"{self.num_episodes:,} episodes, goal {self.goal}, of {self.environment.id}>"
        )

    @property
    def layout(self) -> RowLayout:
        """Where the fields are in a row."""
        return self._sources[0].layout

    @property
    def observation_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds of an observation, `(O,)` each."""
        return self._sources[0].observation_bounds

    @property
    def num_transitions(self) -> int:
        """N, the number of transitions."""
        return sum(each.num_transitions for each in self._sources)

    @property
    def longest_episode(self) -> int:
        """Steps of the longest recorded episode that was not appended; reads the data."""
        return max(each.longest_episode() for each in self._sources[: self._num_own])

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """Reads rows in chunks `(n, width)`, n <= `CHUNK_ROWS`; the next chunk overwrites the last.

        Raises:
            DatasetError: an episode does not have the right form, or some are missing.
        """
        chunk = np.empty((min(CHUNK_ROWS, self.num_transitions), self.layout.width), np.float32)
        statistics, filled = RowStatistics(self.layout.observation_dim), 0
        content = ContentHash() if self._can_be_published else None
        own = True
        for index, episode in self._episodes(content):
            if own and index >= self._num_own:
                own = False
                if filled:
                    statistics.add(chunk[:filled])
                    yield chunk[:filled]
                    filled = 0
                statistics.settle()
            rows = episode
            while len(rows):
                part = rows[: len(chunk) - filled]
                chunk[filled : filled + len(part)] = part
                filled, rows = filled + len(part), rows[len(part) :]
                if filled == len(chunk):
                    statistics.add(chunk)
                    yield chunk
                    filled = 0
        if filled:
            statistics.add(chunk[:filled])
            yield chunk[:filled]
        if self._statistics is None:
            self.notes += tuple(self._findings())
        self._statistics = statistics
        if content is not None:
            self._published = is_published(self.id, content.digest)

    def _episodes(self, content: ContentHash | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The rows of every episode, with the index of its source.

        An episode that ends in exactly the state in which the next one begins is also marked as
        truncated, for otherwise nothing in the rows would separate the two (`episode_ends`).
        """
        before: tuple[int, NDArray[np.float32]] | None = None
        for index, source in enumerate(self._sources):
            for rows in source.episodes(self.environment, content):
                if before is not None:
                    _, _, _, end, _, truncated, _ = self.layout.unpack(before[1][-1])
                    if np.array_equal(end, self.layout.unpack(rows[0])[0]):
                        truncated[...] = 1
                    yield before
                before = index, rows
        if before is not None:
            yield before

    def _findings(self) -> Iterator[str]:
        """Sentences about the data just read that a user should see."""
        found = [each.reading for each in self._sources]
        lengths = [steps for each in found for steps in each.lengths]
        recorded, useful = sum(lengths), sum(each.useful for each in found)
        if useful < recorded:
            verb = "are used" if self.num_transitions < recorded else "lead up to it"
            yield (
                f"In {1 - useful / recorded:.0%} of the {recorded:,} transitions the episode has "
                f"reached its goal before; {useful:,} {verb}."
            )
        # D4RL's episodes are one step longer than the limit, by design.
        if longer := sum(each > (self.time_limit or max(lengths)) + 1 for each in lengths):
            yield (
                f"{longer:,} of the {len(lengths):,} recorded episodes are longer, up to "
                f"{max(lengths):,} steps, than the {self.time_limit:,} after which "
                f"{self.environment.id} ends one: all their steps are learned from, while "
                "evaluations and new episodes end there; scores are those of the shorter ones."
            )
        if outside := sum(each.outside for each in found):
            yield (
                f"{outside:,} of the {recorded * self.layout.action_dim:,} recorded action values "
                f"lie outside of their bounds, {self._sources[0].action_range}; the nearest ones "
                "within are learned from, so they should be in the environment's units."
            )
        if torn := sum(each.torn for each in found):
            yield (
                f"{torn:,} of the {len(lengths):,} recorded episodes have an end before their last "
                "step. Where another episode begins behind it, the step between them never "
                "happened; record each as an episode of its own then."
            )

    @property
    def _can_be_published(self) -> bool:
        """Whether a dataset of this id is published, and all that its hash covers is read."""
        read = self._sources[0].needed_keys
        return self.id in published_hashes() and set(OBSERVATION_KEYS) <= {*read}

    @property
    def published(self) -> bool | None:
        """Whether this is the published dataset of its id; None if that cannot be determined."""
        _ = self.statistics
        return self._published

    @property
    def label(self) -> str:
        """The data's name in figures and tables."""
        return self._label + (", not the published set" if self.published is False else "")

    @property
    def statistics(self) -> RowStatistics:
        """Hash, mean and standard deviation from the last reading; reads the data if need be."""
        if self._statistics is None:
            collections.deque(self.chunks(), maxlen=0)
        return cast("RowStatistics", self._statistics)

    def rows(self) -> NDArray[np.float32]:
        """All rows in one array `(N, width)`, for datasets that fit in memory."""
        rows = np.empty((self.num_transitions, self.layout.width), np.float32)
        first = 0
        for chunk in self.chunks():
            rows[first : first + len(chunk)] = chunk
            first += len(chunk)
        return rows
