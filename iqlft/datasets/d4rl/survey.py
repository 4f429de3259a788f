"""Where the episodes of a D4RL file end.

D4RL marks ends by `timeouts`, but in the AntMaze files of its version 0 the marks and the ends are
out of step (D4RL issue 77), so ends are also looked for in the observations themselves. A time-out
that is not at an end cuts an episode in two, which costs one transition at most and no bootstrap;
so it is followed too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from iqlft.datasets.d4rl.file import TIMEOUTS
from iqlft.datasets.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqlft.datasets.d4rl.file import D4RLFile

JUMP_METRES = 0.5
"""An ant moves less than this in a step of 0.1 s: D4RL's run at 1.8 m/s."""
SAME_OBSERVATION = 1e-3
"""Greatest difference between a next observation as a row records it and as the next row does."""
_ROWS_PER_READ = 65_536
"""How many rows are read at a time."""


class Span(NamedTuple):
    """An episode in the file.

    Attributes:
        first: its first row.
        last: the row after its last.
        steps: number of transitions: its rows, less the last one where nothing says what followed.
        terminated: whether the task was over at its end.
    """

    first: int
    last: int
    steps: int
    terminated: bool


@dataclass(frozen=True)
class Survey:
    """What one pass over N rows has found: a few values a row.

    Attributes:
        in_maze: of the file's family.
        timeouts: `(N,)` bool.
        terminals: `(N,)` bool.
        rewards: `(N,)` float64.
        positions: `(N, 2)` float32: the first two observations, which are metres in a maze.
        next_positions: `(N, 2)` float32: after the step; NaN in the last row when not recorded.
        follows: `(N,)` bool: the recorded next observation is the next row's; None when rows do
            not record their next observations.
        unordered: next observations are recorded, but hardly any is the next row's.
        outside: share of action values outside [-1, 1].
    """

    in_maze: bool
    timeouts: NDArray[np.bool_]
    terminals: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    positions: NDArray[np.float32]
    next_positions: NDArray[np.float32]
    follows: NDArray[np.bool_] | None
    unordered: bool
    outside: float

    @property
    def sees_jumps(self) -> bool:
        """Whether there is anything to see a jump by."""
        return self.in_maze or self.follows is not None

    @property
    def marked(self) -> NDArray[np.bool_]:
        """Rows `(N,)` at which the file says that an episode ends."""
        return self.timeouts if self.in_maze else self.timeouts | self.terminals

    @cached_property
    def moved(self) -> NDArray[np.float32]:
        """Metres from row to row in a maze, `(N-1,)`."""
        moved: NDArray[np.float32] = np.linalg.norm(np.diff(self.positions, axis=0), axis=-1)
        return moved

    @cached_property
    def jumps(self) -> NDArray[np.bool_]:
        """Rows `(N,)` that the next row does not follow; the last row has none and is no jump."""
        jumps = np.zeros(len(self.timeouts), np.bool_)
        if self.in_maze:
            jumps[:-1] = self.moved > JUMP_METRES
        if self.follows is not None:
            jumps[:-1] |= ~self.follows[:-1]
        return jumps

    @cached_property
    def spans(self) -> list[Span]:
        """The episodes that have transitions, in order."""
        lasts = np.flatnonzero((self.marked | self.jumps)[:-1]) + 1
        recorded = self._recorded()
        spans = []
        for first, last in itertools.pairwise([0, *lasts.tolist(), len(self.timeouts)]):
            terminated = not self.in_maze and bool(self.terminals[last - 1])
            known = terminated or bool(recorded[last - 1])
            spans.append(Span(first, last, last - first - (not known), terminated))
        return [span for span in spans if span.steps]

    def _recorded(self) -> NDArray[np.bool_]:
        """Rows `(N,)` that record what followed them, be it the episode's last observation."""
        recorded = np.full(len(self.timeouts), self.follows is not None)
        if self.in_maze:
            # A state that was recorded only after the reset did not follow either.
            ways = np.linalg.norm(self.next_positions - self.positions, axis=-1)
            recorded &= ways <= JUMP_METRES
        return recorded


def survey(file: D4RLFile, episode_steps: int | None = None) -> Survey:
    """Reads a file once, in pieces.

    Args:
        file: where to read.
        episode_steps: the time limit of its episodes, of a file without time-outs.

    Raises:
        DatasetError: it is damaged, or a value is not finite; or nothing says where its episodes
            end, or two things do.
    """
    rows = file.num_rows
    positions, follows = np.empty((rows, 2), np.float32), np.zeros(rows, np.bool_)
    recorded = np.empty((rows, 2), np.float32)
    outside = 0
    for first in range(0, rows, _ROWS_PER_READ):
        last = min(first + _ROWS_PER_READ, rows)
        observations = file.read("observations", first, last + 1)
        positions[first:last] = observations[: last - first, :2]
        outside += int((np.abs(file.read("actions", first, last)) > 1).sum())
        if file.has_next:
            following = file.read_next(first, last)
            recorded[first:last] = following[:, :2]
            pairs = len(observations) - 1
            difference = np.abs(following[:pairs] - observations[1:])
            follows[first : first + pairs] = difference.max(-1) <= SAME_OBSERVATION
    # Episodes are long, so where few next rows follow, something else was recorded.
    records_next = file.has_next and bool(follows[:-1].mean() > 0.5)
    if not records_next:
        recorded = np.concatenate((positions[1:], np.full((1, 2), np.nan, np.float32)))
    terminals = file.read_flags("terminals")
    return Survey(
        in_maze=file.family.in_maze,
        timeouts=_timeouts(file, terminals, episode_steps, seen=records_next),
        terminals=terminals,
        rewards=file.read_column("rewards").astype(np.float64),
        positions=positions,
        next_positions=recorded,
        follows=follows if records_next else None,
        unordered=file.has_next and not records_next,
        outside=outside / (rows * file.width("actions")),
    )


def _timeouts(
    file: D4RLFile, terminals: NDArray[np.bool_], episode_steps: int | None, *, seen: bool
) -> NDArray[np.bool_]:
    """The rows `(N,)` at which a time limit ended the episode.

    Args:
        file: of N rows.
        terminals: `(N,)`.
        episode_steps: see `survey`.
        seen: whether recorded next observations show where an episode ends.
    """
    if file.has_timeouts and episode_steps is None:
        return file.read_flags(TIMEOUTS)
    if file.has_timeouts:
        raise DatasetError(
            f"{file.path} has time-outs of its own ({TIMEOUTS}), so leave --episode-steps out."
        )
    timeouts = np.zeros(file.num_rows, np.bool_)
    if episode_steps is None:
        if not seen:
            raise DatasetError(
                f"{file.path} has no array {TIMEOUTS} and does not record next observations, so "
                "nothing says where an episode ends; say how many steps one has at most "
                "(--episode-steps N)."
            )
        return timeouts
    # As D4RL counts where time-outs are missing, from the start and anew behind each terminal.
    starts = [0, *(np.flatnonzero(terminals) + 1).tolist(), file.num_rows]
    for first, last in itertools.pairwise(starts):
        timeouts[first + episode_steps - 1 : last : episode_steps] = True
    return timeouts


def read_episode(
    file: D4RLFile, found: Survey, span: Span
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Observations `(T+1, O)`, actions `(T, A)` and rewards `(T,)` of an episode.

    Raises:
        DatasetError: the file is damaged there.
    """
    observations = file.read("observations", span.first, span.last)
    end = span.first + span.steps
    if end == span.last:
        # Behind a termination nothing is learnt from, so any observation will do there.
        recorded = found.follows is not None
        final = file.read_next(end - 1, end) if recorded else observations[-1:]
        observations = np.concatenate((observations, final))
    return observations, file.read("actions", span.first, end), found.rewards[span.first : end]
