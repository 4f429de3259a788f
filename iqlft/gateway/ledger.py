"""The ledger of what was accepted from the workers: counts, progress, what waits for delivery.

Two points in time are kept apart. A batch is *accepted* when it is checked, in the journal and
counted; it is *delivered* when the learner has taken it. A checkpoint states what was delivered,
because only that has been learned from; a worker that joins continues after what was accepted. What
a killed learner had accepted beyond its last checkpoint waits to be delivered again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqlft.gateway.records import BatchName
    from iqlft_workers.episode import EpisodeResult
    from iqlft_workers.messages import Batch
    from iqlft_workers.transition import Transitions


class WorkerProgress(NamedTuple):
    """How far a worker has come over the whole run.

    Attributes:
        env_steps: environment steps accepted from it.
        episode: index of the episode with which its next session begins.
        actions: `(k, A)` float32, the executed actions of that episode so far; empty except in
            lockstep, where a resumed episode continues instead of being left.
    """

    env_steps: int
    episode: int
    actions: NDArray[np.float32]


class TrainingEpisode(NamedTuple):
    """A training episode that has ended.

    Attributes:
        worker_id: of the worker that ran it.
        version: of the weights that chose its last action.
        episode_return: sum of the raw rewards.
        length: environment steps.
        success: whether any step reported success; None if none reported on it.
        env_steps: of the whole run, up to the episode's last step.
    """

    worker_id: int
    version: int
    episode_return: float
    length: int
    success: bool | None
    env_steps: int


class _Accepted(NamedTuple):
    worker_id: int
    batch: Batch
    end: int


class Ledger:
    """Counts of a run and what waits for the learner.

    Args:
        action_dim: A.
        lockstep: whether to remember the actions of unfinished episodes.

    Attributes:
        env_steps: accepted over the whole run, from all workers.
        delivered: of these, taken by the learner.
        position: the journal's length with the last batch that was delivered, in bytes.
    """

    def __init__(self, action_dim: int, *, lockstep: bool) -> None:
        self._none = np.empty((0, action_dim), np.float32)
        self._lockstep = lockstep
        self._progress: dict[int, WorkerProgress] = {}
        self._waiting: deque[_Accepted] = deque()
        self._episodes: list[TrainingEpisode] = []
        self.env_steps = self.delivered = self.position = 0

    def progress(self, worker_id: int) -> WorkerProgress:
        """Where a worker that joins now continues."""
        return self._progress.get(worker_id, WorkerProgress(0, 0, self._none))

    def record(self, worker_id: int, batch: Batch, end: int, *, delivered: bool = False) -> None:
        """Counts a batch that is in the journal; it then waits for the learner.

        Args:
            worker_id: whose it is.
            batch: checked.
            end: the journal's length with it.
            delivered: whether the learner took it before the run was interrupted.
        """
        self._progress[worker_id] = self._advance(self.progress(worker_id), batch)
        self.env_steps += len(batch.rewards)
        if delivered:
            self.delivered, self.position = self.env_steps, end
        else:
            self._waiting.append(_Accepted(worker_id, batch, end))

    def forgo(self, name: BatchName) -> None:
        """Skips a batch of which only the name is left; its episode cannot be continued."""
        progress = self.progress(name.worker_id)
        episode = max(progress.episode, name.episode + 1)
        self._progress[name.worker_id] = progress._replace(episode=episode, actions=self._none)

    def skip(self, worker_id: int, episode: int) -> None:
        """Skips the rest of an episode that has begun, or all of the worker's next one."""
        progress = self.progress(worker_id)
        if 0 <= episode <= progress.episode:
            following = max(progress.episode, episode + 1)
            self._progress[worker_id] = progress._replace(episode=following, actions=self._none)

    def settle(self, env_steps: int, position: int) -> None:
        """Counts as delivered what the learner took, though the journal may have lost some of it.

        Args:
            env_steps: environment steps that the learner had taken.
            position: the journal's length with them.
        """
        self.env_steps += env_steps - self.delivered
        self.delivered, self.position = env_steps, position

    def _advance(self, progress: WorkerProgress, batch: Batch) -> WorkerProgress:
        env_steps = progress.env_steps + len(batch.rewards)
        going_on = self._lockstep and batch.finished is None
        # `forgo` has ended every episode that has lost a batch.
        if going_on and batch.episode >= progress.episode:
            # Actions of an earlier, discarded episode are not this one's.
            before = progress.actions if batch.episode == progress.episode else self._none
            actions = np.concatenate([before, batch.actions])
            return WorkerProgress(env_steps, batch.episode, actions)
        # Without lockstep an episode that has begun is never begun again.
        return WorkerProgress(env_steps, max(progress.episode, batch.episode + 1), self._none)

    def waiting(self, allowed: int) -> bool:
        """Whether there is something to be delivered, see `deliver`."""
        return bool(self._waiting) and self.delivered < allowed

    def deliver(self, allowed: int) -> list[Transitions]:
        """Hands over what waits, in the order of its acceptance.

        Args:
            allowed: environment steps that the learner's pace allows in all. Workers never exceed
                it, but what a killed learner had accepted may.
        """
        delivered = []
        while self.waiting(allowed):
            worker_id, batch, self.position = self._waiting.popleft()
            self.delivered += len(batch.rewards)
            delivered.append(batch.transitions)
            if batch.finished is not None:
                self._episodes.append(self._episode(worker_id, batch, batch.finished))
        return delivered

    def _episode(self, worker_id: int, batch: Batch, result: EpisodeResult) -> TrainingEpisode:
        return TrainingEpisode(
            worker_id,
            int(batch.versions[-1]),
            result.episode_return,
            result.length,
            result.success,
            self.delivered,
        )

    def finished_episodes(self) -> list[TrainingEpisode]:
        """Training episodes since the last call whose last transitions have been delivered."""
        episodes, self._episodes = self._episodes, []
        return episodes
