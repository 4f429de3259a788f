"""Gaussian actors made by hand."""

from collections.abc import Sequence

import numpy as np

from iqlft_workers.actor import TANH_GAUSSIAN, ActorWeights


def gaussian(
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    log_std: np.ndarray,
    observation_mean: np.ndarray,
    observation_std: np.ndarray,
    version: int,
) -> ActorWeights:
    """IQL's actor of these arrays, from below to the top."""
    arrays = {f"weight.{index}": each for index, each in enumerate(weights)}
    arrays |= {f"bias.{index}": each for index, each in enumerate(biases)}
    arrays |= {
        "observation_mean": observation_mean,
        "observation_std": observation_std,
        "log_std": log_std,
    }
    return ActorWeights("gaussian", arrays, TANH_GAUSSIAN, version)


def with_array(weights: ActorWeights, name: str, array: np.ndarray) -> ActorWeights:
    """The same actor with another array."""
    return weights._replace(arrays={**weights.arrays, name: array})
