"""Where the agent of a maze goes in evaluation episodes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqlft_workers.actor import make_actor
from iqlft_workers.environment import Environment
from iqlft_workers.episode import evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from iqlft.runs.policy import Policy
    from iqlft_workers.episode import Episode


class EvaluationPath(NamedTuple):
    """One episode.

    Attributes:
        positions: `(T+1, 2)`: x and y from the start on, in metres.
        success: whether it reached its goal; None where the environment does not say.
    """

    positions: NDArray[np.float32]
    success: bool | None


def evaluation_paths(policy: Policy, position: slice, seeds: Sequence[int]) -> list[EvaluationPath]:
    """Runs evaluation episodes in this process.

    Args:
        policy: of a run, with its environment.
        position: columns of x and y in an observation.
        seeds: one per episode.
    """
    actor = make_actor(policy.weights)
    with closing(Environment(policy.environment)) as environment:
        return [_path(evaluation(environment, actor, seed), position) for seed in seeds]


def _path(moments: Iterator[Episode], position: slice) -> EvaluationPath:
    episode = next(moments)
    positions = [episode.observation[position], *(each.observation[position] for each in moments)]
    return EvaluationPath(np.array(positions), episode.result().success)
