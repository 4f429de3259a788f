"""The figures of a run: in `metrics.jsonl`, for loggers, and as rates for the console.

Every key is explained in `docs/metrics.md`.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.metrics_log import read_history
from iqlft.training.loggers import Loggers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iqlft.gateway.counts import Counts
    from iqlft.runs.folder import Run
    from iqlft.runs.scores import Score
    from iqlft_workers.transition import Transitions

RECENT_EPISODES = 100
RATE_SECONDS = 10.0
"""Over how long a speed for the console is taken."""


class Rate:
    """A count's speed over the last few seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def per_second(self, count: int) -> float:
        """The count's recent growth per second; call it regularly with the present count."""
        now = time.monotonic()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_SECONDS:
            self._points.popleft()
        first_time, first = self._points[0]
        return (count - first) / (now - first_time) if now > first_time else 0.0


class MetricsLog:
    """Collects what happened between two rows of `metrics.jsonl`.

    A context manager: within it the loggers are open.

    Args:
        run: where rows are written.
        loggers: names of the loggers that also show rows and evaluations.
        tell: called with a sentence about a logger that has failed.
    """

    def __init__(self, run: Run, loggers: Sequence[str], tell: Callable[[str], None]) -> None:
        self._run, self._names, self._tell = run, loggers, tell
        self._row_time, self._row_updates, self._row_env_steps = time.monotonic(), -1, 0
        self.update_rate, self.env_step_rate = Rate(), Rate()
        self.policy_lag: float | None = None
        self._learner_waited_seconds = 0.0
        self._worker_samples: list[float] = []
        self._lag_sum, self._lag_count = 0.0, 0
        self._recent_lags: deque[float] = deque(maxlen=20)
        self._recent_success: deque[bool] = deque(maxlen=RECENT_EPISODES)
        self._incidents: list[str] = []

    def __enter__(self) -> Self:
        run = self._run
        self._loggers = Loggers(
            self._names,
            run.folder,
            run.entry("task"),
            run.configuration(),
            run.config_text,
            self._history(run),
            self._tell,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._loggers.close()

    @staticmethod
    def _history(run: Run) -> list[Mapping[str, Any]]:
        """All rows that the run's files have so far, metrics and evaluations, in order."""
        rows: list[Mapping[str, Any]] = []
        with suppress(RunError):
            rows += read_history(run.folder).rows
        with suppress(RunError):
            rows += map(_of_score, read_run(run.folder).rows)
        return sorted(rows, key=lambda row: row["updates"])

    def start(self, updates: int, env_steps: int) -> None:
        """Begins to count for the next row; called when the loop begins and after every row."""
        self._row_time, self._row_updates = time.monotonic(), updates
        self._row_env_steps, self._learner_waited_seconds = env_steps, 0.0

    def waited(self, seconds: float) -> None:
        """Adds time in which the learner could make no update."""
        self._learner_waited_seconds += seconds

    def observe_workers(self, states: Sequence[str]) -> None:
        """Samples the share of workers that wait for credit."""
        if states:
            self._worker_samples.append(states.count("waiting") / len(states))

    def observe_transitions(self, transitions: Transitions, updates: int) -> None:
        """Notes the policy lag of new transitions: by how many versions their actor was behind."""
        lags = updates - transitions.versions.astype(np.int64)
        self._lag_sum += float(lags.sum())
        self._lag_count += len(lags)
        self._recent_lags.append(float(lags.mean()))
        self.policy_lag = float(np.mean(self._recent_lags))

    def observe_episodes(self, successes: Sequence[bool | None]) -> None:
        """Notes finished training episodes; None where success was not reported."""
        self._recent_success.extend(each for each in successes if each is not None)

    @property
    def training_success(self) -> float | None:
        """Share of the newest training episodes that succeeded; None while there are none."""
        return _mean(self._recent_success)

    def observe_incident(self, sentence: str) -> None:
        """Notes what has gone wrong, for the next row."""
        self._incidents.append(sentence)

    def write(
        self,
        row: dict[str, Any],
        env_steps: int,
        counts: Counts | None = None,
    ) -> None:
        """Writes a row about what happened since the last one.

        Args:
            row: phase, counts, time and the learner's figures.
            env_steps: steps received so far; they may be more than the updates belong to.
            counts: what has gone wrong at the gateway; None in pretraining.
        """
        now, updates = time.monotonic(), row["updates"]
        elapsed = max(now - self._row_time, 1e-9)
        row = row | {"updates_per_second": (updates - self._row_updates) / elapsed}
        if counts is not None:
            row |= {
                "received_steps": env_steps,
                "env_steps_per_second": (env_steps - self._row_env_steps) / elapsed,
                "learner_waiting_share": min(1.0, self._learner_waited_seconds / elapsed),
                "workers_waiting_share": _mean(self._worker_samples),
                "policy_lag": self._lag_sum / self._lag_count if self._lag_count else None,
                "bad_messages": counts.bad_messages,
                "refused_batches": counts.refused_batches.total,
                "discarded_episodes": counts.discarded.total,
                "discarded_steps": counts.discarded.steps,
                "training_success": self.training_success,
            }
        if self._incidents:
            row["incidents"], self._incidents = self._incidents, []
        self.start(updates, env_steps)
        self._worker_samples.clear()
        self._lag_sum, self._lag_count = 0.0, 0
        self._run.files.append_metrics(row)
        self._loggers.write(row)

    def state(self) -> dict[str, Any]:
        """What the next row needs from before a checkpoint, except speeds; JSON data."""
        return {
            "recent_success": [bool(each) for each in self._recent_success],
            "lags": [self._lag_sum, self._lag_count],
            "incidents": list(self._incidents),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores `state()`."""
        self._recent_success.extend(state["recent_success"])
        self._lag_sum, self._lag_count = state["lags"]
        self._incidents = list(state["incidents"])

    def write_score(self, score: Score) -> None:
        """Passes an evaluation to the loggers; `curves.csv` has it already."""
        self._loggers.write(_of_score(score))


def _of_score(score: Score) -> dict[str, Any]:
    return {
        "phase": score.phase,
        "updates": score.updates,
        "env_steps": score.env_steps,
        "seconds": score.seconds,
        "evaluation/return": score.mean_return,
        "evaluation/success": score.success,
        "evaluation/normalized_score": score.normalized_score,
    }


def _mean(values: Sequence[float] | deque[bool]) -> float | None:
    return float(np.mean(values)) if values else None
