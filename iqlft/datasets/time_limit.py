"""A time limit for every episode: the environment's own, or that of the recorded episodes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from gymnasium import Wrapper
from gymnasium.wrappers import TimeLimit

if TYPE_CHECKING:
    import gymnasium

    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft_workers.environment import EnvironmentSpec

KEY = "max_episode_steps"
"""The argument of `gymnasium.make`."""


def has_time_limit(environment: gymnasium.Env[Any, Any]) -> bool:
    """Whether something counts the steps of an episode around an environment."""
    while isinstance(environment, Wrapper):
        if isinstance(environment, TimeLimit):
            return True
        environment = environment.env
    return False


def limited(spec: EnvironmentSpec, steps: int) -> EnvironmentSpec:
    """The environment whose episodes end after so many steps."""
    return dataclasses.replace(spec, kwargs={**spec.kwargs, KEY: steps})


def limit_episodes(dataset: OfflineDataset, environment: gymnasium.Env[Any, Any]) -> None:
    """Gives a dataset's environment the longest recorded length, where it has no limit; says so.

    Args:
        dataset: whose `environment` and `notes` change then.
        environment: as it is made of them now.
    """
    if has_time_limit(environment):
        return
    steps = dataset.longest_episode
    note = (
        f"{dataset.environment.id} has no time limit: its episodes end after {steps:,} steps, as "
        "the longest recorded one did; --max-episode-steps sets another limit."
    )
    dataset.notes += (note,)
    dataset.environment = limited(dataset.environment, steps)
