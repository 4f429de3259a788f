"""Attendance of the workers of other machines: who joined, who left, and whether none is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iqlft.gateway.roster import WorkerStatus


class Attendance:
    """Reports who joins and who leaves.

    Args:
        local_workers: workers with lower ids are the learner's own, and not reported.
    """

    def __init__(self, local_workers: int) -> None:
        self._local_workers = local_workers
        self._present: set[int] = set()

    def changes(self, workers: Sequence[WorkerStatus]) -> Iterator[str]:
        """What has changed since the last call, one sentence for each kind of change.

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


class Desertion:
    """Measures how long no worker has been connected after one that could not work had to leave.

    That one may be started again, or others may come. If any worker has stepped since then, there
    is no desertion: it may come back whenever it likes.
    """

    def __init__(self) -> None:
        self._departures, self._steps, self._since = 0, 0, 0.0

    def seconds(self, workers: Sequence[WorkerStatus], departures: int, now: float) -> float:
        """Seconds of desertion; 0 while there is none.

        Args:
            workers: all that ever joined.
            departures: how often a worker has left because it cannot work, or was sent away.
            now: in seconds of a monotonic clock.
        """
        steps = sum(each.env_steps for each in workers)
        if departures != self._departures:
            self._departures, self._steps, self._since = departures, steps, now
        if not departures or steps != self._steps or any(each.alive for each in workers):
            self._since = now
        return now - self._since


def _named(ids: set[int]) -> str:
    """Workers by their ids, consecutive ones as a range."""
    ranges: list[list[int]] = []
    for each in sorted(ids):
        if ranges and ranges[-1][-1] == each - 1:
            ranges[-1].append(each)
        else:
            ranges.append([each])
    shown = (str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in ranges)
    return f"Worker{'s' * (len(ids) > 1)} {', '.join(shown)}"
