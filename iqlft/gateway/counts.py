"""Counts of what has gone wrong at a gateway."""

from __future__ import annotations

from typing import NamedTuple


class Tally(NamedTuple):
    """How often something has gone wrong.

    Attributes:
        total: how often.
        sentence: about the last time; empty while there was none.
        steps: environment steps that were lost by it.
    """

    total: int = 0
    sentence: str = ""
    steps: int = 0

    def add(self, sentence: str, steps: int = 0) -> Tally:
        """The tally after one more time."""
        return Tally(self.total + 1, sentence, self.steps + steps)


class Counts(NamedTuple):
    """What has gone wrong since the learner's start.

    Attributes:
        rejected: connections and workers that were rejected.
        bad_messages: malformed or impossible messages that were rejected.
        refused_batches: batches among them that could not be learned from.
        discarded: training episodes that were not finite, and their dropped steps.
        failed: workers that have left because they cannot work.
        departures: as `failed`, plus workers that were sent away, for example after a refused
            batch.
    """

    rejected: int
    bad_messages: int
    refused_batches: Tally
    discarded: Tally
    failed: Tally
    departures: Tally
