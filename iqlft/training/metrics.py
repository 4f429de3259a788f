"""The figures of a run: `metrics.jsonl`, TensorBoard events, and the rates that the console shows.

Every key is explained in `docs/metrics.md`.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from iqlft.runs.curves import read_run
from iqlft.runs.folder import RunError
from iqlft.runs.metrics_log import read_history
from iqlft.training.event_log import EventLog, forget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iqlft.runs.folder import Run
    from iqlft.runs.scores import Score
    from iqlft_workers.transition import Transitions

RECENT_EPISODES = 100
_GROUPS = {
    **dict.fromkeys(("updates_per_second", "env_steps_per_second"), "speed"),
    **dict.fromkeys(("learner_waiting_share", "workers_waiting_share", "policy_lag"), "workers"),
    "training_success": "training",
}
"""Groups of TensorBoard's tags for figures without a namespace; the others are the run's."""


class Rate:
    """A count's speed over the last few seconds."""

    def __init__(self, window_seconds: float = 10.0) -> None:
        self._window = window_seconds
        self._points: deque[tuple[float, int]] = deque()

    def per_second(self, count: int) -> float:
        """The count's recent growth per second; call it now and then with the present count."""
        now = time.monotonic()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[1][0] > self._window:
            self._points.popleft()
        first_time, first = self._points[0]
        return (count - first) / (now - first_time) if now > first_time else 0.0


class MetricsLog:
    """Collects what happened between two rows of `metrics.jsonl`.

    Args:
        run: where rows are written.
        tensorboard: whether to write TensorBoard events too.
    """

    def __init__(self, run: Run, *, tensorboard: bool) -> None:
        self._run = run
        self._events = self._begun_again(run) if tensorboard else None
        self._row_time, self._row_updates, self._row_env_steps = time.monotonic(), -1, 0
        self.update_rate, self.env_step_rate = Rate(), Rate()
        self.policy_lag: float | None = None
        self._learner_waited_seconds = 0.0
        self._worker_samples: list[float] = []
        self._lag_sum, self._lag_count = 0.0, 0
        self._recent_lags: deque[float] = deque(maxlen=20)
        self._recent_success: deque[bool] = deque(maxlen=RECENT_EPISODES)
        self._incidents: list[str] = []

    def _begun_again(self, run: Run) -> EventLog:
        """TensorBoard's events, with the configuration and all that the run's files have so far.

        They are written anew: those of before may go beyond the checkpoint that a run resumes from.
        """
        folder = run.folder / "tensorboard"
        forget(folder)
        self._events = events = EventLog(folder)
        events.write_text("configuration", f"```yaml\n{run.config_text}\n```")
        rows: list[tuple[Mapping[str, Any], int, float]] = []
        with suppress(RunError):
            rows += [(each, each["updates"], each["seconds"])
                     for each in read_history(run.folder).rows]  # fmt: skip
        with suppress(RunError):
            rows += [(_of_score(each), each.updates, each.seconds)
                     for each in read_run(run.folder).rows]  # fmt: skip
        end = max((seconds for *_, seconds in rows), default=0.0)
        for values, updates, seconds in sorted(rows, key=lambda row: row[1]):
            self._write_events(values, updates, time.time() - (end - seconds))
        return events

    def start(self, updates: int, env_steps: int) -> None:
        """Counts from here; called when the loop begins."""
        self._row_time, self._row_updates = time.monotonic(), updates
        self._row_env_steps, self._learner_waited_seconds = env_steps, 0.0

    def waited(self, seconds: float) -> None:
        """The learner had nothing to do for this long."""
        self._learner_waited_seconds += seconds

    def observe_workers(self, states: Sequence[str]) -> None:
        """Samples how many workers wait for credit."""
        if states:
            self._worker_samples.append(states.count("waiting") / len(states))

    def observe_transitions(self, transitions: Transitions, updates: int) -> None:
        """Notes by how many versions the actor of new transitions was behind."""
        lag = float(np.mean(updates - transitions.versions.astype(np.int64)))
        self._lag_sum, self._lag_count = self._lag_sum + lag, self._lag_count + 1
        self._recent_lags.append(lag)
        self.policy_lag = float(np.mean(self._recent_lags))

    def observe_episodes(self, successes: Sequence[bool | None]) -> None:
        """Notes finished training episodes; None where success was not reported."""
        self._recent_success.extend(each for each in successes if each is not None)

    @property
    def training_success(self) -> float | None:
        """Share of the newest training episodes that succeeded; None while there are none."""
        return _mean(self._recent_success)

    def observe_incident(self, sentence: str) -> None:
        """Notes that a worker, or the journal, was in trouble."""
        self._incidents.append(sentence)

    def write(
        self,
        row: dict[str, Any],
        *,
        bad_messages: int | None = None,
        refused_batches: int = 0,
        discarded: tuple[int, int] = (0, 0),
    ) -> None:
        """Writes a row about what happened since the last one.

        Args:
            row: phase, counts, time and the learner's figures.
            bad_messages: that the gateway has refused; None while nobody sends transitions.
            refused_batches: of these, the batches that could not be learned from.
            discarded: training episodes that were not finite, and steps of them.
        """
        now, updates, env_steps = time.monotonic(), row["updates"], row["env_steps"]
        elapsed = max(now - self._row_time, 1e-9)
        row = row | {"updates_per_second": (updates - self._row_updates) / elapsed}
        if bad_messages is not None:
            row |= {
                "env_steps_per_second": (env_steps - self._row_env_steps) / elapsed,
                "learner_waiting_share": min(1.0, self._learner_waited_seconds / elapsed),
                "workers_waiting_share": _mean(self._worker_samples),
                "policy_lag": self._lag_sum / self._lag_count if self._lag_count else None,
                "bad_messages": bad_messages,
                "refused_batches": refused_batches,
                "discarded_episodes": discarded[0],
                "discarded_steps": discarded[1],
                "training_success": self.training_success,
            }
        if self._incidents:
            row["incidents"], self._incidents = self._incidents, []
        self.start(updates, env_steps)
        self._worker_samples.clear()
        self._lag_sum, self._lag_count = 0.0, 0
        self._run.append_metrics(row)
        self._write_events(row, updates)

    def state(self) -> dict[str, Any]:
        """What the next row owes to the time before a checkpoint, speeds excepted; JSON."""
        return {
            "recent_success": [bool(each) for each in self._recent_success],
            "lags": [self._lag_sum, self._lag_count],
            "incidents": list(self._incidents),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up `state()`."""
        self._recent_success.extend(state["recent_success"])
        self._lag_sum, self._lag_count = state["lags"]
        self._incidents = list(state["incidents"])

    def write_score(self, score: Score) -> None:
        """Adds an evaluation to the TensorBoard events."""
        self._write_events(_of_score(score), score.updates)

    def _write_events(
        self, row: Mapping[str, Any], updates: int, when: float | None = None
    ) -> None:
        if self._events is not None:
            tagged = {tag(key): each for key, each in row.items() if isinstance(each, float)}
            self._events.write(tagged, updates, when)


def tag(key: str) -> str:
    """What TensorBoard calls a figure: in a group, as a key with a namespace is anyhow."""
    return key if "/" in key else f"{_GROUPS.get(key, 'run')}/{key}"


def _of_score(score: Score) -> dict[str, Any]:
    return {
        "evaluation/return": score.mean_return,
        "evaluation/success": score.success,
        "evaluation/normalized_score": score.normalized_score,
    }


def _mean(values: Sequence[float] | deque[bool]) -> float | None:
    return float(np.mean(values)) if values else None
