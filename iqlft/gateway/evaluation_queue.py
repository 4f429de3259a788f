"""The queue of evaluation episodes, which go to another worker if theirs is lost or too slow."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from secrets import randbits
from typing import TYPE_CHECKING

import numpy as np

from iqlft.config.settings import MachineConfig
from iqlft.gateway.plausibility import check_discarded, check_result
from iqlft_workers.messages import Evaluate
from iqlft_workers.wire import pack_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from iqlft.gateway.plausibility import EpisodeLimits
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.episode import EpisodeResult

MAX_ASSIGNED_EPISODES = 4
"""The most episodes that a worker is assigned at once."""
DEADLINE_SECONDS: float = MachineConfig.eval_deadline_seconds
"""How long an episode may take before it is assigned to another worker too, while the usual time
is unknown."""
DEADLINE_FACTOR = 5.0
"""The same deadline as a multiple of the usual time, once that is known."""
LEAST_DEADLINE_SECONDS = 10.0
"""The least such deadline, unless a shorter one was asked for."""
SLOW_STEP_SECONDS = 0.05
"""While the usual time is unknown, a step is assumed to last this long at most."""
_KNOWN_EPISODES = 4
"""Episodes after which the usual time is known."""
_REMEMBERED_EPISODES = 64
"""Newest episodes whose median is the usual time; a single worker does not shift it."""


class EvaluationJob:
    """One evaluation: the same weights, one episode per seed.

    Args:
        number: of the evaluation.
        weights: of the policy that is evaluated.
        seeds: of the episodes.

    Attributes:
        results: in the order of the seeds; None while an episode is not done.
        pending: places, in that order, of the episodes that are to be assigned.
        withheld: worker ids that kept an episode for too long, by its place.
    """

    def __init__(self, number: int, weights: ActorWeights, seeds: Sequence[int]) -> None:
        self.number = number
        self.results: list[EpisodeResult | None] = [None] * len(seeds)
        self.pending = deque(range(len(seeds)))
        self.withheld: dict[int, set[int]] = defaultdict(set)
        self._seeds = tuple(int(seed) for seed in seeds)
        self._packed = np.frombuffer(pack_weights(weights), np.uint8)

    @property
    def episodes_done(self) -> int:
        """Episodes that have a result."""
        return sum(result is not None for result in self.results)

    def assign(self, worker_id: int, ready: Collection[int]) -> Evaluate | None:
        """Assigns the next episodes to a worker; fewer at a time towards the end.

        Args:
            worker_id: who is to run them; it gets none that it has withheld, if others may run it.
            ready: ids of all workers that may evaluate.

        Returns:
            The episodes; None if there are none for this worker.
        """
        size = min(MAX_ASSIGNED_EPISODES, max(1, len(self.pending) // (2 * len(ready))))
        fit = [place for place in self.pending if self._may_run(worker_id, place, ready)][:size]
        for place in fit:
            self.pending.remove(place)
        seeds = tuple(self._seeds[place] for place in fit)
        return Evaluate(self.number, tuple(fit), seeds, self._packed) if fit else None

    def _may_run(self, worker_id: int, place: int, ready: Collection[int]) -> bool:
        withheld = self.withheld.get(place, set())
        return worker_id not in withheld or withheld.issuperset(ready)

    def requeue(self, places: Collection[int]) -> None:
        """Puts episodes that have no result back, in front."""
        undone = {place for place in places if self.results[place] is None}
        self.pending.extendleft(sorted(undone.difference(self.pending), reverse=True))


class EvaluationQueue:
    """Evaluations under way, first come, first served.

    Args:
        limits: of an episode.
        deadline_seconds: see `DEADLINE_SECONDS`.
    """

    def __init__(self, limits: EpisodeLimits, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._jobs: dict[int, EvaluationJob] = {}
        # Not from 0: a worker may still hold an evaluation of the previous learner.
        self._count = randbits(48)
        self._limits, self._deadline_seconds = limits, deadline_seconds
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED_EPISODES)

    @property
    def deadline_seconds(self) -> float:
        """How long an episode may take before it is assigned to another worker too."""
        if len(self._seconds) < _KNOWN_EPISODES:
            return max(self._deadline_seconds, (self._limits.steps or 0) * SLOW_STEP_SECONDS)
        usual = DEADLINE_FACTOR * statistics.median(self._seconds)
        return max(min(LEAST_DEADLINE_SECONDS, self._deadline_seconds), usual)

    @property
    def under_way(self) -> bool:
        """Whether there is an evaluation that is not done."""
        return bool(self._jobs)

    def enqueue(self, weights: ActorWeights, seeds: Sequence[int]) -> EvaluationJob:
        """Appends an evaluation."""
        self._count += 1
        job = EvaluationJob(self._count, weights, seeds)
        if job.results:
            self._jobs[job.number] = job
        return job

    def assign(self, worker_id: int, ready: Collection[int]) -> Evaluate | None:
        """Episodes for a worker that is free, see `EvaluationJob.assign`."""
        for job in self._jobs.values():
            if job.pending and (assignment := job.assign(worker_id, ready)) is not None:
                return assignment
        return None

    def record(
        self,
        assignment: Evaluate,
        place: int,
        result: EpisodeResult,
        seconds: float,
        *,
        discarded: bool = False,
    ) -> None:
        """Keeps the first result of an episode; another worker's would be the same.

        Args:
            assignment: of the worker that sent the result.
            place: of the episode in the evaluation; one of the assignment's.
            result: what the episode came to.
            seconds: that the worker took for it.
            discarded: whether it ended at a value that is not finite, and so has no return.

        Raises:
            ResultError: the result is not possible.
        """
        seed = assignment.seeds[assignment.indices.index(place)]
        if discarded:
            check_discarded(result, self._limits, seed)
            result = result._replace(episode_return=math.nan)
        else:
            check_result(result, self._limits, seed)
        job = self._jobs.get(assignment.evaluation)
        if job is None or job.results[place] is not None:
            return
        job.results[place] = result
        self._seconds.append(seconds)
        if place in job.pending:
            job.pending.remove(place)
        if job.episodes_done == len(job.results):
            del self._jobs[assignment.evaluation]

    def requeue(self, assignment: Evaluate, withheld_by: int | None = None) -> None:
        """Lets others run the episodes that a lost or too slow worker has not done.

        Args:
            assignment: of the worker.
            withheld_by: the worker's id, if it is not lost.
        """
        if (job := self._jobs.get(assignment.evaluation)) is not None:
            job.requeue(assignment.indices)
            if withheld_by is not None:
                for place in assignment.indices:
                    job.withheld[place].add(withheld_by)


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
