"""One episode under way: the single place in the repository where environment steps are counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from iqlft_workers.actor import Actor
    from iqlft_workers.environment import Environment, Step

PLACE_DIM = 2
"""How many leading observation values say where an episode began and ended (x, y in AntMaze)."""


_GREATEST = float(np.finfo(np.float32).max)
"""Greatest number of float32, the type in which everything is learned."""


class EpisodeResult(NamedTuple):
    """What an episode came to; plain numbers, so that it travels in a message header.

    Attributes:
        seed: of the environment's reset.
        episode_return: sum of the raw rewards.
        length: environment steps.
        success: whether any step reported success; None if none reported on it.
        start: leading values of the first observation.
        end: leading values of the last observation.
        first_hit: number of the first step that reported success (1 is the first), or -1.
    """

    seed: int
    episode_return: float
    length: int
    success: bool | None
    start: tuple[float, ...]
    end: tuple[float, ...]
    first_hit: int


class NotFiniteError(UserError):
    """A value of an environment is not finite, so that nothing can be learned from it.

    Args:
        sentence: which value, where, and what to do.
        result: what the episode had come to before.
    """

    def __init__(self, sentence: str, result: EpisodeResult) -> None:
        super().__init__(sentence)
        self.result = result


class Episode:
    """Resets an environment and steps it until the episode is over.

    Args:
        environment: not shared with another episode until this one is finished.
        seed: of the reset.
    """

    def __init__(self, environment: Environment, seed: int) -> None:
        self._environment = environment
        self._seed = seed
        self.observation = environment.reset(seed)
        self._start = _place(self.observation)
        self._return = 0.0
        self._first_hit, self._reported = -1, False
        self.length = 0
        self.finished = False

    def step(self, action: NDArray[np.float32]) -> Step:
        """Executes an action `(A,)` in [-1, 1]; `observation` is the newest one afterwards.

        Raises:
            NotFiniteError: a value is not finite; the episode stays as it was before this step.
        """
        if self.length == 0:
            self._require_finite("observation", self.observation)
        step = self._environment.step(action)
        self._require_finite("observation", step.observation, step=1)
        self._require_finite("reward", np.array([step.raw_reward, step.reward]), step=1)
        self.observation = step.observation
        self.length += 1
        self._return += step.raw_reward
        self._reported |= step.success is not None
        if step.success and self._first_hit < 0:
            self._first_hit = self.length
        self.finished = step.terminated or step.truncated
        return step

    def _require_finite(self, what: str, values: NDArray[Any], step: int = 0) -> None:
        finite = np.abs(values) <= _GREATEST
        if finite.all():
            return
        at, name = int(finite.argmin()), self._environment.spec.id
        raise NotFiniteError(
            f"Step {self.length + step} of the episode with the seed {self._seed} of {name} gave "
            f"{values[at]:g} in value {at} of the {what}, perhaps because the simulation has "
            "diverged; mend it, for example by a shorter time step or narrower actions.",
            self.result(),
        )

    def result(self) -> EpisodeResult:
        """What the episode has come to so far."""
        return EpisodeResult(
            seed=self._seed,
            episode_return=self._return,
            length=self.length,
            success=self._first_hit > 0 if self._reported else None,
            start=self._start,
            end=_place(self.observation),
            first_hit=self._first_hit,
        )


def evaluation(environment: Environment, actor: Actor, seed: int) -> Iterator[Episode]:
    """Runs one episode for evaluation, which depends on the weights and the seed alone.

    Args:
        environment: never one in which a training episode is under way.
        actor: whose actions are executed, mean ones unless its kind samples in evaluations.
        seed: of the environment's reset, and of a stream of its own for such samples.

    Yields:
        The episode, always the same one: after the reset, and after each step.

    Raises:
        NotFiniteError: a value is not finite.
    """
    # Gymnasium draws from `default_rng(seed)`, so that the same stream would know its reset.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    episode = Episode(environment, seed)
    yield episode
    while not episode.finished:
        episode.step(actor.evaluate(episode.observation, rng))
        yield episode


def _place(observation: NDArray[np.float32]) -> tuple[float, ...]:
    place = tuple(float(value) for value in observation[:PLACE_DIM])
    return place if all(map(math.isfinite, place)) else ()
