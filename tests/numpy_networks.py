"""MLPs with Adam in NumPy float64, forwards and backwards by hand: what the twins are made of."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from iqlft.algorithms.base import Algorithm, Batch, Metrics, Spec, reduce
from iqlft.nn.stacked_mlp import Dropout

Array = np.ndarray
Masks = Sequence[Array]

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 2, 16
SPEC = Spec(OBSERVATION_DIM, ACTION_DIM)


class NumpyNetworks:
    """The networks of one member.

    Args:
        state: of the algorithm, before its first update.
        names: of its networks.
        normalized: those with LayerNorm.

    Attributes:
        rates: learning rates by network, where they are not 3e-4.
    """

    def __init__(
        self,
        state: Mapping[str, torch.Tensor],
        *names: str,
        normalized: Sequence[str] = (),
    ) -> None:
        def layers(name: str) -> list[tuple[Array, Array]]:
            depth = sum(key.startswith(f"{name}.weights.") for key in state)
            kinds = ("weights", "biases")
            return [
                tuple(state[f"{name}.{kind}.{i}"].numpy().astype(float) for kind in kinds)
                for i in range(depth)
            ]

        self._normalized = normalized
        self.rates: dict[str, float] = {}
        self.networks = {name: layers(name) for name in names}
        if (log_std := state.get("actor.log_std")) is not None:
            self.log_std = log_std.numpy().astype(float)
        self._moments: dict[object, tuple[Any, Any, int]] = {}

    def forward(self, name: str, inputs: Array, masks: Masks = ()) -> list[Array]:
        """Inputs `(n, B, in)`, the hidden layers after their masks, and the outputs."""
        *hidden, (weight, bias) = self.networks[name]
        layers = [inputs]
        for (w, b), mask in itertools.zip_longest(hidden, masks, fillvalue=1.0):
            inner = layers[-1] @ w + b
            if name in self._normalized:
                inner = layer_norm(inner)[0]
            layers.append(np.maximum(inner, 0) * mask)
        return [*layers, layers[-1] @ weight + bias]

    def descend(
        self, name: str, layers: Sequence[Array], gradient: Array, masks: Masks = ()
    ) -> None:
        """Backpropagates d loss / d output and takes an Adam step."""
        gradients, _ = self._backward(name, layers, gradient, masks)
        self.networks[name] = [
            tuple(
                self.adam((name, index, kind), parameter, part)
                for kind, parameter, part in zip("wb", parameters, parts, strict=True)
            )
            for index, (parameters, parts) in enumerate(
                zip(self.networks[name], gradients, strict=True)
            )
        ]

    def input_gradient(self, name: str, layers: Sequence[Array], gradient: Array) -> Array:
        """D loss / d inputs, `(n, B, in)`."""
        return self._backward(name, layers, gradient, ())[1]

    def _backward(
        self, name: str, layers: Sequence[Array], gradient: Array, masks: Masks
    ) -> tuple[list[tuple[Array, Array]], Array]:
        gradients = []
        for index in reversed(range(len(self.networks[name]))):
            weight, below = self.networks[name][index][0], layers[index]
            gradients.append((np.swapaxes(below, 1, 2) @ gradient, gradient.sum(1, keepdims=True)))
            gradient = gradient @ np.swapaxes(weight, 1, 2)
            if index:  # The inputs are whole, and pass no ReLU.
                gradient = gradient * (below > 0) * (masks[index - 1] if masks else 1.0)
                if name in self._normalized:
                    w, b = self.networks[name][index - 1]
                    gradient = layer_norm_gradient(layers[index - 1] @ w + b, gradient)
        return gradients[::-1], gradient

    def descend_log_std(self, gradient: Array) -> None:
        """An Adam step of log_std along a gradient `(A,)`."""
        self.log_std = self.adam("log_std", self.log_std, gradient[None, None])

    def adam(self, key: object, parameter: Array, gradient: Array) -> Array:
        """The parameter after a step with its network's learning rate."""
        rate = self.rates.get(str(key[0] if isinstance(key, tuple) else key), 3e-4)
        first, second, steps = self._moments.get(key, (0.0, 0.0, 0))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        self._moments[key] = first, second, (steps := steps + 1)
        corrected = first / (1 - 0.9**steps), second / (1 - 0.999**steps)
        return parameter - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)

    def track(self, name: str) -> None:
        """Moves a target network by 0.005 towards its network."""
        pairs = zip(self.networks[f"target_{name}"], self.networks[name], strict=True)
        self.networks[f"target_{name}"] = [
            tuple(t + 0.005 * (c - t) for t, c in zip(target, online, strict=True))
            for target, online in pairs
        ]

    def q(self, name: str, observations: Array, actions: Array) -> list[Array]:
        """The layers of all critics, of rows of observations and actions."""
        critics = len(self.networks[name][0][0])
        return self.forward(name, np.stack([np.concatenate([observations, actions], -1)] * critics))

    def target_q(self, observations: Array, actions: Array) -> Array:
        """The smaller target critic `(B,)`, which is what an algorithm's Q is."""
        return self.q("target_critic", observations, actions)[-1].min(0)[:, 0]

    def assert_equal(self, state: Mapping[str, torch.Tensor], tolerance: float) -> None:
        """The networks are those of an algorithm's state."""
        for name, layers in self.networks.items():
            for index, (weight, bias) in enumerate(layers):
                for kind, expected in (("weights", weight), ("biases", bias)):
                    actual = state[f"{name}.{kind}.{index}"].numpy()
                    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
        if "actor.log_std" in state:
            actual = state["actor.log_std"].numpy()
            np.testing.assert_allclose(actual, self.log_std, rtol=tolerance, atol=tolerance)


def layer_norm(inputs: Array) -> tuple[Array, Array]:
    """LayerNorm without gain and shift, and the standard deviations that it divides by."""
    std = np.sqrt(inputs.var(-1, keepdims=True) + 1e-5)
    return (inputs - inputs.mean(-1, keepdims=True)) / std, std


def layer_norm_gradient(inputs: Array, gradient: Array) -> Array:
    """D loss / d inputs, from that of the normalised ones."""
    normal, std = layer_norm(inputs)
    along = (gradient * normal).mean(-1, keepdims=True)
    return (gradient - gradient.mean(-1, keepdims=True) - normal * along) / std


def log_prob_and_gradients(
    mean: Array, log_std: Array, actions: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """A Gaussian's log-likelihoods `(B,)`, and the gradients of their weighted negative mean.

    The gradients are those of mean `(B, A)` and log_std `(A,)`.
    """
    z, share = (actions - mean) / np.exp(log_std), (weight / len(weight))[:, None]
    log_prob = (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)
    return log_prob, -share * z / np.exp(log_std), (-share * (z**2 - 1)).sum(0)


# -- batches and what updates say of them -------------------------------------------------------


def random_arrays(rng: np.random.Generator) -> tuple[Array, ...]:
    """The fields of a batch, `(B, ...)`."""
    return (
        rng.normal(size=(BATCH, OBSERVATION_DIM)),
        rng.uniform(-1, 1, (BATCH, ACTION_DIM)),
        rng.normal(size=BATCH),
        rng.normal(size=(BATCH, OBSERVATION_DIM)),
        (rng.random(BATCH) < 0.3).astype(float),
    )


def as_batch(arrays: Sequence[Array], dtype: torch.dtype) -> Batch:
    """The batch of a single member, with returns to go for those who need them."""
    columns = *arrays, returns_to_go(arrays)
    return Batch(*(torch.tensor(each, dtype=dtype)[None] for each in columns))


def returns_to_go(arrays: Sequence[Array]) -> Array:
    """Returns `(B,)` around the rewards; the last transitions are of episodes under way."""
    returns = 2 * arrays[2]
    returns[-3:] = -np.inf
    return returns


def stacked(batches: Sequence[Batch]) -> Batch:
    """The batches of several members as one."""
    return Batch(*(torch.cat(field) for field in zip(*batches, strict=True)))


def random_batch(
    rng: np.random.Generator, members: int = 1, dtype: torch.dtype = torch.float32
) -> Batch:
    """A batch of several members."""
    return stacked([as_batch(random_arrays(rng), dtype) for _ in range(members)])


def figures(metrics: Metrics) -> dict[str, float]:
    """The figures of the only member."""
    return reduce(metrics)[0]


# -- what an update will draw, from a copy of the only member's random stream -------------------


def random_stream(algorithm: Algorithm[Any]) -> torch.Generator:
    """A copy of the random stream."""
    stream = torch.Generator()
    stream.set_state(algorithm.generators[0].get_state())
    return stream


def masks_of_one_update(algorithm: Algorithm[Any]) -> Masks:
    """What the next update will drop in the actor."""
    dropout = Dropout(
        algorithm.hyperparameters.dropout, algorithm.hidden_sizes, [random_stream(algorithm)]
    )
    masks = dropout.masks(torch.zeros(1, BATCH, OBSERVATION_DIM, dtype=torch.float64))
    return [mask.numpy() for mask in masks]


def noise_of_one_update(algorithm: Algorithm[Any], count: int) -> list[Array]:
    """The standard normals of the actions that the next update will sample, each `(B, A)`."""
    stream = random_stream(algorithm)
    drawn = [torch.randn(BATCH, ACTION_DIM, generator=stream) for _ in range(count)]
    return [each.numpy().astype(float) for each in drawn]
