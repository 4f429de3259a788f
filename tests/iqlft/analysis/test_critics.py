"""The networks of the newest checkpoint give what a plain transcription of them gives."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from iqlft.algorithms.base import Spec
from iqlft.algorithms.iql import IQL
from iqlft.analysis.critics import Critics
from iqlft.analysis.restored import restored
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft.runs.policy import load_policy

Tensors = dict[str, NDArray[np.float32]]


def perceptron(tensors: Tensors, name: str, index: int, inputs: NDArray[np.float64]) -> object:
    layers = [(tensors[f"algorithm.{name}.weights.{i}"][index].astype(np.float64),
               tensors[f"algorithm.{name}.biases.{i}"][index]) for i in range(3)]  # fmt: skip
    for matrix, bias in layers[:-1]:
        inputs = np.maximum(inputs @ matrix + bias, 0)
    return (inputs @ layers[-1][0] + layers[-1][1])[:, 0]


def test_values_and_advantages_are_those_of_the_newest_checkpoint(finetuned: Path) -> None:
    policy = load_policy(finetuned)
    critics = Critics(restored(Run.open(finetuned), policy))
    newest = finetuned / "checkpoints" / (finetuned / "checkpoints" / "last").read_text()
    tensors = safetensors.numpy.load_file(newest / "tensors.safetensors")
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(40, 29)).astype(np.float32)
    actions = rng.uniform(-1, 1, (40, 8)).astype(np.float32)
    weights = policy.weights.arrays
    normal = (observations.astype(np.float64) - weights["observation_mean"]) / weights[
        "observation_std"
    ]
    pairs = np.concatenate([normal, actions], 1)
    v = perceptron(tensors, "value", 0, normal)
    q = np.minimum(*(perceptron(tensors, "target_critic", i, pairs) for i in range(2)))
    np.testing.assert_allclose(critics.values(observations), v, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        critics.advantages(observations, actions), q - v, rtol=1e-3, atol=1e-3
    )
    assert critics.updates == policy.weights.version == 470
    # exp(10 * A) reaches 100 there.
    assert critics.clipped_from == pytest.approx(0.460517)


def test_without_an_inverse_temperature_no_advantage_is_clipped() -> None:
    critics = Critics(IQL(Spec(3, 1), IQLHyperparameters(inverse_temperature=0.0)))
    with pytest.raises(RunError, match="none is clipped"):
        _ = critics.clipped_from
