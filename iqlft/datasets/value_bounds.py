"""Bounds of the values that workers may send: the dataset's range and a generous margin.

An exploding simulation or a malicious peer can send numbers that are finite and still ruin the
training. Values that far outside the dataset's range cannot be observations or rewards of the task.
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
    """A range with a margin around it.

    Args:
        found: least and greatest value.
        factor: the margin on either side, in widths of the range. The width is taken as at least 1
            and at least the greatest magnitude, for a dataset without successes has a single
            reward.
    """
    room = factor * max(found.greatest - found.least, abs(found.least), abs(found.greatest), 1.0)
    return Range(found.least - room, found.greatest + room)


class ValueBounds(NamedTuple):
    """The ranges that values must lie in.

    Attributes:
        observations: one range for all values of an observation, because a value that hardly
            changes in the dataset may change online.
        rewards: range of rewards after the task's reward transform.
    """

    observations: Range
    rewards: Range

    @classmethod
    def of_dataset(
        cls, statistics: RowStatistics, layout: RowLayout, factor: float
    ) -> ValueBounds | None:
        """The bounds around a dataset.

        Args:
            statistics: of the dataset's rows.
            layout: where the fields are in a row.
            factor: see `widened`; 0: no bounds.

        Returns:
            The bounds; None if `factor` is 0 or the dataset's extremes are not finite.
        """
        ends = np.stack([statistics.least, statistics.greatest])
        if not factor or not np.isfinite(ends).all():
            return None
        observations, _, rewards, next_observations, *_ = layout.unpack(ends)
        both = np.concatenate([observations, next_observations], axis=1)
        return cls(widened(extremes(both), factor), widened(extremes(rewards), factor))

    def violation(self, transitions: Transitions) -> str:
        """A message about a value out of bounds; empty if there is none.

        Args:
            transitions: must hold finite values only.
        """
        names = ("observations", "next_observations", "rewards")
        return self.violation_of({name: extremes(getattr(transitions, name)) for name in names})

    def violation_of(self, found: Mapping[str, Range]) -> str:
        """Like `violation`, from the least and greatest values of each field."""
        for name, bounds in (
            ("observations", self.observations),
            ("next_observations", self.observations),
            ("rewards", self.rewards),
        ):
            least, greatest = found[name]
            if not bounds.least <= least <= greatest <= bounds.greatest:
                # Report the one farther from the middle of the bounds.
                middle = (bounds.least + bounds.greatest) / 2
                value = greatest if greatest - middle > middle - least else least
                return (
                    f"{name} hold {value:.4g}, far outside of the dataset's range (allowed are "
                    f"{bounds.least:.4g} to {bounds.greatest:.4g}, see --value-bounds)"
                )
        return ""


def extremes(values: NDArray[np.float32]) -> Range:
    """The least and the greatest of some values; NaN if one of them is."""
    return Range(float(values.min()), float(values.max()))
