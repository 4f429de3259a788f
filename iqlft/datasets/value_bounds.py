"""Bounds of the values that workers may send: what a dataset holds, and generously more.

A simulation that explodes, or a peer that means harm, sends numbers that are finite and end the
training all the same. What lies so far outside of all that the dataset holds is no observation and
no reward of the task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from iqlft.datasets.row_statistics import RowStatistics
    from iqlft_workers.transition import RowLayout, Transitions


class Range(NamedTuple):
    """Least and greatest of some numbers."""

    least: float
    greatest: float


def widened(found: Range, factor: float) -> Range:
    """A range with room around it.

    Args:
        found: least and greatest value.
        factor: the room on either side, in widths of the range; a width is at least 1, and at least
            the greatest magnitude: a dataset without a single success knows one reward only.
    """
    room = factor * max(found.greatest - found.least, abs(found.least), abs(found.greatest), 1.0)
    return Range(found.least - room, found.greatest + room)


class ValueBounds(NamedTuple):
    """Between which values lie.

    Attributes:
        observations: of every value of an observation, for one that hardly moves in the dataset may
            move online.
        rewards: after the task's reward transform.
    """

    observations: Range
    rewards: Range

    @classmethod
    def of_dataset(
        cls, statistics: RowStatistics, layout: RowLayout, factor: float
    ) -> ValueBounds | None:
        """The bounds around a dataset.

        Args:
            statistics: of its rows.
            layout: where a row's fields stand.
            factor: see `widened`; 0: no bounds.

        Returns:
            The bounds; None where there is nothing to go by.
        """
        ends = np.stack([statistics.least, statistics.greatest])
        if not factor or not np.isfinite(ends).all():
            return None
        observations, _, rewards, next_observations, *_ = layout.unpack(ends)
        both = np.concatenate([observations, next_observations], axis=1)
        return cls(widened(extremes(both), factor), widened(extremes(rewards), factor))

    def violation(self, transitions: Transitions) -> str:
        """What lies outside, in a sentence; empty where nothing does.

        Args:
            transitions: whose values are finite.
        """
        names = ("observations", "next_observations", "rewards")
        return self.violation_of({name: extremes(getattr(transitions, name)) for name in names})

    def violation_of(self, found: Mapping[str, Range]) -> str:
        """The same of the least and the greatest values of transitions, by their fields."""
        for name, bounds in (
            ("observations", self.observations),
            ("next_observations", self.observations),
            ("rewards", self.rewards),
        ):
            least, greatest = found[name]
            if not bounds.least <= least <= greatest <= bounds.greatest:
                # The one that is farther from the middle of the bounds.
                middle = (bounds.least + bounds.greatest) / 2
                value = greatest if greatest - middle > middle - least else least
                return (
                    f"{name} hold {value:.4g}, far outside of the dataset's range (allowed are "
                    f"{bounds.least:.4g} to {bounds.greatest:.4g}, see --value-bounds)"
                )
        return ""


def extremes(values: NDArray[np.float32]) -> Range:
    """The least and the greatest of some values; not finite where one of them is not."""
    return Range(float(values.min()), float(values.max()))
