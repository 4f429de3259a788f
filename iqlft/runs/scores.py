"""The result of an evaluation: a `Score`, which is a row of `curves.csv`, written and read here.

Each of its episodes has an `EpisodeScore`, a row of `evaluations.csv`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Metric = Literal["success", "normalized_score", "return"]
"""What is plotted, in order of preference: the first that all runs of a task report."""

Number = TypeVar("Number", int, float)
"""Type as which a field of a row is read."""

METRIC_NAMES: dict[Metric, str] = {
    "success": "success rate (%)",
    "normalized_score": "normalized score",
    "return": "return",
}
"""Names of the metrics on axes and in tables."""

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
"""The header of `curves.csv`; `version`, that of the evaluated weights, repeats `updates`."""

EVALUATION_COLUMNS = ("phase", "updates", "env_steps", "seed", "return", "length", "success")
"""The header of `evaluations.csv`."""


class EpisodeScore(NamedTuple):
    """The result of one evaluation episode.

    Attributes:
        seed: seed of the environment's reset.
        episode_return: before the reward transform; NaN where it was not finite.
        length: environment steps.
        success: whether it succeeded; None where the environment does not report it.
    """

    seed: int
    episode_return: float
    length: int
    success: bool | None

    def row(self, score: Score) -> tuple[object, ...]:
        """The values in the order of `EVALUATION_COLUMNS`; None and NaN are left empty.

        Args:
            score: score of the evaluation that the episode belongs to.
        """
        success = None if self.success is None else int(self.success)
        place = score.phase, score.updates, score.env_steps
        return (*place, self.seed, _rounded(self.episode_return, 6), self.length, success)

    @classmethod
    def from_row(cls, row: Mapping[str, str | None]) -> EpisodeScore:
        """A row's episode.

        Raises:
            ValueError: the row is malformed; the message is a sentence.
        """
        values = {name: _field(row, name) for name in EVALUATION_COLUMNS}
        episode_return, success = _optional(values, "return"), values["success"]
        if success not in {"", "0", "1"}:
            raise ValueError(f"success must be 0, 1 or empty, not {success!r}.")
        return cls(
            seed=_number(values, "seed", int),
            episode_return=math.nan if episode_return is None else episode_return,
            length=_number(values, "length", int),
            success=bool(int(success)) if success else None,
        )


class Score(NamedTuple):
    """One evaluation's figures.

    Attributes:
        phase: `offline` or `online`.
        updates: updates of the evaluated weights, offline and online together.
        env_steps: online environment steps so far.
        seconds: training time so far.
        success: share of successful episodes in [0, 1]; None where the environment reports none.
        mean_return: mean return of an episode, before the reward transform; NaN where an episode's
            was not finite.
        normalized_score: 0 to 100 between the dataset's reference scores; None without them, or
            without a return.
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
        """The values in the order of `CURVE_COLUMNS`, rounded; None and NaN are left empty."""
        rounded = self._replace(seconds=round(self.seconds, 1))._asdict()
        rounded["mean_return"] = _rounded(self.mean_return, 6)
        rounded["normalized_score"] = _rounded(self.normalized_score, 4)
        return (*rounded.values(), self.updates)

    @classmethod
    def from_row(cls, row: Mapping[str, str | None]) -> Score:
        """A row's score.

        Args:
            row: text of each column; None for columns missing at its end.

        Raises:
            ValueError: the row is malformed; the message is a sentence.
        """
        values = {name: _field(row, name) for name in CURVE_COLUMNS}
        mean_return = _optional(values, "return")
        score = cls(
            phase=values["phase"],
            updates=_number(values, "updates", int),
            env_steps=_number(values, "env_steps", int),
            seconds=_number(values, "seconds", float),
            success=_optional(values, "success"),
            mean_return=math.nan if mean_return is None else mean_return,
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


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _optional(values: Mapping[str, str], name: str) -> float | None:
    # Version 0.1 wrote numbers that are not finite as nan or inf.
    missing = values[name] in {"", "nan", "inf", "-inf"}
    return None if missing else _number(values, name, float)


def _number(values: Mapping[str, str], name: str, kind: type[Number]) -> Number:
    text = values[name]
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {text!r}.") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {text!r}.")
    return number
