"""Attendance of the workers of other machines: who has joined, and who has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iqlft.gateway.roster import WorkerStatus


class Attendance:
    """Reports who joins and who leaves.

    Args:
        local_workers: workers with ids below are the learner's own, of which it knows.
    """

    def __init__(self, local_workers: int) -> None:
        self._local_workers = local_workers
        self._present: set[int] = set()

    def changes(self, workers: Sequence[WorkerStatus]) -> Iterator[str]:
        """What has changed since the last call, a sentence for each kind.

        Args:
            workers: all that ever joined.
        """
        others = [each for each in workers if each.worker_id >= self._local_workers]
        now = {each.worker_id for each in others if each.alive}
        gone = [each for each in others if each.worker_id in self._present - now]
        said = {each.worker_id for each in gone if each.seconds_since_message == 0}
        for ids, what in (
            (now - self._present, "joined"),
            (said, "left"),
            (self._present - now - said, "lost the connection"),
        ):
            if ids:
                yield f"{_named(ids)} {what}; {len(now)} of other machines are here."
        self._present = now


def _named(ids: set[int]) -> str:
    """Workers by their ids, neighbours as a range."""
    ranges: list[list[int]] = []
    for each in sorted(ids):
        if ranges and ranges[-1][-1] == each - 1:
            ranges[-1].append(each)
        else:
            ranges.append([each])
    shown = (str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in ranges)
    return f"Worker{'s' * (len(ids) > 1)} {', '.join(shown)}"
