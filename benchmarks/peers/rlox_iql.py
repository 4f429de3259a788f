"""IQL of rlox, its replay included.

Its actor learns only a mean, by a weighted squared error.
"""

import peer
from flattened import flattened
from rlox import OfflineDatasetBuffer
from rlox.algorithms.iql import IQL

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

    parameters = flattened(value=iql.value_fn, critic=iql.q1, actor=iql.actor)
    return peer.Learner(
        lambda: iql.train(UPDATES_PER_CALL), parameters, updates_per_call=UPDATES_PER_CALL
    )


if __name__ == "__main__":
    peer.serve_learner(build, "rlox", "torch")
