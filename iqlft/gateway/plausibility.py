"""What results an episode can have, so that no worker puts impossible ones into the curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from iqlft.datasets.time_limit import limit_of
from iqlft_workers.episode import PLACE_DIM
from iqlft_workers.wire import WireError

if TYPE_CHECKING:
    from typing import Self

    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.episode import EpisodeResult

_LONGEST_EPISODE = 2**31
"""The most steps of an episode, whatever its environment."""


class ResultError(WireError):
    """A result that no episode can have."""


class EpisodeLimits(NamedTuple):
    """Limits of an episode, as far as they are known.

    Attributes:
        steps: the most steps; None if that is not known.
        rewards: the least and the greatest raw reward of a step.
    """

    steps: int | None = None
    rewards: tuple[float, float] = (-math.inf, math.inf)

    @classmethod
    def of(cls, environment: EnvironmentSpec, rewards: tuple[float, float] | None = None) -> Self:
        """The limits in an environment.

        Args:
            environment: the spec, which is not built.
            rewards: the least and the greatest after its reward transform; None if not known.
        """
        steps = limit_of(environment)
        if rewards is None or environment.reward_scale == 0:
            return cls(steps)
        raw = [(each - environment.reward_shift) / environment.reward_scale for each in rewards]
        return cls(steps, (min(raw), max(raw)))


def check_result(result: EpisodeResult, limits: EpisodeLimits, seed: int | None = None) -> None:
    """Refuses a result that no episode can have.

    Args:
        result: as decoded.
        limits: of an episode.
        seed: of the episode; None for any.

    Raises:
        ResultError: its numbers are not finite, or do not fit together, the limits or the seed.
    """
    most = limits.steps or _LONGEST_EPISODE
    if seed not in {None, result.seed}:
        raise ResultError(f"The episode of the seed {seed} was asked for, not of {result.seed}.")
    if not 1 <= result.length <= most:
        raise ResultError(f"An episode has 1 to {most} steps, not {result.length}.")
    if bool(result.success) != (1 <= result.first_hit <= result.length) or (
        not result.success and result.first_hit != -1
    ):
        raise ResultError("An episode's success and the step of it do not fit together.")
    if not all(map(math.isfinite, (result.episode_return, *result.start, *result.end))):
        raise ResultError("The return or a place of an episode is not a finite number.")
    least, greatest = (result.length * reward for reward in limits.rewards)
    if not least <= result.episode_return <= greatest:
        raise ResultError(
            f"{result.length} steps return {least:.4g} to {greatest:.4g}, not "
            f"{result.episode_return:.4g}."
        )
    if max(len(result.start), len(result.end)) > PLACE_DIM:
        raise ResultError(f"A place has {PLACE_DIM} values at most.")


def check_discarded(result: EpisodeResult, limits: EpisodeLimits, seed: int) -> None:
    """Refuses a result that no episode can have had before a value that is not finite.

    Args:
        result: as decoded.
        limits: of an episode.
        seed: of the episode.

    Raises:
        ResultError: see `check_result`; but a length of 0 and any finite return are possible.
    """
    anything = limits._replace(rewards=(-math.inf, math.inf))
    check_result(result._replace(length=result.length or 1), anything, seed)
