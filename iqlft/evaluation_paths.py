"""Where the agent of a maze goes in evaluation episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workers.actor import GaussianActor
from workers.environment import Environment
from workers.episode import Episode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqlft.policy import Policy


class EvaluationPath(NamedTuple):
    """One episode.

    Attributes:
        positions: `(T+1, 2)`: x and y from the start on, in metres.
        success: whether it reached its goal.
    """

    positions: NDArray[np.float32]
    success: bool


def evaluation_paths(policy: Policy, position: slice, seeds: Sequence[int]) -> list[EvaluationPath]:
    """Runs evaluation episodes, as workers do: mean action, the environment reset by the seed.

    Args:
        policy: a run's; it brings its environment.
        position: columns of x and y in an observation.
        seeds: one per episode.
    """
    environment, actor = Environment(policy.environment), GaussianActor(policy.weights)
    try:
        return [_path(Episode(environment, seed), actor, position) for seed in seeds]
    finally:
        environment.close()


def _path(episode: Episode, actor: GaussianActor, position: slice) -> EvaluationPath:
    positions = [episode.observation[position]]
    while not episode.finished:
        episode.step(actor.mean(episode.observation))
        positions.append(episode.observation[position])
    return EvaluationPath(np.array(positions), episode.result().success)
