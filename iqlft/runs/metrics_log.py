"""Reading of `metrics.jsonl`, the rows about a run's training between evaluations."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from iqlft.runs.errors import RunError
from iqlft.runs.growing_files import METRICS, require_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_CLOCKS = {"offline": "updates", "online": "env_steps"}
"""What is counted in each phase."""


_RENAMED = {
    "value_loss": "value/loss",
    "actor_loss": "actor/loss",
    "critic_loss": "critic/loss",
    "q_mean": "critic/q",
    "value_mean": "value/mean",
    "advantage_mean": "actor/advantage",
    "advantage_weight_mean": "actor/advantage_weight",
    "advantage_weight_clipped_share": "actor/clipped_share",
    "log_std_mean": "actor/log_std",
    "dataset_q": "dataset/q",
    "dataset_value": "dataset/value",
    "new_q": "new/q",
    "new_value": "new/value",
}
"""Present names of the keys that version 0.1 named otherwise."""


def present_name(key: str) -> str:
    """The present name of a key, which may be one of version 0.1."""
    return _RENAMED.get(key, key)


@dataclass(frozen=True)
class History:
    """The rows of one run; `docs/metrics.md` explains their keys.

    Attributes:
        rows: in order, offline before online; never empty.
    """

    rows: tuple[Mapping[str, Any], ...]

    def length(self, phase: str) -> int:
        """Offline updates, or online environment steps, up to the phase's last row; 0 without."""
        return max((row[_CLOCKS[phase]] for row in self.rows if row["phase"] == phase), default=0)

    def has(self, key: str) -> bool:
        """Whether any row has a value of this key."""
        return any(row.get(key) is not None for row in self.rows)

    def column(
        self, key: str, phase: str, *, minus: str | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values of a key in one phase.

        Args:
            key: such as `policy_lag`.
            phase: `offline` or `online`.
            minus: another key, whose values are subtracted.

        Returns:
            Updates (offline) or environment steps (online) `(n,)`, and values `(n,)`, of the rows
            that have all of them.
        """
        keys = (_CLOCKS[phase], key, *([minus] if minus else []))
        rows = [[row.get(each) for each in keys] for row in self.rows if row["phase"] == phase]
        whole = [row for row in rows if all(isinstance(each, int | float) for each in row)]
        table = np.array(whole, np.float64).reshape(-1, len(keys))
        return table[:, 0], table[:, 1] - table[:, 2:].sum(axis=1)


def read_history(folder: Path) -> History:
    """Reads the metrics of a run.

    Args:
        folder: a run folder.

    Raises:
        RunError: there are no metrics yet, or a line is damaged (with its number).
    """
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}); restore it from a copy.") from error
    if not lines:
        raise RunError(
            f"{path} has no rows yet: wait for the first one, after log_every updates or with the "
            "last one of a phase; a short run of an earlier version has none."
        )
    require_whole(folder, METRICS)
    return History(tuple(_row(path, number, line) for number, line in enumerate(lines, 1)))


def _row(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
        if not isinstance(row[_CLOCKS[row["phase"]]], int):
            raise ValueError("it counts nothing")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path}, line {number}, is no row of metrics ({error!r}); remove the line."
        ) from error
    return {present_name(key): _finite(value) for key, value in row.items()}


def _finite(value: object) -> object:
    """A value, or None if it is not finite: version 0.1 wrote such numbers as NaN or Infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
