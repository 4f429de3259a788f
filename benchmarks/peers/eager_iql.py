"""IQL as single-file implementations in eager PyTorch write it, such as CORL's."""

import peer
from eager import EagerReference
from flattened import flattened
from measuring import LAYOUT
from packed import packed


def build() -> peer.Learner:
    """The learner over the data."""
    reference = EagerReference(packed(), LAYOUT, peer.BATCH)
    parameters = flattened(value=reference.v, critic=reference.q, actor=reference.actor)
    return peer.Learner(lambda: {"sum": reference.update()}, parameters)


if __name__ == "__main__":
    peer.serve_learner(build, "torch")
