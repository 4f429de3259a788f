"""The goal-reaching ant policy that walks through the mazes to generate data.

An MLP of three layers maps the ant's 27 observations and the direction to its waypoint to the mean
and log standard deviation of a Gaussian, whose sample is squashed by tanh. Two file formats are
read: this project's (`w0, b0, w1, b1, w2, b2`) and D4RL's (`policy/fc0/weight` ...
`last_fc_log_std/bias`).

A dataset must be the same on every processor, but the order in which a BLAS library sums depends on
the processor. So weights, biases and activations are rounded to multiples of 2^-16, whose products
and sums are exact in float64, whatever the order. After the last layer, only operations are used
whose rounding IEEE 754 defines.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqlft.datasets.errors import PolicyFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

LATEST = "v1"
"""The default version of the gait, and so of the datasets."""
GAITS = {version: Path(__file__).with_name("gaits") / f"{version}.npz" for version in ("v0", "v1")}
"""Files of the gaits in the package, by version, which is also that of their datasets."""

OBSERVATION_DIM, ACTION_DIM = 29, 8
"""Number of values that the policy observes, direction included, and of action values."""
_NOISE = 0.2
"""Standard deviation of the action noise in D4RL's procedure."""
_GRID = 2**16
"""One over the spacing of the numbers in the policy's arithmetic."""
_PROJECT_KEYS = ("w0", "b0", "w1", "b1", "w2", "b2")
"""The arrays of this project's files."""
_D4RL_LAYERS = ("policy/fc0", "policy/fc1", "policy/last_fc", "policy/last_fc_log_std")
"""The layers of D4RL's files, each of a `weight` and a `bias`."""


@dataclass(frozen=True)
class Gait:
    """A goal-reaching ant policy and its settings.

    Attributes:
        weights: `(29, H)`, `(H, H)` and `(H, 16)` float64 multiples of 2^-16; the last layer
            outputs means and log standard deviations.
        biases: `(H,)`, `(H,)` and `(16,)` float64 multiples of 2^-16.
        log_std_min: lower bound of the log standard deviation; the upper bound is 2.
        direction_scale: length of the direction vectors that the policy was trained with.
        noise: default standard deviation of the noise that data generation adds to its actions.
        name: name of the file without its ending; for a gait of the package, its version.
        sha256: hash of the file.
    """

    weights: tuple[NDArray[np.float64], ...]
    biases: tuple[NDArray[np.float64], ...]
    log_std_min: float
    direction_scale: float
    noise: float
    name: str
    sha256: str

    @property
    def version(self) -> str | None:
        """The version, if this is a gait of the package, whatever its file; None otherwise."""
        return _versions().get(self.sha256)

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
        hidden = _on_grid(observation)
        for weights, bias in zip(self.weights[:2], self.biases[:2], strict=True):
            hidden = _on_grid(np.maximum(hidden @ weights + bias, 0))
        output = hidden @ self.weights[2] + self.biases[2]
        # Not np.clip, which costs as much as a layer at this size.
        log_std = np.minimum(np.maximum(output[ACTION_DIM:], self.log_std_min), 2)
        return _tanh(output[:ACTION_DIM] + _exp(log_std) * normals).astype(np.float32)


def _on_grid(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The nearest multiples of 2^-16; sums of their products stay exact below 2^21."""
    grid: NDArray[np.float64] = np.rint(values * np.float64(_GRID)) / _GRID
    return grid


def _exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e^x to a relative error of 1e-7, for |x| <= 20: (e^(x / 1024))^1024 by a Taylor series."""
    x = x / 1024
    power: NDArray[np.float64] = 1 + x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4)))
    for _ in range(10):
        power = power * power
    return power


def _tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hyperbolic tangent to within 1e-7."""
    # Beyond 9, tanh is 1 in float32.
    return 1 - 2 / (_exp(2 * np.minimum(np.maximum(x, -9), 9)) + 1)


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the package's gaits by their hashes."""
    files = {version: path.read_bytes() for version, path in GAITS.items()}
    return {hashlib.sha256(content).hexdigest(): version for version, content in files.items()}


def load_gait(path: str | Path = GAITS[LATEST]) -> Gait:
    """Loads a gait in either format; nothing in the file is unpickled.

    Args:
        path: an `.npz` file.

    Raises:
        PolicyFileError: the file is missing, unreadable or not an ant policy.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise PolicyFileError(f"There is no policy file {path}.") from error
    except Exception as error:  # NumPy passes on whatever reading a foreign file raises
        raise PolicyFileError(
            f"{path} is not a readable .npz file of plain arrays; "
            "give a file made by `results/data/train_gait.py`, or D4RL's ant policy."
        ) from error
    return _gait(arrays, hashlib.sha256(content).hexdigest(), path)


def _gait(arrays: Mapping[str, NDArray[np.float32]], sha256: str, path: Path) -> Gait:
    if set(_PROJECT_KEYS) <= arrays.keys():
        layers = [arrays[key] for key in _PROJECT_KEYS]
        noise = _noise(arrays.get("noise", _NOISE), path)
        weights, biases, settings = layers[::2], layers[1::2], (-5.0, 1.0, noise)
    elif {f"{layer}/{part}" for layer in _D4RL_LAYERS for part in ("weight", "bias")} <= set(
        arrays
    ):
        matrices = [arrays[f"{layer}/weight"].T for layer in _D4RL_LAYERS]
        vectors = [arrays[f"{layer}/bias"] for layer in _D4RL_LAYERS]
        weights = [*matrices[:2], np.concatenate(matrices[2:], axis=-1)]
        biases = [*vectors[:2], np.concatenate(vectors[2:], axis=-1)]
        settings = (-20.0, 10.0, _NOISE)
    else:
        raise PolicyFileError(
            f"{path} holds the arrays {sorted(arrays)[:8]}; needed are {', '.join(_PROJECT_KEYS)}, "
            "or those of D4RL's ant policy (policy/fc0/weight, ...)."
        )
    _check_shapes(weights, biases, path)
    return Gait(
        tuple(np.ascontiguousarray(_on_grid(w)) for w in weights),
        tuple(_on_grid(b) for b in biases),
        *settings,
        path.stem,
        sha256,
    )


def _noise(recorded: ArrayLike, path: Path) -> float:
    """The standard deviation of the action noise that a file records."""
    noise = np.asarray(recorded)
    if noise.size != 1 or noise.dtype.kind not in "iuf" or not 0 <= noise.item() < np.inf:
        raise PolicyFileError(f"{path} has the noise {noise}; it must be one number from 0 on.")
    return float(noise.item())


def _check_shapes(
    weights: list[NDArray[np.float32]], biases: list[NDArray[np.float32]], path: Path
) -> None:
    """Raises `PolicyFileError` unless the layers chain from 29 inputs to 16 finite outputs."""
    widths = [OBSERVATION_DIM, *(bias.size for bias in biases)]
    expected = [*itertools.pairwise(widths), *((width,) for width in widths[1:])]
    shapes = [array.shape for array in (*weights, *biases)]
    if shapes != expected or widths[-1] != 2 * ACTION_DIM:
        raise PolicyFileError(
            f"{path} holds layers of the shapes {shapes}; an ant policy maps "
            f"{OBSERVATION_DIM} inputs to {2 * ACTION_DIM} outputs."
        )
    if not all(np.isfinite(array).all() for array in (*weights, *biases)):
        raise PolicyFileError(f"{path} holds weights that are not finite numbers.")
