"""A trained policy on disk: safetensors and JSON, and the NumPy function that they make.

Each of the two files carries its digest, and the weights their version too: even if the writing of
a new policy is interrupted, the folder holds a whole one.

Nothing here imports torch: a policy runs wherever NumPy does.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from iqlft.runs import seals
from iqlft.runs.folder import vouches
from iqlft_workers.actor import TANH_GAUSSIAN, ActorWeights, check_weights, make_actor
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.errors import UserError
from iqlft_workers.failures import described
from iqlft_workers.files import as_os_error, remedy, replacing, unwritten, write_atomically
from iqlft_workers.observation import Leaf, flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)
WEIGHTS, DESCRIPTION = "actor.safetensors", "policy.json"
"""The files of a policy folder."""

_OWN = "version", "kind", "settings", "environment"
"""Keys that `policy.json` has for every policy."""


class PolicyError(UserError):
    """A policy folder that is missing, damaged, or does not fit the environment."""


class Policy:
    """A trained actor as a function of an environment's observation.

    Args:
        weights: the actor's weights.
        environment: the environment that it was trained for.
        about: what else is known of it, such as task and dataset.
    """

    def __init__(
        self,
        weights: ActorWeights,
        environment: EnvironmentSpec,
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.weights, self.environment, self.about = weights, environment, about
        self._range, self._said = environment.action_range, False
        self._actor = make_actor(weights)

    def __repr__(self) -> str:
        weights = self.weights
        return (
            f"<Policy for {self.environment.id}: {weights.kind}, {weights.version:,} updates, "
            f"{weights.observation_dim} observations -> {weights.action_dim} actions>"
        )

    def __call__(
        self,
        observation: Any,  # noqa: ANN401
        rng: np.random.Generator | None = None,
        *,
        raw: bool = False,
    ) -> NDArray[np.float32]:
        """The action for an observation, in the environment's units.

        A policy that was saved before its folder held the bounds of actions acts in [-1, 1], and
        says so in the log.

        Args:
            observation: as the environment gives it, or flat `(O,)`; with a leading batch axis if
                wanted.
            rng: samples as in training; without it the mean action is taken.
            raw: gives the actor's own action, in [-1, 1].

        Returns:
            `(A,)` float32; unless `raw`, in the environment's units and shape.

        Raises:
            PolicyError: the observation has another width, form, or other keys, than in training,
                or a value that is not finite.
        """
        try:
            flat = self._flat(observation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PolicyError(
                f"The observation is not of the form that was recorded ({described(error)}); give "
                f"it as {self.environment.id or 'the data'} had it."
            ) from error
        if flat.shape[-1:] != (self.weights.observation_dim,):
            raise PolicyError(
                f"The policy observes {self.weights.observation_dim} values, but was given "
                f"{flat.shape[-1] if flat.ndim else 1}; it was trained for {self.environment.id}."
            )
        if not np.isfinite(flat).all():
            raise PolicyError(
                "The observation holds a value that is not finite, for which there is no action; "
                "see what the sensor or the simulator gave."
            )
        action = self._actor.mean(flat) if rng is None else self._actor.sample(flat, rng)
        return action if raw else self.executed(action)

    def _flat(self, observation: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """An observation in the order of training, `(..., O)`."""
        leaves, keys = self.environment.observation_leaves, self.environment.observation_keys
        if not hasattr(observation, "keys"):
            shape, width = np.shape(observation), self.weights.observation_dim
            # A number or a single array may also come flat already; a block may not look so.
            if len(leaves) == 1 and (
                shape[-1:] != (width,) or shape[-len(leaves[0].shape) :] == leaves[0].shape
            ):
                return flatten(observation, leaves)
            return np.asarray(observation, np.float32)
        names = {key.partition("/")[0] for key in keys}
        if not (keys and names <= set(observation)):
            raise PolicyError(
                f"The policy observes {', '.join(keys) or 'one array'}, but was given the keys "
                f"{', '.join(map(str, observation))}; it was trained for {self.environment.id}."
            )
        return flatten(observation, leaves or [Leaf(key, (-1,)) for key in keys])

    def executed(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions `(..., A)` in [-1, 1] in the environment's units and shape."""
        if self._range is not None:
            executed = self._range.to_environment(action)
            shape = self.environment.action_shape
            return executed if shape is None else executed.reshape((*action.shape[:-1], *shape))
        if not self._said:
            self._said = True
            _log.warning(
                "This policy was saved without the bounds of its actions, which are therefore in "
                "[-1, 1]: rescale them for an environment with others (say raw=True)."
            )
        return action


def save_policy(
    folder: Path, weights: ActorWeights, environment: EnvironmentSpec, about: Mapping[str, Any]
) -> None:
    """Writes a policy folder.

    Args:
        folder: made when absent; its files are replaced.
        weights: the actor.
        environment: what it was trained for.
        about: more for `policy.json`, such as task, seed and dataset.

    Raises:
        PolicyError: the folder cannot be written.
    """
    description = {
        "version": weights.version,
        "kind": weights.kind,
        "settings": dict(weights.settings),
        "environment": environment.to_dict(),
        **about,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as temporary:
            seals.save_arrays(temporary, weights.arrays, {"version": str(weights.version)})
        write_atomically(folder / DESCRIPTION, seals.to_json(description))
    except (OSError, SafetensorError) as error:
        cause = as_os_error(error)
        raise PolicyError(
            f"The policy {unwritten(cause, cause.filename or folder)}; {remedy(cause)}, or choose "
            "another folder, and repeat or resume."
        ) from error


def load_policy(run: Path | str, *, trust: bool = False) -> Policy:
    """Loads the policy of a run, or of an exported folder.

    Args:
        run: a run folder, or a folder that `iqlft export` wrote.
        trust: whether its environment may be made though no installed package registers it; implied
            by a run that was made with trust.

    Raises:
        PolicyError: there is no policy, or its files are damaged.
    """
    folder = Path(run)
    folder = folder / "policy" if (folder / "policy" / DESCRIPTION).is_file() else folder
    try:
        description = seals.from_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        arrays, header = seals.load_arrays(folder / WEIGHTS)
        # Version 0.1 knew a single kind.
        kind, settings = description.get("kind", "gaussian"), description.get("settings")
        version = int(header.get("version", description["version"]))
        weights = ActorWeights(
            kind, arrays, TANH_GAUSSIAN if settings is None else settings, version
        )
        environment = dataclasses.replace(
            EnvironmentSpec.from_dict(description["environment"]),
            trust=trust or vouches(Path(run)),  # A policy does not vouch for itself.
        )
        about = {key: each for key, each in description.items() if key not in _OWN}
        return Policy(_with_bounds(check_weights(weights), environment), environment, about)
    except FileNotFoundError as error:
        if not Path(run).exists():
            raise PolicyError(f"There is no folder {run}; `iqlft list` shows the runs.") from error
        raise PolicyError(
            f"There is no policy in {run}; give a run folder in which training has reached its "
            "first checkpoint, or a folder that `iqlft export` wrote."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise PolicyError(
            f"The policy in {folder} is damaged ({error}); export it again, or restore it from a "
            "copy; a run that is resumed writes it anew."
        ) from error


def _with_bounds(weights: ActorWeights, environment: EnvironmentSpec) -> ActorWeights:
    """The weights, after a check that the environment's bounds of actions fit, if it has any."""
    low, high = np.array(environment.action_low), np.array(environment.action_high)
    if low.shape != high.shape or len(low) not in {0, weights.action_dim}:
        raise ValueError(f"{len(low)} and {len(high)} bounds for {weights.action_dim} actions")
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise ValueError("the bounds of its actions are not finite, or the wrong way round")
    return weights
