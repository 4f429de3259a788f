"""IQL as single-file implementations in eager PyTorch write it, such as CORL's."""

import numpy as np
import peer
import torch
from eager import EagerReference
from measuring import LAYOUT

from iqlft_workers.transition import Transitions


def build() -> peer.Learner:
    """The learner over the data."""
    data = peer.random_data()
    never = np.zeros(len(data.rewards), bool)
    fields = data._replace(terminated=data.terminated > 0)
    rows = LAYOUT.pack(Transitions(*fields, never, never.astype(np.uint32)))
    reference = EagerReference(rows, LAYOUT, peer.BATCH)

    def parameters() -> dict[str, torch.Tensor]:
        networks = {"value": reference.v, "critic": reference.q, "actor": reference.actor}
        return {
            name: torch.nn.utils.parameters_to_vector(network.parameters()).detach()
            for name, network in networks.items()
        }

    return peer.Learner(lambda: {"sum": reference.update()}, parameters)


if __name__ == "__main__":
    peer.serve_learner(build, "torch")
