"""From an environment's spec to flat float32 observations, transformed rewards and success.

The one mapping between what Gymnasium (or a Minari dataset) calls an observation and a reward and
what the learner sees. Datasets and live steps both go through `observation.flatten` and
`EnvironmentSpec.transform_reward`, so that they cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import operator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

from iqlft_workers.actions import ActionRange, actions_refusal
from iqlft_workers.errors import UserError
from iqlft_workers.failures import RAISED, EnvironmentFailedError, Reported, described
from iqlft_workers.observation import (
    EnvironmentMismatchError as EnvironmentMismatchError,  # noqa: PLC0414 -- of this interface
)
from iqlft_workers.observation import Leaf, flatten, observation_bounds, observed_leaves
from iqlft_workers.placeholders import filled
from iqlft_workers.registration import any_version, current_module
from iqlft_workers.search_path import advice
from iqlft_workers.trust import require_trust
from iqlft_workers.versions import robotics_misfit
from iqlft_workers.wrapping import RecordedWrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnvironmentSpec:
    """What is needed to build an environment in any process; plain data, never pickled.

    Attributes:
        id: Gymnasium id, such as `iqlft/AntMaze-UMaze-v0`; empty if the data record none.
        kwargs: keyword arguments of `gymnasium.make`; see `iqlft_workers.placeholders`.
        observation_keys: for a Dict observation, the keys that are concatenated, in this order,
            with a slash between the keys of nested Dicts (`achieved_goal/kettle`); empty for any
            other observation.
        reward_scale: factor on the environment's reward.
        reward_shift: added after scaling; -1 turns AntMaze's 0/1 into -1/0.
        entry_point: `module:Class` as recorded; empty: what is registered under the id.
        wrappers: the recorded ones, from the inside out.
        action_low: lower bounds of the data's actions, `(A,)`; empty: not known.
        action_high: upper bounds.
        trust: whether the user allows code to run that no installed package registers.
        success_key: key in a step's info that reports success; empty: `success`, else `is_success`.
        observation_leaves: the parts of the data's observations; empty: vectors, as they are.
        action_shape: of the environment's actions; None: `(A,)`.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_keys: tuple[str, ...] = ()
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    entry_point: str = ""
    wrappers: tuple[RecordedWrapper, ...] = ()
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    trust: bool = False
    success_key: str = ""
    observation_leaves: tuple[Leaf, ...] = ()
    action_shape: tuple[int, ...] | None = None

    @property
    def action_range(self) -> ActionRange | None:
        """The range of the data's actions; None if it is not known."""
        return ActionRange.of(self.action_low, self.action_high) if self.action_low else None

    def transform_reward(self, rewards: Any) -> Any:  # noqa: ANN401
        """Applies the task's reward transform to a scalar or an array."""
        return rewards * self.reward_scale + self.reward_shift

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON- and msgpack-ready data."""
        return dataclasses.asdict(self) | {
            name: [each._asdict() for each in getattr(self, name)]
            for name in ("wrappers", "observation_leaves")
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EnvironmentSpec:
        """The inverse of `to_dict`; unknown keys and values of other types raise `TypeError`."""
        for key, kind in _TYPES.items():
            if key in data and not isinstance(data[key], kind):
                raise TypeError(f"The {key} of an environment cannot be {data[key]!r:.99}.")
        lists = {key: tuple(data.get(key, ())) for key in _LISTS}
        if not all(isinstance(each, (int, float)) for key in _LISTS[1:] for each in lists[key]):
            raise TypeError("The bounds of an environment's actions must be numbers.")
        wrappers = tuple(map(RecordedWrapper.from_dict, data.get("wrappers", ())))
        read = {
            **lists,
            "kwargs": dict(data.get("kwargs", {})),
            "wrappers": wrappers,
            "observation_leaves": tuple(map(Leaf.from_dict, data.get("observation_leaves", ()))),
        }
        if data.get("action_shape") is not None:
            read["action_shape"] = tuple(map(operator.index, data["action_shape"]))
        return cls(**{**data, **read})


_LISTS = "observation_keys", "action_low", "action_high"
"""Fields of a spec that are lists as JSON."""
_TYPES: dict[str, Any] = {
    "id": str, "kwargs": dict, "entry_point": str, "trust": bool, "wrappers": (list, tuple),
    "success_key": str, "observation_leaves": (list, tuple),
    **dict.fromkeys(_LISTS, (list, tuple)),
}  # fmt: skip
"""Types of a spec's fields as JSON, where they are checked."""


class Step(NamedTuple):
    """One environment step as the learner sees it.

    Attributes:
        observation: `(O,)` float32, after the step.
        reward: after the reward transform.
        raw_reward: as the environment gave it.
        terminated: the task is over.
        truncated: a time limit ended the episode.
        success: as the environment reports it; None if it does not.
    """

    observation: NDArray[np.float32]
    reward: float
    raw_reward: float
    terminated: bool
    truncated: bool
    success: bool | None


SUCCESS_KEYS = "success", "is_success"
"""Keys by which environments report success in a step's info; the first that is there counts."""


def reported_success(info: Mapping[str, Any], key: str = "") -> bool | None:
    """Whether a step's info reports success; None if it reports nothing.

    Args:
        info: of the step.
        key: where success is reported; empty: the first of `SUCCESS_KEYS` that is there.

    Raises:
        EnvironmentMismatchError: the value is no flag.
    """
    name = next((each for each in ((key,) if key else SUCCESS_KEYS) if each in info), None)
    if name is None or info[name] is None:
        return None
    flag = np.asarray(info[name])
    if flag.size != 1 or flag.dtype.kind not in "biuf" or flag.item() not in (0, 1):
        raise EnvironmentMismatchError(
            f"The environment says info[{name!r}] = {info[name]!r:.99}, which is neither true nor "
            "false; name what says success (--success-key KEY)."
        )
    return bool(flag.item())


def require_named(spec: EnvironmentSpec) -> None:
    """Raises `EnvironmentMismatchError` where the data record no environment."""
    if not spec.id:
        raise EnvironmentMismatchError(
            "The data record no environment, so that no episode can be run; pretrain with one "
            "that you name (--environment ID)."
        )


def require_trusted(spec: EnvironmentSpec) -> None:
    """Refuses the code that a spec names, unless it may be run; see `iqlft_workers.trust`.

    Raises:
        UntrustedError: data name the code, and nobody has vouched for it.
    """
    named = [current_module(each) for each in (spec.entry_point, spec.id) if ":" in each]
    require_trust(spec.id, named[:1], spec.kwargs, trust=spec.trust)


def make(spec: EnvironmentSpec, **overrides: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401
    """Builds the Gymnasium environment of `spec`.

    Args:
        spec: what to build.
        overrides: keyword arguments that win over the spec's, such as `render_mode`.

    Raises:
        EnvironmentMismatchError: the data record no environment; the id is unknown, and the message
            names the nearest known one, if any is near; or the environment cannot be made with
            these keyword arguments.
        UntrustedError: data name code in it that nobody has vouched for.
        WrapperError: a recorded wrapper cannot be put on again.
    """
    mujoco.set_mju_user_warning(_log_warning)
    require_named(spec)
    require_trusted(spec)
    kwargs = {**filled(spec.kwargs), **overrides}
    try:
        with any_version():
            bare = gymnasium.make(_target(spec), disable_env_checker=True, **kwargs)
        with ExitStack() as undone:
            undone.callback(bare.close)
            made = wrap(bare, spec.wrappers, trust=spec.trust)
            undone.pop_all()
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(spec.id, list(gymnasium.registry), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise EnvironmentMismatchError(
            f"No environment is registered as {spec.id!r}.{hint}"
        ) from error
    except UserError:
        raise
    except RAISED as error:  # its module and its constructor may raise anything
        # What Python and Gymnasium say of a wrong call is clear without the error's name.
        known = isinstance(error, (gymnasium.error.Error, ImportError, TypeError, ValueError))
        reason = " ".join(str(error).split()) if known else described(error)
        module = spec.id.rpartition(":")[0] or getattr(error, "name", None) or ""
        raise EnvironmentMismatchError(
            f"{spec.id!r} cannot be made with {dict(spec.kwargs)}: {reason}. Check the keyword "
            "arguments, and that the package that has the environment is installed here."
            f"{advice(module) if isinstance(error, ImportError) else _version_advice(spec)}"
        ) from error
    # Gymnasium-Robotics writes a maze to a file at each construction and leaves it behind.
    if leftover := getattr(made.unwrapped, "tmp_xml_file_path", None):
        Path(leftover).unlink(missing_ok=True)
    return Reported(made, spec.id)


def _version_advice(spec: EnvironmentSpec) -> str:
    """What to install if an environment of Gymnasium-Robotics cannot be made here; or nothing."""
    known = gymnasium.registry.get(spec.id.rpartition(":")[2])
    named = f"{spec.entry_point or spec.id} {known.entry_point if known else ''}"
    misfit = robotics_misfit() if "gymnasium_robotics" in named else ""
    return f" {misfit}." if misfit else ""


def _target(spec: EnvironmentSpec) -> str | EnvSpec:
    """The first argument of `gymnasium.make`: the recorded class itself, or an id to look up."""
    if spec.entry_point:
        return EnvSpec(spec.id.rpartition(":")[2], current_module(spec.entry_point))
    return current_module(spec.id) if ":" in spec.id else spec.id


def _log_warning(text: str) -> None:
    """Logs MuJoCo's warnings, which it would else append to a file in the current folder."""
    logger.log(logging.DEBUG if "deprecated" in text else logging.WARNING, "MuJoCo: %s", text)


class Environment:
    """A Gymnasium environment behind flat observations and [-1, 1] actions.

    Args:
        spec: what to build.

    Raises:
        EnvironmentMismatchError: the id is unknown, or a space is not the data's or does not fit
            into vectors.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self.spec = spec
        self.gym = make(spec)
        action_space: Any = self.gym.action_space
        if refusal := actions_refusal(action_space, (each.class_name for each in spec.wrappers)):
            self.gym.close()
            raise EnvironmentMismatchError(f"{spec.id} has {refusal}")
        self._leaves = self._observed()
        self.observation_dim = sum(leaf.width for leaf in self._leaves)
        # The actor's actions live in [-1, 1]; an environment with other bounds sees them rescaled.
        self.action_range = ActionRange.of(action_space.low.ravel(), action_space.high.ravel())
        self.action_dim = len(self.action_range.low)
        known = spec.action_range
        if known is not None and known.differs(self.action_range):
            self.gym.close()
            raise EnvironmentMismatchError(
                f"The data have actions in {known}, but {spec.id} takes those in "
                f"{self.action_range}; choose the environment of the data, or wrap it in "
                "gymnasium.wrappers.RescaleAction."
            )

    @property
    def observation_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds of a flat observation, `(O,)` each."""
        return observation_bounds(self.gym.observation_space, self._leaves)

    def columns(self, key: str) -> slice | None:
        """The columns of an observation key in a flat observation; None if it has none."""
        first = 0
        for leaf in self._leaves:
            if leaf.key == key:
                return slice(first, first + leaf.width)
            first += leaf.width
        return None

    def _observed(self) -> tuple[Leaf, ...]:
        """The leaves of the environment's observations, if they are the data's."""
        spec, space = self.spec, self.gym.observation_space
        try:
            found = observed_leaves(space, spec.observation_keys)
        except EnvironmentMismatchError as error:
            self.gym.close()
            raise EnvironmentMismatchError(f"{spec.id} does not fit: {error}.") from error
        if spec.observation_leaves and found != spec.observation_leaves:
            self.gym.close()
            raise EnvironmentMismatchError(
                f"{spec.id} observes {_named(found)}, but the data hold "
                f"{_named(spec.observation_leaves)}; choose the environment of the data."
            )
        return found

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Starts an episode and returns its first observation, `(O,)` float32."""
        observation, _ = self.gym.reset(seed=seed)
        try:
            return self._flat(observation)
        except UserError:
            raise
        except Exception as error:  # what it gives may be anything
            raise self._unreadable("reset", error) from error

    def step(self, action: NDArray[np.float32]) -> Step:
        """Executes an action `(A,)` in [-1, 1]."""
        executed = self.action_range.to_environment(action).reshape(self.gym.action_space.shape)
        observation, reward, terminated, truncated, info = self.gym.step(executed)
        try:
            raw_reward = _number(reward)
            return Step(
                self._flat(observation),
                float(self.spec.transform_reward(raw_reward)),
                raw_reward,
                bool(terminated),
                bool(truncated),
                reported_success(info, self.spec.success_key),
            )
        except UserError:
            raise
        except Exception as error:
            raise self._unreadable("step", error) from error

    def _flat(self, observation: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """An observation as a vector of the width that its space has."""
        values = flatten(observation, self._leaves)
        if values.shape != (self.observation_dim,):
            raise ValueError(
                f"an observation of {values.size} values, where its space has "
                f"{self.observation_dim}"
            )
        return values

    def _unreadable(self, call: str, error: Exception) -> EnvironmentFailedError:
        return EnvironmentFailedError(
            f"{self.spec.id!r} gives in {call} what its spaces do not say ({described(error)}); "
            "mend the environment, then repeat the command, or resume the run."
        )

    def close(self) -> None:
        """Frees the simulator; a failure to close it is only logged."""
        try:
            self.gym.close()
        except RAISED as error:
            name = f"{type(error).__name__}: {error}"
            logger.warning("%s could not be closed (%s).", self.spec.id, name)


def _number(reward: Any) -> float:  # noqa: ANN401
    """A reward as a float, from a number or an array of one value.

    Raises:
        EnvironmentMismatchError: it is not one number.
    """
    if isinstance(reward, (int, float)):
        return float(reward)
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise EnvironmentMismatchError(
            f"The environment gives the reward {reward!r:.99}, but one number is needed."
        )
    return float(array.item())


def _named(leaves: Sequence[Leaf]) -> str:
    """Parts of an observation, as a message shows them."""
    names = (leaf.key or "an array" for leaf in leaves)
    shapes = (list(leaf.categories or leaf.shape) for leaf in leaves)
    return ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
