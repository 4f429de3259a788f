"""What an episode can have come to, so that no worker puts a wonder into the curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gymnasium.envs import registration

from iqlft_workers.episode import PLACE_DIM
from iqlft_workers.registration import current_module
from iqlft_workers.wire import WireError

if TYPE_CHECKING:
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.episode import EpisodeResult

_LONGEST_EPISODE = 2**31
"""No episode has more steps, whatever its environment."""


class ResultError(WireError):
    """A result that no episode can have."""


def time_limit(environment: EnvironmentSpec) -> int | None:
    """The most steps of an episode, as far as it is known without building the environment."""
    steps = environment.kwargs.get("max_episode_steps")
    if steps is None:
        known = registration.registry.get(current_module(environment.id).rpartition(":")[2])
        steps = known.max_episode_steps if known else None
    return steps if isinstance(steps, int) and steps > 0 else None


def check_result(result: EpisodeResult, limit: int | None, seed: int | None = None) -> None:
    """Refuses an episode that cannot have been.

    Args:
        result: as decoded.
        limit: the most steps of an episode; None if that is not known.
        seed: of the episode; None if any.

    Raises:
        ResultError: its numbers are not finite, or do not fit together, or not the episode.
    """
    most = limit or _LONGEST_EPISODE
    if seed not in {None, result.seed}:
        raise ResultError(f"The episode of the seed {seed} was asked for, not of {result.seed}.")
    if not 1 <= result.length <= most:
        raise ResultError(f"An episode has 1 to {most} steps, not {result.length}.")
    if result.success != (1 <= result.first_hit <= result.length) or (
        not result.success and result.first_hit != -1
    ):
        raise ResultError("An episode's success and the step of it do not fit together.")
    if not all(map(math.isfinite, (result.episode_return, *result.start, *result.end))):
        raise ResultError("The return or a place of an episode is not a finite number.")
    if max(len(result.start), len(result.end)) > PLACE_DIM:
        raise ResultError(f"A place has {PLACE_DIM} values at most.")
