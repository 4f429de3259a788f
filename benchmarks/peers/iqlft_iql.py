"""IQL of this repository.

iqlft_iql.py float32|bf16
"""

# First, because it sets what OpenMP reads when torch is loaded.
import iqlft  # noqa: F401  # isort: skip

import argparse

import peer
import torch
from learner import KINDS, learner
from packed import packed

from iqlft.algorithms.base import reduce
from iqlft.nn.networks import Network


def load(network: Network, *perceptrons: peer.Layers) -> None:
    """Loads layers into a network's MLPs."""
    mlp = network.mlp
    for index, layers in enumerate(perceptrons):
        for weight, bias, arrays in zip(mlp.weights, mlp.biases, layers, strict=True):
            weight[index] = torch.from_numpy(arrays[0])
            bias[index] = torch.from_numpy(arrays[1])
    network.changed()


def build(kind: str) -> peer.Learner:
    """The learner over the data."""
    torch.set_flush_denormal(True)  # As a run does.
    stack = learner(packed(), 1, KINDS[kind])
    iql, weights = stack.algorithm, peer.first_weights()

    def first_losses() -> dict[str, float]:
        load(iql.actor, weights["actor"])
        load(iql.value, weights["value"])
        for critic in (iql.critic, iql.target_critic):
            load(critic, weights["critic 1"], weights["critic 2"])
        (figures,) = reduce(iql.update(stack.replay.gather(torch.arange(peer.BATCH))))
        return {name: figures[f"{name}/loss"] for name in ("value", "actor", "critic")}

    def learn() -> dict[str, float]:
        stack.update()
        return {}

    def parameters() -> dict[str, torch.Tensor]:
        networks = {"value": iql.value, "critic": iql.critic, "actor": iql.actor}
        return {name: network.mlp.parameters for name, network in networks.items()}

    return peer.Learner(learn, parameters, first_losses)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind", choices=KINDS)
    kind = options.parse_args().kind
    peer.serve_learner(lambda: build(kind), "iqlft", "torch")
