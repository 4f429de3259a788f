"""Measures the agent's behaviour in a maze dataset, one episode at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqlft.datasets.antmaze.bands import (
    BANDS,
    FALLEN,
    FALLS,
    FIRST_HIT,
    PACE,
    REACH,
    REWARDED,
    STUCK,
    TOUCH,
    UPSIDE_DOWN,
)
from iqlft.datasets.audit.ant_walk import AntWalk, follow_ant
from iqlft.datasets.audit.findings import Finding, form, measurement

if TYPE_CHECKING:
    import minari
    from numpy.typing import NDArray

    from iqlft.datasets.goal_maze import GoalMaze
    from iqlft.datasets.reading import RecordedEpisode

JUMP = 0.5
"""Greatest distance in metres that an agent can move in one step."""
_ANT = 27
"""Number of values in the ant's observation; values 1 to 4 are its torso's quaternion."""


class MazeMeasures:
    """Collects, episode by episode, statistics of where an agent goes.

    Args:
        dataset: the dataset of the episodes.
        maze: the dataset's maze.
        steps: the length that every episode must have, or None.
    """

    def __init__(self, dataset: minari.MinariDataset, maze: GoalMaze, steps: int | None) -> None:
        self._maze, self._steps = maze, steps
        self._bands = BANDS.get(dataset.id, {})
        self._has_ant = dataset.observation_space["observation"].shape == (_ANT,)
        self._episodes = self._transitions = 0
        self._other_lengths = self._jumps = self._touching = self._rewarded = 0
        self._walks: list[AntWalk] = []
        self._metres = 0.0
        self._first_hits: list[int] = []
        self._visits, self._starts, self._goals = (
            np.zeros(maze.walls.shape, np.int64) for _ in range(3)
        )

    def add(self, episode: RecordedEpisode) -> None:
        """Adds the next episode."""
        positions, goals = _finite(
            episode.observations["achieved_goal"], episode.observations["desired_goal"]
        )
        self._episodes += 1
        self._transitions += len(episode.rewards)
        self._other_lengths += len(episode.rewards) != self._steps
        if not len(positions):
            return
        steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
        self._jumps += int(np.count_nonzero(steps > JUMP))
        self._metres += float(steps.sum())
        hits = np.flatnonzero(np.linalg.norm(positions - goals, axis=-1) <= self._maze.radius)
        self._first_hits.extend(hits[:1].tolist())
        if self._has_ant and len(positions) == len(episode.observations["observation"]):
            torso = episode.observations["observation"][:, 1:5]
            self._walks.append(follow_ant(positions, torso, int(hits[0]) if len(hits) else None))
        if self._maze.goal is not None:
            touches = int(np.count_nonzero(self._maze.goal.reached(positions[1:])))
            self._touching += touches > 0
            self._rewarded += touches
        self._visits += self._maze.count(positions)
        self._starts += self._maze.count(positions[:1])
        self._goals += self._maze.count(goals[:1])

    def findings(self) -> list[Finding]:
        """The findings, compared with the dataset's bands."""
        values: dict[str, float | None] = {
            REACH: len(self._first_hits) / self._episodes,
            FIRST_HIT: float(np.median(self._first_hits)) if self._first_hits else None,
            PACE: self._metres / self._transitions,
        }
        if self._maze.goal is not None:
            values[TOUCH] = self._touching / self._episodes
            values[REWARDED] = self._rewarded / self._transitions
        if self._walks:
            values |= _describe(self._walks)
        visited = np.count_nonzero(self._visits[~self._maze.walls])
        return [
            form(f"steps that jump over {JUMP} m", self._jumps),
            *self._lengths(),
            *(measurement(name, value, self._bands.get(name)) for name, value in values.items()),
            measurement("share of free cells visited", visited / self._maze.num_free),
            _histogram("cells with starts", self._starts),
            _histogram("cells with goals", self._goals),
        ]

    def _lengths(self) -> list[Finding]:
        if self._steps is None:
            return []
        return [form(f"episodes of another length than {self._steps}", self._other_lengths)]


def _finite(*arrays: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The rows `(2,)` that exist in all arrays and are finite in all of them."""
    together = np.stack([array[: min(map(len, arrays))] for array in arrays])
    return tuple(together[:, np.isfinite(together).all((0, 2))])


def _describe(walks: list[AntWalk]) -> dict[str, float | None]:
    """Statistics over the ant's walks in all episodes."""
    on_feet = sum(walk.on_feet for walk in walks)
    way = sum(walk.steps for walk in walks)
    return {
        UPSIDE_DOWN: float(np.mean([walk.upside_down for walk in walks])),
        FALLEN: float(np.mean([walk.fallen for walk in walks])),
        FALLS: 1000 * sum(walk.falls for walk in walks) / on_feet if on_feet else None,
        STUCK: sum(walk.stuck for walk in walks) / way if way else None,
    }


def _histogram(name: str, counts: NDArray[np.int64]) -> Finding:
    """The number of cells with a count, with the least and the most common in the note."""
    cells = np.argwhere(counts)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    ends = [int(shares.argmin()), int(shares.argmax())] if len(cells) > 1 else range(len(cells))
    note = " to ".join(f"{100 * shares[i]:.1f} % in {tuple(cells[i].tolist())}" for i in ends)
    return measurement(name, len(cells), note=note)
