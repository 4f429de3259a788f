"""A trained policy on disk: safetensors and JSON, and the NumPy function that they make.

Nothing here imports torch: a policy runs wherever NumPy does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from iqlft_workers.actor import TANH_GAUSSIAN, ActorWeights, check_weights, make_actor
from iqlft_workers.environment import EnvironmentSpec, flatten_observation
from iqlft_workers.errors import UserError
from iqlft_workers.files import replacing, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WEIGHTS, DESCRIPTION = "actor.safetensors", "policy.json"
"""The files of a policy folder."""


class PolicyError(UserError):
    """A policy folder that is missing, damaged, or does not fit the environment."""


class Policy:
    """A trained actor as a function of an environment's observation.

    Args:
        weights: the actor's weights.
        environment: the environment that it was trained for.
    """

    def __init__(self, weights: ActorWeights, environment: EnvironmentSpec) -> None:
        self.weights, self.environment = weights, environment
        self._actor = make_actor(weights)

    def __call__(
        self,
        observation: Any,  # noqa: ANN401
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.float32]:
        """The action for an observation.

        Args:
            observation: as the environment gives it (a mapping, for Dict observations), or flat
                `(O,)`; with a leading batch axis if wanted.
            rng: samples as in training; without it the mean action is taken.

        Returns:
            `(A,)` float32 in [-1, 1].

        Raises:
            PolicyError: the observation has another width, or other keys, than in training.
        """
        is_mapping = hasattr(observation, "keys")
        keys = self.environment.observation_keys if is_mapping else ()
        names = {key.partition("/")[0] for key in keys}
        if is_mapping and not (keys and names <= set(observation)):
            raise PolicyError(
                f"The policy observes {', '.join(keys) or 'one array'}, but was given the keys "
                f"{', '.join(map(str, observation))}; it was trained for {self.environment.id}."
            )
        flat = flatten_observation(observation, keys)
        if flat.shape[-1] != self.weights.observation_dim:
            raise PolicyError(
                f"The policy observes {self.weights.observation_dim} values, but was given "
                f"{flat.shape[-1]}; it was trained for {self.environment.id}."
            )
        return self._actor.mean(flat) if rng is None else self._actor.sample(flat, rng)


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
    contiguous = {key: np.ascontiguousarray(each) for key, each in weights.arrays.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as temporary:
            safetensors.numpy.save_file(contiguous, temporary)
        write_atomically(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")
    except (OSError, SafetensorError) as error:
        raise PolicyError(
            f"The policy cannot be written to {folder} ({error}); free some space, or choose a "
            "writable folder, and repeat or resume."
        ) from error


def load_policy(run: Path | str) -> Policy:
    """Loads the policy of a run, or of an exported folder.

    Args:
        run: a run folder, or a folder that `iqlft export` wrote.

    Raises:
        PolicyError: there is no policy, or its files are damaged.
    """
    folder = Path(run)
    folder = folder / "policy" if (folder / "policy" / DESCRIPTION).is_file() else folder
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        arrays = safetensors.numpy.load_file(folder / WEIGHTS)
        # Version 0.1 knew a single kind.
        kind, settings = description.get("kind", "gaussian"), description.get("settings")
        weights = ActorWeights(
            kind, arrays, TANH_GAUSSIAN if settings is None else settings, description["version"]
        )
        return Policy(check_weights(weights), EnvironmentSpec.from_dict(description["environment"]))
    except FileNotFoundError as error:
        raise PolicyError(
            f"There is no policy in {run}; give a run folder in which training has reached its "
            "first checkpoint, or a folder that `iqlft export` wrote."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise PolicyError(
            f"The policy in {folder} is damaged ({error}); export it again."
        ) from error
