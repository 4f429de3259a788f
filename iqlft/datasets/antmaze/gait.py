"""The goal-reaching ant policy that walks through the mazes while data are generated.

An MLP of three layers maps the ant's 27 observations and the direction to its waypoint to the mean
and log standard deviation of a Gaussian, whose sample is squashed by tanh. Two file formats are
read: this project's (`w0, b0, w1, b1, w2, b2`) and D4RL's (`policy/fc0/weight` ...
`last_fc_log_std/bias`).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqlft.datasets.errors import PolicyFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SHIPPED_GAIT = Path(__file__).with_name("ant_gait.npz")
"""The gait that comes with the package."""

OBSERVATION_DIM, ACTION_DIM = 29, 8
"""Values that the policy observes, the direction among them, and values of an action."""
_PROJECT_KEYS = ("w0", "b0", "w1", "b1", "w2", "b2")
"""The arrays of this project's files."""
_D4RL_LAYERS = ("policy/fc0", "policy/fc1", "policy/last_fc", "policy/last_fc_log_std")
"""The layers of D4RL's files, each of a `weight` and a `bias`."""


@dataclass(frozen=True)
class Gait:
    """A goal-reaching ant policy and what belongs to it.

    Attributes:
        weights: `(29, H)`, `(H, H)` and `(H, 16)` float32; the last gives means and log
            standard deviations.
        biases: `(H,)`, `(H,)` and `(16,)` float32.
        log_std_min: least log standard deviation; the greatest is 2.
        direction_scale: length of the direction that the policy was trained with.
        noise: standard deviation of the noise that data generation adds to its actions by default.
        name: of the file, without its ending.
        sha256: hash of the file.
    """

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    log_std_min: float
    direction_scale: float
    noise: float
    name: str
    sha256: str

    @property
    def is_shipped(self) -> bool:
        """Whether it is the gait that comes with the package, wherever its file lies."""
        return self.sha256 == hashlib.sha256(SHIPPED_GAIT.read_bytes()).hexdigest()

    def sample(
        self, observation: NDArray[np.float32], normals: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """An action drawn from the policy.

        Args:
            observation: `(29,)` float32: the ant's observation and the direction to walk to.
            normals: `(8,)` float32 standard normals.

        Returns:
            `(8,)` float32 in [-1, 1].
        """
        hidden = observation
        for weights, bias in zip(self.weights[:2], self.biases[:2], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        output = hidden @ self.weights[2] + self.biases[2]
        # np.minimum and np.maximum, for np.clip costs as much as a layer at this size.
        log_std = np.minimum(np.maximum(output[ACTION_DIM:], self.log_std_min), 2)
        action: NDArray[np.float32] = np.tanh(output[:ACTION_DIM] + np.exp(log_std) * normals)
        return action


def load_gait(path: str | Path = SHIPPED_GAIT) -> Gait:
    """Reads a gait of either format; nothing in the file is ever unpickled.

    Args:
        path: an `.npz` file.

    Raises:
        PolicyFileError: the file is missing, unreadable or of another shape.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise PolicyFileError(f"There is no policy file {path}.") from error
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise PolicyFileError(
            f"{path} is not a readable .npz file of plain arrays; "
            "give a file made by `results/data/train_gait.py`, or D4RL's ant policy."
        ) from error
    return _gait(arrays, hashlib.sha256(content).hexdigest(), path)


def _gait(arrays: Mapping[str, NDArray[np.float32]], sha256: str, path: Path) -> Gait:
    if set(_PROJECT_KEYS) <= arrays.keys():
        layers = [arrays[key] for key in _PROJECT_KEYS]
        # With less, more of the walk is spent rubbing along walls (results/data/README.md).
        weights, biases, settings = layers[::2], layers[1::2], (-5.0, 1.0, 0.3)
    elif {f"{layer}/{part}" for layer in _D4RL_LAYERS for part in ("weight", "bias")} <= set(
        arrays
    ):
        matrices = [arrays[f"{layer}/weight"].T for layer in _D4RL_LAYERS]
        vectors = [arrays[f"{layer}/bias"] for layer in _D4RL_LAYERS]
        weights = [*matrices[:2], np.concatenate(matrices[2:], axis=-1)]
        biases = [*vectors[:2], np.concatenate(vectors[2:], axis=-1)]
        settings = (-20.0, 10.0, 0.2)
    else:
        raise PolicyFileError(
            f"{path} holds the arrays {sorted(arrays)[:8]}; needed are {', '.join(_PROJECT_KEYS)}, "
            "or those of D4RL's ant policy (policy/fc0/weight, ...)."
        )
    _check_shapes(weights, biases, path)
    return Gait(
        tuple(np.ascontiguousarray(w, np.float32) for w in weights),
        tuple(np.ascontiguousarray(b, np.float32) for b in biases),
        *settings,
        path.stem,
        sha256,
    )


def _check_shapes(
    weights: list[NDArray[np.float32]], biases: list[NDArray[np.float32]], path: Path
) -> None:
    """Raises `PolicyFileError` unless the layers chain from 29 inputs to 16 finite outputs."""
    widths = [OBSERVATION_DIM, *(bias.size for bias in biases)]
    expected = list(itertools.pairwise(widths))
    shapes = [matrix.shape for matrix in weights]
    if shapes != expected or widths[-1] != 2 * ACTION_DIM:
        raise PolicyFileError(
            f"{path} holds layers of the shapes {shapes}; an ant policy maps "
            f"{OBSERVATION_DIM} inputs to {2 * ACTION_DIM} outputs."
        )
    if not all(np.isfinite(array).all() for array in (*weights, *biases)):
        raise PolicyFileError(f"{path} holds weights that are not finite numbers.")
