"""What a training command reports to its caller; the console decides how to show it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from iqlft.runs.scores import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self


@dataclass(frozen=True)
class Status:
    """A moment of a training run.

    Attributes:
        task: task name.
        device: where the learner computes.
        folder: the run folder.
        phase: `offline` or `online`.
        done: updates (offline) or environment steps (online) so far.
        total: of how many.
        updates_per_second: recent.
        env_steps_per_second: recent.
        dataset_size: transitions in the dataset.
        new_size: new transitions in the replay.
        workers: state of each worker by id.
        policy_lag: mean versions by which recent transitions were behind the learner.
        evaluation: finished and all episodes of the evaluation in progress, or None.
        before: the score at the switch, or None.
        last: the newest score, or None.
        losses: of the newest row of `metrics.jsonl`, by key.
        training_success: share of the newest training episodes that succeeded, or None.
        waiting: whether the run has not begun because it waits for other runs.
    """

    task: str
    device: str
    folder: Path
    phase: str
    done: int
    total: int
    updates_per_second: float = 0.0
    env_steps_per_second: float = 0.0
    dataset_size: int = 0
    new_size: int = 0
    workers: Mapping[int, str] = field(default_factory=dict)
    policy_lag: float | None = None
    evaluation: tuple[int, int] | None = None
    before: Score | None = None
    last: Score | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    training_success: float | None = None
    waiting: bool = False

    def to_json(self) -> dict[str, Any]:
        """The same as JSON data, for another process."""
        workers = list(self.workers.items())
        return {**vars(self), "folder": str(self.folder), "workers": workers}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A status from `to_json()`, through JSON."""
        kinds: dict[str, Callable[[Any], Any]] = {
            "folder": Path, "workers": dict, "evaluation": tuple,
            "before": Score._make, "last": Score._make,
        }  # fmt: skip
        read = {key: kind(data[key]) for key, kind in kinds.items() if data[key] is not None}
        return cls(**{**data, **read})


class Reporter(Protocol):
    """Receives what happens in training; its methods must return quickly."""

    def status(self, status: Status) -> None:
        """Called about twice a second."""

    def event(self, sentence: str) -> None:
        """Called when something is worth a line of its own."""


class Silent:
    """Reports nothing."""

    def status(self, status: Status) -> None:
        """Ignores the status."""

    def event(self, sentence: str) -> None:
        """Ignores the event."""


class Voice:
    """Reporter of one of several runs, which adds the run's name to what it passes on.

    Args:
        reporter: the reporter of all the runs.
        name: the run's name.
    """

    def __init__(self, reporter: Reporter, name: str) -> None:
        self._reporter, self._name = reporter, name

    def status(self, status: Status) -> None:
        """Passes a status on."""
        task = f"{status.task} {self._name}"
        self._reporter.status(dataclasses.replace(status, task=task))

    def event(self, sentence: str) -> None:
        """Passes an event on."""
        self._reporter.event(f"{self._name}: {sentence}")
