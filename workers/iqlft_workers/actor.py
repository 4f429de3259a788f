"""The actors in NumPy, and the weights that travel from the learner to the workers.

A worker needs one action at a time, for which NumPy is three times faster than torch and starts
ten times lighter; so the rollout side never imports torch. Each kind of actor states which arrays
it has; wire, policy folder and checkpoint take arrays as they are and know no kind by name.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class ActorWeights(NamedTuple):
    """Everything that an actor needs to act.

    Attributes:
        kind: of the actor, a key of `ACTORS`.
        arrays: float32 by name, as in the kind's `array_shapes`: `weight.<i>` `(in, out)` and
            `bias.<i>` `(out,)` of each layer, `observation_mean` and `observation_std` `(O,)`
            (zeros and ones: not normalised), and any others that the kind needs.
        settings: numbers by name, as in the kind's `settings`.
        version: number of updates behind these weights.
        guide: the policy for the first steps of every training episode; None: this one.
    """

    kind: str
    arrays: Mapping[str, Array]
    settings: Mapping[str, float]
    version: int
    guide: Guide | None = None

    @property
    def observation_dim(self) -> int:
        """O, the width of an observation."""
        return int(self.arrays["observation_mean"].shape[0])

    @property
    def action_dim(self) -> int:
        """A, the width of an action."""
        return ACTORS[self.kind].outputs_to_actions(self.widths[-1])

    @property
    def widths(self) -> list[int]:
        """Widths of the layers, from the observation to the output."""
        layers = sum(name.startswith("bias.") for name in self.arrays)
        biases = (self.arrays[f"bias.{index}"] for index in range(layers))
        return [self.observation_dim, *(int(bias.shape[0]) for bias in biases)]


class Guide(NamedTuple):
    """A policy that acts first in training episodes (JSRL, Uchendu et al., ICML 2023).

    Attributes:
        steps: h, the number of first steps of an episode in which it acts.
        weights: of the guide, which has no guide itself.
    """

    steps: int
    weights: ActorWeights


class ActorWeightsError(ValueError):
    """Weights that are no actor's: an unknown kind, or not the arrays or settings of the kind."""


LAYER_NORM_EPSILON = 1e-5
"""Added to the variance of a hidden layer that is normalised."""


def layer_norm(hidden: NDArray[Any]) -> NDArray[Any]:
    """A hidden layer before its ReLU, `(..., width)`, normalised to mean 0 and variance 1."""
    centered = hidden - hidden.mean(-1, keepdims=True)
    variance: NDArray[Any] = np.square(centered).mean(-1, keepdims=True)
    normal: NDArray[Any] = centered / np.sqrt(variance + np.float32(LAYER_NORM_EPSILON))
    return normal


class Actor(ABC):
    """A policy: an MLP with ReLU layers, from normalised observations to actions.

    A kind whose setting `layer_norm` is 1 normalises its hidden layers before their ReLU.

    Args:
        weights: the actor's weights; replace them with `load` as newer ones arrive.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers that the kind needs beside its arrays."""
    evaluated: ClassVar[str] = "mean action"
    """What `evaluate` gives, in words."""

    def __init__(self, weights: ActorWeights) -> None:
        self.load(weights)

    def load(self, weights: ActorWeights) -> None:
        """Acts with `weights`, which are of the same kind, from now on."""
        self.version, arrays = weights.version, weights.arrays
        self._layer_norm = bool(weights.settings.get("layer_norm", 0))
        self._mean, self._std = arrays["observation_mean"], arrays["observation_std"]
        *self._hidden, self._last = (
            (arrays[f"weight.{index}"], arrays[f"bias.{index}"])
            for index in range(len(weights.widths) - 1)
        )
        self._prepare(weights)

    @abstractmethod
    def _prepare(self, weights: ActorWeights) -> None:
        """Computes once what every action needs."""

    @abstractmethod
    def mean(self, observation: Array) -> Array:
        """The action without noise: that of an evaluation, of a deployed and an exported policy.

        Args:
            observation: `(O,)` or `(B, O)` float32.

        Returns:
            `(A,)` or `(B, A)` float32 in [-1, 1].
        """

    def evaluate(self, observation: Array, rng: np.random.Generator) -> Array:
        """The action of an evaluation episode: the mean, unless the kind's authors sample there.

        Args:
            observation: `(O,)` or `(B, O)` float32.
            rng: of the episode.

        Returns:
            `(A,)` or `(B, A)` float32 in [-1, 1].
        """
        del rng
        return self.mean(observation)

    def distribution(self, observation: Array) -> tuple[Array, Array | None]:
        """The action without noise, and the log standard deviation of the noise around it.

        Exporters run it on an array that records what NumPy does (`iqlft.runs.tracing`), so a kind
        may use only the ufuncs and functions that are known there.

        Args:
            observation: `(B, O)` float32.

        Returns:
            The action `(B, A)` in [-1, 1], as `mean`; and the log standard deviation, `(A,)` or
            `(B, A)`, before any squashing and within its bounds, or None if the kind has none.
        """
        return self.mean(observation), None

    @abstractmethod
    def sample(self, observation: Array, rng: np.random.Generator) -> Array:
        """The action of a training episode, as executed.

        Args:
            observation: `(O,)` or `(B, O)` float32.
            rng: source of the noise; draws as many normals as the action has values.

        Returns:
            `(A,)` or `(B, A)` float32 in [-1, 1].
        """

    @classmethod
    def skip(cls, action: Array, rng: np.random.Generator) -> None:
        """Draws the noise of a known action `(A,)`, so that the next one gets the same noise."""
        cls._noise(action.shape, rng)

    @staticmethod
    def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.standard_normal(shape, np.float32)

    def _output(self, observation: Array) -> Array:
        """The MLP's output for an observation."""
        return self._forward(observation, self._hidden)

    def _forward(self, observation: Array, layers: Sequence[tuple[Array, Array]]) -> Array:
        """The output for an observation through these hidden layers."""
        hidden: NDArray[Any] = (observation - self._mean) / self._std
        for weight, bias in layers:
            hidden = hidden @ weight + bias
            hidden = np.maximum(layer_norm(hidden) if self._layer_norm else hidden, 0)
        weight, bias = self._last
        output: Array = hidden @ weight + bias
        return output

    @classmethod
    def outputs_to_actions(cls, outputs: int) -> int:
        """A, the width of an action, from the width of the MLP's output."""
        return outputs

    @classmethod
    def array_shapes(cls, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the arrays of layers of these widths."""
        matrices = {f"weight.{i}": pair for i, pair in enumerate(itertools.pairwise(widths))}
        biases = {f"bias.{i}": (width,) for i, width in enumerate(widths[1:])}
        normalizer = {"observation_mean": (widths[0],), "observation_std": (widths[0],)}
        return {**matrices, **biases, **normalizer}


class GaussianActor(Actor):
    """A diagonal Gaussian with a state-independent standard deviation, clipped to [-1, 1].

    Its mean is `tanh(MLP(s))` where the setting `tanh_mean` is 1, else the MLP's output. The
    array `log_std` `(A,)` is bounded by `log_std_min` and `log_std_max`.
    """

    settings = ("log_std_min", "log_std_max", "tanh_mean")

    def _prepare(self, weights: ActorWeights) -> None:
        bounds = weights.settings["log_std_min"], weights.settings["log_std_max"]
        self._log_std: Array = np.clip(weights.arrays["log_std"], *bounds)
        self._scale: Array = np.exp(self._log_std).astype(np.float32)
        self._tanh_mean = bool(weights.settings["tanh_mean"])

    def mean(self, observation: Array) -> Array:
        """The Gaussian's mean, within the bounds of actions."""
        mean = self._center(observation)
        return mean if self._tanh_mean else np.clip(mean, -1, 1)

    def distribution(self, observation: Array) -> tuple[Array, Array]:
        """The mean, and the log standard deviation `(A,)` of every observation."""
        return self.mean(observation), self._log_std

    def sample(self, observation: Array, rng: np.random.Generator) -> Array:
        """A sample at the full standard deviation, clipped."""
        mean = self._center(observation)
        return np.clip(mean + self._scale * self._noise(mean.shape, rng), -1, 1)

    def _center(self, observation: Array) -> Array:
        output = self._output(observation)
        return np.tanh(output) if self._tanh_mean else output

    @classmethod
    def array_shapes(cls, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Those of the MLP, and `log_std`."""
        return super().array_shapes(widths) | {"log_std": (widths[-1],)}


class SquashedGaussianActor(Actor):
    """tanh of a diagonal Gaussian whose mean and log standard deviation the MLP gives.

    The first half of its output is the mean, the second the log standard deviation, bounded by
    `log_std_min` and `log_std_max`.
    """

    settings = ("log_std_min", "log_std_max", "layer_norm")

    def _prepare(self, weights: ActorWeights) -> None:
        self._bounds = weights.settings["log_std_min"], weights.settings["log_std_max"]

    def mean(self, observation: Array) -> Array:
        """Tanh of the Gaussian's mean."""
        mean, _ = np.split(self._output(observation), 2, axis=-1)
        return np.tanh(mean)

    def distribution(self, observation: Array) -> tuple[Array, Array]:
        """Tanh of the Gaussian's mean, and its log standard deviation before the tanh."""
        mean, log_std = np.split(self._output(observation), 2, axis=-1)
        return np.tanh(mean), np.clip(log_std, *self._bounds)

    def sample(self, observation: Array, rng: np.random.Generator) -> Array:
        """Tanh of a sample of the Gaussian."""
        mean, log_std = np.split(self._output(observation), 2, axis=-1)
        std = np.exp(np.clip(log_std, *self._bounds))
        return np.tanh(mean + std * self._noise(mean.shape, rng))

    @classmethod
    def outputs_to_actions(cls, outputs: int) -> int:
        """Half of them: each action has a mean and a log standard deviation."""
        if outputs % 2:
            raise ActorWeightsError(
                f"{outputs} outputs are no pairs of mean and log standard deviation"
            )
        return outputs // 2


class DeterministicActor(Actor):
    """`tanh(MLP(s))`, in training with noise of the standard deviation `exploration_noise`."""

    settings = ("exploration_noise",)

    def _prepare(self, weights: ActorWeights) -> None:
        self._scale = np.float32(weights.settings["exploration_noise"])

    def mean(self, observation: Array) -> Array:
        """The action without noise."""
        return np.tanh(self._output(observation))

    def sample(self, observation: Array, rng: np.random.Generator) -> Array:
        """The action with noise, clipped."""
        mean = self.mean(observation)
        return np.clip(mean + self._scale * self._noise(mean.shape, rng), -1, 1)


class OneStepFlowActor(Actor):
    """`MLP(s, z)` with standard normal noise z, clipped to [-1, 1] (FQL).

    The first matrix has O + A rows: the observation's, then the noise's.
    """

    evaluated = "sampled actions"

    def _prepare(self, weights: ActorWeights) -> None:
        matrix, bias = self._hidden[0]
        self._hidden[0] = matrix[: weights.observation_dim], bias
        self._noise_matrix = matrix[weights.observation_dim :]

    def mean(self, observation: Array) -> Array:
        """The action at z = 0."""
        return np.clip(self._output(observation), -1, 1)

    def evaluate(self, observation: Array, rng: np.random.Generator) -> Array:
        """A sample, as FQL's authors evaluate."""
        return self.sample(observation, rng)

    def sample(self, observation: Array, rng: np.random.Generator) -> Array:
        """The action at a random z."""
        width = self._noise_matrix.shape[0]
        noise = self._noise((*observation.shape[:-1], width), rng)
        (matrix, bias), *above = self._hidden
        layers = [(matrix, bias + noise @ self._noise_matrix), *above]
        return np.clip(self._forward(observation, layers), -1, 1)

    @classmethod
    def array_shapes(cls, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Those of an MLP with a hidden layer at least, which takes the noise too."""
        if len(widths) < 3:
            raise ActorWeightsError("its arrays have no hidden layer")
        return super().array_shapes(widths) | {"weight.0": (widths[0] + widths[-1], widths[1])}


class UniformActor(Actor):
    """Uniformly random actions, whatever is observed; zeros in an evaluation.

    It draws normals, as every kind does, and applies their distribution function, so that the
    random numbers drawn for an action do not depend on the kind.
    """

    def _prepare(self, weights: ActorWeights) -> None:
        self._zeros: Array = np.zeros(weights.action_dim, np.float32)

    def mean(self, observation: Array) -> Array:
        """Zeros."""
        return np.broadcast_to(self._zeros, (*observation.shape[:-1], *self._zeros.shape))

    def sample(self, observation: Array, rng: np.random.Generator) -> Array:
        """Uniform in [-1, 1]."""
        noise = self._noise(self.mean(observation).shape, rng)
        action: Array = _erf(noise / np.float32(math.sqrt(2)))
        return action


_erf = np.vectorize(math.erf, otypes=[np.float32])


TANH_GAUSSIAN = {"log_std_min": -5.0, "log_std_max": 2.0, "tanh_mean": 1.0}
"""Settings of IQL's Gaussian; weights written by version 0.1 lack them."""

ACTORS: dict[str, type[Actor]] = {
    "gaussian": GaussianActor,
    "squashed_gaussian": SquashedGaussianActor,
    "deterministic": DeterministicActor,
    "one_step_flow": OneStepFlowActor,
    "uniform": UniformActor,
}
"""The kinds of actors by name."""


def make_actor(weights: ActorWeights) -> Actor:
    """The actor that these weights are for."""
    return ACTORS[weights.kind](weights)


def renewed(actor: Actor, weights: ActorWeights) -> Actor:
    """An actor with newer weights: the same one, or a new one if their kind is another."""
    if not isinstance(actor, ACTORS[weights.kind]):
        return make_actor(weights)
    actor.load(weights)
    return actor


def uniform_weights(weights: ActorWeights) -> ActorWeights:
    """Weights of random actions for the same observations and actions, of the same version."""
    observation_dim, action_dim = weights.observation_dim, weights.action_dim
    shapes = UniformActor.array_shapes([observation_dim, action_dim])
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays["observation_std"] += 1
    return ActorWeights("uniform", arrays, {}, weights.version)


def check_weights(weights: ActorWeights) -> ActorWeights:
    """The weights, if they are whole and of a known kind.

    Raises:
        ActorWeightsError: they are not.
    """
    if weights.kind not in ACTORS:
        raise ActorWeightsError(f"there is no actor of the kind {weights.kind[:40]!r}")
    kind, shapes = ACTORS[weights.kind], {name: a.shape for name, a in weights.arrays.items()}
    try:
        widths = weights.widths
    except (KeyError, IndexError):
        widths = []
    if len(widths) < 2 or kind.array_shapes(widths) != shapes:
        raise ActorWeightsError(f"its arrays are not those of the kind {weights.kind}")
    if set(kind.settings) != weights.settings.keys():
        raise ActorWeightsError(f"its settings are not {', '.join(kind.settings) or 'none'}")
    kind.outputs_to_actions(widths[-1])
    if weights.guide is not None:
        _check_guide(weights.guide.weights, weights)
    return weights


def _check_guide(guide: ActorWeights, guided: ActorWeights) -> None:
    check_weights(guide)
    dimensions = guide.observation_dim, guide.action_dim
    if guide.guide is not None or dimensions != (guided.observation_dim, guided.action_dim):
        raise ActorWeightsError("its guide is none for the same observations and actions")
