"""IQL of rlox, its replay included.

Its actor learns a mean alone, by a weighted squared error.
"""

import peer
import torch
from rlox import OfflineDatasetBuffer
from rlox.algorithms.iql import IQL
from torch.nn.utils import parameters_to_vector

UPDATES_PER_CALL = 8


def build() -> peer.Learner:
    """The learner over the data."""
    data = peer.random_data()
    terminated = data.terminated.astype("uint8")
    dataset = OfflineDatasetBuffer(
        data.observations.ravel(),
        data.next_observations.ravel(),
        data.actions.ravel(),
        data.rewards,
        terminated,
        terminated,
    )
    iql = IQL(
        dataset,
        peer.OBSERVATION_DIM,
        peer.ACTION_DIM,
        expectile=peer.EXPECTILE,
        temperature=peer.INVERSE_TEMPERATURE,
        hidden=peer.HIDDEN,
        learning_rate=peer.LEARNING_RATE,
        tau=peer.TRACKING,
        gamma=peer.DISCOUNT,
        batch_size=peer.BATCH,
    )

    def parameters() -> dict[str, torch.Tensor]:
        networks = {"value": iql.value_fn, "critic": iql.q1, "actor": iql.actor}
        return {
            name: parameters_to_vector(network.parameters()).detach()
            for name, network in networks.items()
        }

    return peer.Learner(
        lambda: iql.train(UPDATES_PER_CALL), parameters, updates_per_call=UPDATES_PER_CALL
    )


if __name__ == "__main__":
    peer.serve_learner(build, "rlox", "torch")
