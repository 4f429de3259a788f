"""Finds where the episodes of a D4RL file end.

D4RL marks ends by `timeouts`, but in the AntMaze files of its version 0 they do not match the true
ends (D4RL issue 77), so ends are also looked for in the observations. A time-out elsewhere only
cuts an episode in two, which costs at most one transition and no bootstrap; so all time-outs are
obeyed.
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
"""An ant moves less than this in a step of 0.1 s: D4RL's ants run at 1.8 m/s."""
SAME_OBSERVATION = 1e-3
"""Greatest difference at which a recorded next observation counts as the next row's."""
_ROWS_PER_READ = 65_536
"""Number of rows read at a time."""


class Span(NamedTuple):
    """An episode in the file.

    Attributes:
        first: its first row.
        last: the row after its last row.
        steps: number of transitions: its rows, less the last if its next observation is unknown.
        terminated: whether the task was over at its end.
    """

    first: int
    last: int
    steps: int
    terminated: bool


@dataclass(frozen=True)
class Survey:
    """What one pass over the N rows of a file has found: a few values per row.

    Attributes:
        in_maze: see `Family`.
        timeouts: `(N,)` bool.
        terminals: `(N,)` bool.
        rewards: `(N,)` float64.
        positions: `(N, 2)` float32: the first two values of observations, in metres in a maze.
        next_positions: `(N, 2)` float32: after the step, or those of the next row if not recorded,
            with NaN in the last row.
        follows: `(N,)` bool: the recorded next observation is the next row's; None if rows do not
            record their next observations.
        unordered: next observations are recorded, but most are not the next row's.
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
        """Whether jumps can be detected."""
        return self.in_maze or self.follows is not None

    @property
    def marked(self) -> NDArray[np.bool_]:
        """Rows `(N,)` that the file marks as the end of an episode."""
        return self.timeouts if self.in_maze else self.timeouts | self.terminals

    @cached_property
    def moved(self) -> NDArray[np.float32]:
        """Distances from each row to the next, `(N-1,)`, in metres in a maze."""
        moved: NDArray[np.float32] = np.linalg.norm(np.diff(self.positions, axis=0), axis=-1)
        return moved

    @cached_property
    def jumps(self) -> NDArray[np.bool_]:
        """Rows `(N,)` that are not continued by the next row; False for the last row."""
        jumps = np.zeros(len(self.timeouts), np.bool_)
        if self.in_maze:
            jumps[:-1] = self.moved > JUMP_METRES
        if self.follows is not None:
            jumps[:-1] |= ~self.follows[:-1]
        return jumps

    @cached_property
    def spans(self) -> list[Span]:
        """The episodes with at least one transition, in order."""
        lasts = np.flatnonzero((self.marked | self.jumps)[:-1]) + 1
        recorded = self._recorded()
        spans = []
        for first, last in itertools.pairwise([0, *lasts.tolist(), len(self.timeouts)]):
            terminated = not self.in_maze and bool(self.terminals[last - 1])
            known = terminated or bool(recorded[last - 1])
            spans.append(Span(first, last, last - first - (not known), terminated))
        return [span for span in spans if span.steps]

    def _recorded(self) -> NDArray[np.bool_]:
        """Rows `(N,)` whose own record of the next observation can be used at an episode's end."""
        recorded = np.full(len(self.timeouts), self.follows is not None)
        if self.in_maze:
            # A state recorded after the reset already is not the next one.
            ways = np.linalg.norm(self.next_positions - self.positions, axis=-1)
            recorded &= ways <= JUMP_METRES
        return recorded


def survey(file: D4RLFile, episode_steps: int | None = None) -> Survey:
    """Reads a file once, in pieces.

    Args:
        file: an open file.
        episode_steps: the time limit of episodes, for a file without time-outs.

    Raises:
        DatasetError: the file is damaged or a value is not finite; nothing says where episodes end;
            or both the file and `episode_steps` do.
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
    # Episodes are long, so if few recorded next observations match, they are something else.
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
    """Rows `(N,)` at which a time limit ended the episode.

    Args:
        file: of N rows.
        terminals: `(N,)`.
        episode_steps: see `survey`.
        seen: whether recorded next observations show where episodes end.
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
    # As D4RL counts without time-outs: from the start, and anew after each terminal.
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
        # The observation after a termination is not learned from, so any will do.
        recorded = found.follows is not None
        final = file.read_next(end - 1, end) if recorded else observations[-1:]
        observations = np.concatenate((observations, final))
    return observations, file.read("actions", span.first, end), found.rewards[span.first : end]
