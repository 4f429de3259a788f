"""IQL of d3rlpy, its replay included."""

import d3rlpy
import numpy as np
import peer
from d3rlpy.algos import IQLConfig
from d3rlpy.dataset import MDPDataset
from flattened import flattened

EPISODE = 1000


def build() -> peer.Learner:
    """The learner over the data."""
    data = peer.random_data()
    ends = np.arange(1, len(data.rewards) + 1) % EPISODE == 0
    dataset = MDPDataset(
        data.observations,
        data.actions,
        data.rewards,
        terminals=data.terminated,
        timeouts=ends.astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )
    # Its networks have two hidden layers of 256 by default.
    config = IQLConfig(
        actor_learning_rate=peer.LEARNING_RATE,
        critic_learning_rate=peer.LEARNING_RATE,
        batch_size=peer.BATCH,
        gamma=peer.DISCOUNT,
        tau=peer.TRACKING,
        expectile=peer.EXPECTILE,
        weight_temp=peer.INVERSE_TEMPERATURE,
    )
    iql = config.create(device="cpu:0")
    iql.build_with_dataset(dataset)
    modules = iql.impl.modules

    parameters = flattened(value=modules.value_func, critic=modules.q_funcs, actor=modules.policy)
    return peer.Learner(lambda: iql.update(dataset.sample_transition_batch(peer.BATCH)), parameters)


if __name__ == "__main__":
    peer.serve_learner(build, "d3rlpy", "torch")
