"""Steps an environment with an actor: transitions for training, results for evaluation.

Everything random in a training episode derives from (run seed, worker id, episode index), so that
a worker that is started again either skips an episode or repeats it to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from iqlft_workers.actor import make_actor, renewed
from iqlft_workers.episode import Episode, EpisodeResult, evaluation
from iqlft_workers.transition import Transitions

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from iqlft_workers.actor import Actor, ActorWeights
    from iqlft_workers.environment import Environment, Step


def episode_randomness(seed: int, worker_id: int, episode: int) -> tuple[int, np.random.Generator]:
    """The sources of an episode's randomness.

    Args:
        seed: of the run.
        worker_id: of the worker.
        episode: index of the episode among this worker's.

    Returns:
        The seed of the environment's reset (31 bits, because many simulators take a C int), and the
        generator of the action noise.
    """
    environment, actions = np.random.SeedSequence((seed, worker_id, episode)).spawn(2)
    return int(environment.generate_state(1)[0]) & 0x7FFFFFFF, np.random.default_rng(actions)


class Rollout:
    """Training episodes, one after the other, as transitions.

    Args:
        environment: stepped by this rollout alone.
        weights: of the actor that chooses the actions; newer ones may be loaded between steps.
        seed: of the run.
        worker_id: of the worker.
        episode: index of the first episode.
        actions: `(k, A)` float32, executed actions of that episode that were recorded before; they
            are stepped again, unrecorded, to bring simulator and noise to the same state.
        capacity: the most transitions that are held before `take`.

    Attributes:
        capacity: see above.
    """

    def __init__(
        self,
        environment: Environment,
        weights: ActorWeights,
        *,
        seed: int,
        worker_id: int,
        episode: int = 0,
        actions: NDArray[np.float32] | None = None,
        capacity: int = 64,
    ) -> None:
        self.actor = make_actor(weights)
        self.load(weights)
        self.episode = episode
        self.pending = 0
        self._environment = environment
        self._seed, self._worker_id = seed, worker_id
        self.capacity = capacity
        self._held = _allocate(capacity, environment.observation_dim, environment.action_dim)
        self._begin()
        for action in () if actions is None else actions:
            self.actor.skip(action, self._rng)
            self._current.step(action)

    def load(self, weights: ActorWeights) -> None:
        """Acts with newer weights, and their guide, from the next step on."""
        self.actor, guide = renewed(self.actor, weights), weights.guide
        self._guide, self._guided_steps = (
            (make_actor(guide.weights), guide.steps) if guide else (self.actor, 0)
        )

    def _begin(self) -> None:
        environment_seed, self._rng = episode_randomness(self._seed, self._worker_id, self.episode)
        self._current = Episode(self._environment, environment_seed)

    @property
    def finished(self) -> EpisodeResult | None:
        """What the episode came to, if it is over."""
        return self._current.result() if self._current.finished else None

    @property
    def under_way(self) -> bool:
        """Whether an episode has begun and is not finished."""
        return self._current.length > 0 and not self._current.finished

    def leave_episode(self) -> None:
        """Leaves the episode, because its environment is needed for another; the next step resets.

        An episode that has begun ends where it is, and its transitions stay.
        """
        if self._current.length == 0 and not self._current.finished:
            self.episode -= 1  # The next step begins the same episode again.
        self._current.finished = True

    def step(self) -> None:
        """Takes one step and holds its transition; begins the next episode first if one is due.

        Raises:
            NotFiniteError: a value is not finite; call `discard` to leave the episode.
        """
        if self._current.finished:
            self.episode += 1
            self._begin()
        observation = self._current.observation
        guided = self._current.length < self._guided_steps
        action = (self._guide if guided else self.actor).sample(observation, self._rng)
        self._hold(observation, action, self._current.step(action))

    def discard(self) -> int:
        """Leaves an episode with a value that is not finite, and drops its held transitions.

        Returns:
            How many transitions are dropped.
        """
        dropped, self.pending = self.pending, 0
        self._current.finished = True  # The next step begins the next episode.
        return dropped

    def _hold(
        self, observation: NDArray[np.float32], action: NDArray[np.float32], step: Step
    ) -> None:
        held, index = self._held, self.pending
        held.observations[index] = observation
        held.actions[index] = action
        held.rewards[index] = step.reward
        held.next_observations[index] = step.observation
        held.terminated[index] = step.terminated
        held.truncated[index] = step.truncated
        held.versions[index] = self.actor.version
        self.pending += 1

    def take(self) -> Transitions:
        """The transitions held, in order; none is held afterwards."""
        arrays: tuple[NDArray[Any], ...] = self._held
        taken = Transitions(*(array[: self.pending].copy() for array in arrays))
        self.pending = 0
        return taken


def _allocate(capacity: int, observation_dim: int, action_dim: int) -> Transitions:
    return Transitions(
        observations=np.empty((capacity, observation_dim), np.float32),
        actions=np.empty((capacity, action_dim), np.float32),
        rewards=np.empty(capacity, np.float32),
        next_observations=np.empty((capacity, observation_dim), np.float32),
        terminated=np.empty(capacity, np.bool_),
        truncated=np.empty(capacity, np.bool_),
        versions=np.empty(capacity, np.uint32),
    )


def evaluate_episode(
    environment: Environment,
    actor: Actor,
    seed: int,
    after_step: Callable[[], None] = lambda: None,
) -> EpisodeResult:
    """Runs an evaluation episode to its end.

    Args:
        environment: see `evaluation`.
        actor: see `evaluation`.
        seed: see `evaluation`.
        after_step: called after each step; what it raises ends the evaluation.

    Returns:
        What the episode came to.

    Raises:
        NotFiniteError: a value is not finite.
    """
    moments = evaluation(environment, actor, seed)
    episode = next(moments)
    for _ in moments:
        after_step()
    return episode.result()
