"""What an evaluation found: a `Score`, which is a row of `curves.csv`, written and read here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Metric = Literal["success", "normalized_score", "return"]
"""What is plotted, in order of preference: what all runs of a task report."""

Number = TypeVar("Number", int, float)
"""What a field of a row is read as."""

METRIC_NAMES: dict[Metric, str] = {
    "success": "success rate (%)",
    "normalized_score": "normalized score",
    "return": "return",
}
"""What axes and tables call them."""

CURVE_COLUMNS = (
    "phase",
    "updates",
    "env_steps",
    "seconds",
    "success",
    "return",
    "normalized_score",
    "episodes",
    "version",
)
"""The header of `curves.csv`; `version` repeats `updates`, those behind the evaluated weights."""


class Score(NamedTuple):
    """One evaluation's figures.

    Attributes:
        phase: `offline` or `online`.
        updates: behind the evaluated weights, offline and online together.
        env_steps: online environment steps so far.
        seconds: training time so far.
        success: share of successful episodes in [0, 1]; None where the environment reports none.
        mean_return: mean return of an episode, before the reward transform.
        normalized_score: 0 to 100 between the dataset's reference scores; None without them.
        episodes: number of evaluation episodes.
    """

    phase: str
    updates: int
    env_steps: int
    seconds: float
    success: float | None
    mean_return: float
    normalized_score: float | None
    episodes: int

    def score(self, metric: Metric) -> float:
        """The metric's value: success in percent, the others as they stand; NaN if absent."""
        if metric == "success":
            return math.nan if self.success is None else 100 * self.success
        if metric == "normalized_score":
            return math.nan if self.normalized_score is None else self.normalized_score
        return self.mean_return

    def row(self) -> tuple[object, ...]:
        """The values in the order of `CURVE_COLUMNS`, rounded; None is left empty there."""
        normalized = None if self.normalized_score is None else round(self.normalized_score, 4)
        rounded = self._replace(
            seconds=round(self.seconds, 1),
            mean_return=round(self.mean_return, 6),
            normalized_score=normalized,
        )
        return (*rounded, self.updates)

    @classmethod
    def from_row(cls, row: Mapping[str, str | None]) -> Score:
        """A row's score.

        Args:
            row: what stands in each column; None where the row ended before.

        Raises:
            ValueError: the row is malformed, said in a sentence.
        """
        values = {name: _field(row, name) for name in CURVE_COLUMNS}
        score = cls(
            phase=values["phase"],
            updates=_number(values, "updates", int),
            env_steps=_number(values, "env_steps", int),
            seconds=_number(values, "seconds", float),
            success=_optional(values, "success"),
            mean_return=_number(values, "return", float),
            normalized_score=_optional(values, "normalized_score"),
            episodes=_number(values, "episodes", int),
        )
        if score.phase not in {"offline", "online"}:
            raise ValueError(f"phase must be offline or online, not {score.phase!r}.")
        if score.success is not None and not 0 <= score.success <= 1:
            raise ValueError(f"success must lie in [0, 1], not {score.success}.")
        if score.episodes < 1:
            raise ValueError(f"episodes must be at least 1, not {score.episodes}.")
        return score


def _field(row: Mapping[str, str | None], name: str) -> str:
    value = row[name]
    if value is None:
        raise ValueError("the row has fewer values than the header.")
    return value.strip()


def _optional(values: Mapping[str, str], name: str) -> float | None:
    return _number(values, name, float) if values[name] else None


def _number(values: Mapping[str, str], name: str, kind: type[Number]) -> Number:
    text = values[name]
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {text!r}.") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {text!r}.")
    return number
