"""A time limit for every episode: the environment's own, or the longest recorded length."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from gymnasium import Wrapper
from gymnasium.envs import registration
from gymnasium.wrappers import TimeLimit

from iqlft_workers.registration import current_module

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


def limit_of(spec: EnvironmentSpec) -> int | None:
    """The time limit that a spec or its registration names; None if neither does.

    The environment is not built; one that is may have a limit all the same, see `has_time_limit`.
    """
    steps = spec.kwargs.get(KEY)
    # A recorded class is built without the time limit that is registered under its id.
    if steps is None and not spec.entry_point:
        known = registration.registry.get(current_module(spec.id).rpartition(":")[2])
        steps = known.max_episode_steps if known else None
    return steps if isinstance(steps, int) and steps > 0 else None


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
