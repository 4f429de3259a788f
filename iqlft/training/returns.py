"""Returns to go: the discounted rewards from a transition to the end of its episode.

An episode that ends without termination (a time limit, a gap in the data) is taken to go on for
ever at its last reward r, so the return after its end is r / (1 - discount): in a failed episode of
a sparse task, with the same reward at every step, every return is r / (1 - discount).
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqlft.datasets.episodes import episode_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from iqlft_workers.transition import RowLayout


def returns_to_go(
    rewards: Sequence[float],
    terminated: Sequence[float] | Sequence[bool],
    ends: Sequence[bool],
    discount: float,
) -> NDArray[np.float32]:
    """Returns to go `(n,)` of transitions in order.

    Args:
        rewards: `(n,)`.
        terminated: `(n,)`, whether a transition ends the task, after which the return is 0.
        ends: `(n - 1,)`, whether a transition is the last of its episode; the last one always is.
        discount: gamma; with 1 nothing is added after an end.
    """
    tail = 1 / (1 - discount) if discount < 1 else 0.0
    found, following = np.empty(len(rewards)), 0.0
    for index in reversed(range(len(rewards))):
        if terminated[index]:
            following = 0.0
        elif index == len(rewards) - 1 or ends[index]:
            following = rewards[index] * tail
        following = rewards[index] + discount * following
        found[index] = following
    return found.astype(np.float32)


def dataset_returns(rows: Tensor, layout: RowLayout, discount: float) -> NDArray[np.float32]:
    """Returns to go `(N,)` of a dataset's rows `(N, width)`, episode by episode."""
    _, _, rewards, _, terminated, _, _ = layout.unpack(rows)
    ends = episode_ends(rows, layout)
    return returns_to_go(rewards.tolist(), terminated.tolist(), ends.tolist(), discount)


class Ended(NamedTuple):
    """An episode that is over.

    Attributes:
        indices: of its transitions among all new ones of the member, `(n,)`.
        returns: returns to go of these transitions, `(n,)`.
    """

    indices: NDArray[np.int64]
    returns: NDArray[np.float32]


_Open = tuple[list[int], list[float]]
"""Indices and rewards of an episode that has not ended."""


class OpenEpisodes:
    """Sorts new transitions into episodes, which workers send interleaved.

    A transition continues the open episode whose last next_observation equals its observation: this
    needs only the transitions, so the journal restores it. If several open episodes have stopped at
    one observation, as where observations are few, it continues the one that has waited longest:
    what follows is a valid return for any of them.

    Args:
        layout: columns of a row's fields.
        discount: gamma.
    """

    def __init__(self, layout: RowLayout, discount: float) -> None:
        self._layout, self._discount = layout, discount
        self._open: defaultdict[bytes, deque[_Open]] = defaultdict(deque)

    def add(self, rows: NDArray[np.float32], first: int) -> list[Ended]:
        """Adds rows `(n, width)`, and returns the episodes that end in them.

        Args:
            rows: in the order in which they arrived.
            first: index of the first of them.
        """
        observations, _, rewards, following, terminated, truncated, _ = self._layout.unpack(rows)
        ended = []
        for offset, reward in enumerate(rewards.tolist()):
            indices, before = self._take(observations[offset].tobytes())
            indices.append(first + offset)
            before.append(reward)
            if terminated[offset] or truncated[offset]:
                ended.append(self._end(indices, before, terminated=bool(terminated[offset])))
            else:
                self._open[following[offset].tobytes()].append((indices, before))
        return ended

    def _take(self, state: bytes) -> _Open:
        """Takes out the open episode that continues from an observation, or begins a new one."""
        waiting = self._open.pop(state, None)
        if not waiting:
            return [], []
        found = waiting.popleft()
        if waiting:
            self._open[state] = waiting
        return found

    def _end(self, indices: list[int], rewards: list[float], *, terminated: bool) -> Ended:
        inside = [False] * (len(rewards) - 1)
        found = returns_to_go(rewards, [*inside, terminated], inside, self._discount)
        return Ended(np.array(indices), found)
