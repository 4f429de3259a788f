"""A time limit for every episode: the environment's own, or the longest recorded length."""

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
"""The argument of `gymnasium.make` that sets a time limit."""


def has_time_limit(environment: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment is wrapped in a `TimeLimit`."""
    while isinstance(environment, Wrapper):
        if isinstance(environment, TimeLimit):
            return True
        environment = environment.env
    return False


def limited(spec: EnvironmentSpec, steps: int) -> EnvironmentSpec:
    """The same environment, with episodes that end after `steps` steps."""
    return dataclasses.replace(spec, kwargs={**spec.kwargs, KEY: steps})


def limit_episodes(dataset: OfflineDataset, environment: gymnasium.Env[Any, Any]) -> None:
    """Limits episodes to the longest recorded length if the environment has no time limit.

    Args:
        dataset: whose `environment` is then given the limit, with one of its `notes` saying so.
        environment: the dataset's environment, as made now.
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
