"""From an environment's spec to flat float32 observations, transformed rewards and success.

The one mapping between what Gymnasium (or a Minari dataset) calls an observation and a reward and
what the learner sees. Datasets and live steps both go through `flatten_observation` and
`EnvironmentSpec.transform_reward`, so that they cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from iqlft_workers.errors import UserError
from iqlft_workers.registration import any_version, current_module
from iqlft_workers.search_path import advice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class EnvironmentMismatchError(UserError):
    """An environment cannot be made from its spec, or does not fit the data or the actor."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """What is needed to build an environment in any process; plain data, never pickled.

    Attributes:
        id: Gymnasium id, such as `iqlft/AntMaze-UMaze-v0`.
        kwargs: keyword arguments of `gymnasium.make`.
        observation_keys: for a Dict observation, the keys that are concatenated, in this order,
            with a slash between the keys of nested Dicts (`achieved_goal/kettle`); empty for a Box
            observation.
        reward_scale: factor on the environment's reward.
        reward_shift: added after scaling; -1 turns AntMaze's 0/1 into -1/0.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_keys: tuple[str, ...] = ()
    reward_scale: float = 1.0
    reward_shift: float = 0.0

    def transform_reward(self, rewards: Any) -> Any:  # noqa: ANN401
        """Applies the task's reward transform to a scalar or an array."""
        return rewards * self.reward_scale + self.reward_shift

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON- and msgpack-ready data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EnvironmentSpec:
        """The inverse of `to_dict`; unknown keys and values of other types raise `TypeError`."""
        for key, kind in (("id", str), ("kwargs", dict), ("observation_keys", (list, tuple))):
            if key in data and not isinstance(data[key], kind):
                raise TypeError(f"The {key} of an environment cannot be {data[key]!r:.99}.")
        keys = tuple(data.get("observation_keys", ()))
        return cls(**{**data, "observation_keys": keys, "kwargs": dict(data.get("kwargs", {}))})


class Step(NamedTuple):
    """One environment step as the learner sees it.

    Attributes:
        observation: `(O,)` float32, after the step.
        reward: after the reward transform.
        raw_reward: as the environment gave it.
        terminated: the task is over.
        truncated: a time limit ended the episode.
        success: `info["success"]`, or False where the environment reports none.
    """

    observation: NDArray[np.float32]
    reward: float
    raw_reward: float
    terminated: bool
    truncated: bool
    success: bool


def flatten_observation(observation: Any, keys: tuple[str, ...]) -> NDArray[np.float32]:  # noqa: ANN401
    """One observation, or a batch of them, as float32 along the last axis.

    Args:
        observation: an array `(..., O)`, or a mapping of arrays when `keys` are given.
        keys: the mapping's keys, concatenated in this order; see `EnvironmentSpec`.

    Returns:
        `(..., O)` float32.
    """
    if keys:
        parts = [_leaf(observation, key) for key in keys]
        return np.concatenate(parts, axis=-1, dtype=np.float32)
    return np.asarray(observation, np.float32)


def _leaf(observation: Any, key: str) -> Any:  # noqa: ANN401
    if "/" not in key:
        return observation[key]
    outer, _, inner = key.partition("/")
    return _leaf(observation[outer], inner)


def vector_leaves(space: spaces.Space[Any]) -> dict[str, int]:
    """The vectors that make up an observation, and their widths.

    The rule for every environment and dataset: the leaves of a Dict in the space's own order
    (Gymnasium sorts the keys), depth first; a Box is its own single leaf, under the empty key.

    Args:
        space: an observation space.

    Raises:
        EnvironmentMismatchError: a leaf is not a vector of numbers.
    """
    if isinstance(space, spaces.Dict):
        return {
            f"{name}/{key}" if key else name: width
            for name, inner in space.spaces.items()
            for key, width in vector_leaves(inner).items()
        }
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise EnvironmentMismatchError(
            f"The observation space holds {space}, but only vectors of numbers, in Dicts or alone, "
            "can be learned from."
        )
    return {"": int(space.shape[0])}


def make(spec: EnvironmentSpec, **overrides: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401
    """Builds the Gymnasium environment of `spec`.

    Args:
        spec: what to build.
        overrides: keyword arguments that win over the spec's, such as `render_mode`.

    Raises:
        EnvironmentMismatchError: the id is unknown, and the message names the nearest known one; or
            the environment cannot be made with these keyword arguments.
    """
    mujoco.set_mju_user_warning(_log_warning)
    try:
        with any_version():
            name = current_module(spec.id) if ":" in spec.id else spec.id
            made = gymnasium.make(name, disable_env_checker=True, **{**spec.kwargs, **overrides})
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(spec.id, list(gymnasium.registry), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise EnvironmentMismatchError(
            f"No environment is registered as {spec.id!r}.{hint}"
        ) from error
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        module = spec.id.rpartition(":")[0] or getattr(error, "name", None) or ""
        raise EnvironmentMismatchError(
            f"{spec.id!r} cannot be made with {dict(spec.kwargs)}: {error}. Check the keyword "
            "arguments, and that the package that has the environment is installed here."
            f"{advice(module) if isinstance(error, ImportError) else ''}"
        ) from error
    # Gymnasium-Robotics writes a maze to a file at each construction and leaves it behind.
    if leftover := getattr(made.unwrapped, "tmp_xml_file_path", None):
        Path(leftover).unlink(missing_ok=True)
    return made


def _log_warning(text: str) -> None:
    """Takes MuJoCo's warnings, which it would append to a file in the folder of the user."""
    logger.log(logging.DEBUG if "deprecated" in text else logging.WARNING, "MuJoCo: %s", text)


class Environment:
    """A Gymnasium environment behind flat observations and [-1, 1] actions.

    Args:
        spec: what to build.

    Raises:
        EnvironmentMismatchError: unknown id, or spaces that are not continuous vectors.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self.spec = spec
        self.gym = make(spec)
        action_space = self.gym.action_space
        if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
            raise EnvironmentMismatchError(
                f"{spec.id} has the action space {action_space}; a vector of reals is needed."
            )
        self.action_dim = int(action_space.shape[0])
        self.observation_dim = self._flat_dim()
        # The actor's actions live in [-1, 1]; an environment with other bounds sees them rescaled.
        # Centre and half range keep an action as it is, to the last bit, where the bounds are +-1.
        self._centre = ((action_space.high + action_space.low) / 2).astype(np.float32)
        self._half_range = ((action_space.high - action_space.low) / 2).astype(np.float32)

    def columns(self, key: str) -> slice | None:
        """Where the values of an observation key stand in a flat observation; None if nowhere."""
        leaves, keys = vector_leaves(self.gym.observation_space), self.spec.observation_keys
        if key not in keys:
            return None
        first = sum(leaves[each] for each in keys[: keys.index(key)])
        return slice(first, first + leaves[key])

    def _flat_dim(self) -> int:
        leaves, keys = vector_leaves(self.gym.observation_space), self.spec.observation_keys
        missing = [key for key in keys if key not in leaves]
        if "" in leaves and keys:
            raise EnvironmentMismatchError(
                f"{self.spec.id} has one observation array, so observation_keys must be empty, "
                f"but it is {list(keys)}."
            )
        if missing or ("" not in leaves and not keys):
            raise EnvironmentMismatchError(
                f"{self.spec.id} observes the keys {list(leaves)}, but observation_keys "
                f"is {list(keys)}; name the keys that make up the observation."
            )
        return sum(leaves[key] for key in keys or ("",))

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Starts an episode and returns its first observation, `(O,)` float32."""
        observation, _ = self.gym.reset(seed=seed)
        return flatten_observation(observation, self.spec.observation_keys)

    def step(self, action: NDArray[np.float32]) -> Step:
        """Executes an action `(A,)` in [-1, 1]."""
        executed = self._centre + action * self._half_range
        observation, reward, terminated, truncated, info = self.gym.step(executed)
        raw_reward = float(reward)
        return Step(
            flatten_observation(observation, self.spec.observation_keys),
            float(self.spec.transform_reward(raw_reward)),
            raw_reward,
            bool(terminated),
            bool(truncated),
            bool(info.get("success", False)),
        )

    def close(self) -> None:
        """Frees the simulator."""
        self.gym.close()
