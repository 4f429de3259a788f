"""The queue of evaluation episodes: assigned to workers, and again when a worker is lost."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from iqlft_workers.messages import Evaluate
from iqlft_workers.wire import pack_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.episode import EpisodeResult

MAX_ASSIGNED_EPISODES = 4
"""The most episodes that a worker is assigned at once."""


class EvaluationJob:
    """One evaluation: the same weights, one episode per seed.

    Args:
        number: of the evaluation.
        weights: whose mean actions are evaluated.
        seeds: of the episodes.

    Attributes:
        results: by the order of the seeds; None where an episode is not done yet.
        pending: places of the episodes that are assigned to nobody.
    """

    def __init__(self, number: int, weights: ActorWeights, seeds: Sequence[int]) -> None:
        self.number = number
        self.results: list[EpisodeResult | None] = [None] * len(seeds)
        self.pending = deque(range(len(seeds)))
        self._seeds = tuple(int(seed) for seed in seeds)
        self._packed = np.frombuffer(pack_weights(weights), np.uint8)

    @property
    def episodes_done(self) -> int:
        """Episodes that have a result."""
        return sum(result is not None for result in self.results)

    def assign(self, num_workers: int) -> Evaluate:
        """Assigns the next episodes to one of `num_workers`; fewer at a time towards the end."""
        size = min(MAX_ASSIGNED_EPISODES, max(1, len(self.pending) // (2 * num_workers)))
        indices = tuple(self.pending.popleft() for _ in range(min(size, len(self.pending))))
        seeds = tuple(self._seeds[index] for index in indices)
        return Evaluate(self.number, indices, seeds, self._packed)


class EvaluationQueue:
    """Evaluations under way, first come, first served."""

    def __init__(self) -> None:
        self._jobs: dict[int, EvaluationJob] = {}
        self._count = 0

    def enqueue(self, weights: ActorWeights, seeds: Sequence[int]) -> EvaluationJob:
        """Appends an evaluation."""
        self._count += 1
        job = EvaluationJob(self._count, weights, seeds)
        if job.results:
            self._jobs[job.number] = job
        return job

    def assign(self, num_workers: int) -> Evaluate | None:
        """Episodes for a worker that is free; None if all are assigned."""
        job = next((job for job in self._jobs.values() if job.pending), None)
        return job.assign(num_workers) if job else None

    def record(self, number: int, index: int, result: EpisodeResult) -> None:
        """Keeps a result; one that comes twice, from a worker believed lost, is the same twice."""
        job = self._jobs.get(number)
        if job is None or not 0 <= index < len(job.results):
            return
        job.results[index] = result
        if job.episodes_done == len(job.results):
            del self._jobs[number]

    def requeue(self, assignment: Evaluate) -> None:
        """Puts back, in front, what a lost worker has not done."""
        if (job := self._jobs.get(assignment.evaluation)) is not None:
            undone = [index for index in assignment.indices if job.results[index] is None]
            job.pending.extendleft(reversed(undone))


class PendingEvaluation:
    """An evaluation under way, as the learner holds it; made by `Gateway.evaluate`.

    Args:
        job: the evaluation.
        wait_for: waits for a condition, at most so many seconds; returns whether it holds.
    """

    def __init__(
        self, job: EvaluationJob, wait_for: Callable[[Callable[[], bool], float], bool]
    ) -> None:
        self._job, self._wait_for = job, wait_for

    @property
    def episodes_done(self) -> int:
        """Episodes that have a result."""
        return self._job.episodes_done

    @property
    def finished(self) -> bool:
        """Whether all episodes have a result."""
        return self.episodes_done == len(self._job.results)

    def result(self, timeout_seconds: float) -> list[EpisodeResult]:
        """Waits for the evaluation.

        Args:
            timeout_seconds: the longest wait.

        Returns:
            The results in the order of the seeds.

        Raises:
            TimeoutError: it is not finished by then.
            GatewayError: the gateway failed or was closed before it was finished.
        """
        if not self._wait_for(lambda: self.finished, timeout_seconds):
            done, count = self.episodes_done, len(self._job.results)
            raise TimeoutError(f"{done} of {count} evaluation episodes are done.")
        return [result for result in self._job.results if result is not None]
