"""torchrl's asynchronous collector, each of its processes with a policy of the published size."""

import os

import peer
from antmaze import Flat
from peer import ACTION_DIM, HIDDEN, OBSERVATION_DIM
from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule
from timing import rate
from torch import nn
from torchrl.collectors import MultiCollector
from torchrl.envs import EnvBase, GymWrapper
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal

FRAMES = 256
"""Environment steps in a batch."""


def environment() -> EnvBase:
    """The environment as torchrl wraps it."""
    return GymWrapper(Flat())


def make_policy() -> ProbabilisticActor:
    """A tanh-squashed Gaussian."""
    mean = MLP(OBSERVATION_DIM, ACTION_DIM, num_cells=[HIDDEN, HIDDEN], activation_class=nn.ReLU)
    gaussian = nn.Sequential(mean, AddStateIndependentNormalScale(ACTION_DIM))
    return ProbabilisticActor(
        TensorDictModule(gaussian, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
    )


if __name__ == "__main__":
    count = int(os.environ["PEER_COUNT"])
    collector = MultiCollector(
        [environment] * count, make_policy(), frames_per_batch=FRAMES, total_frames=-1, sync=False
    )
    batches = iter(collector)

    def measure(seconds: float) -> float:
        """Environment steps per second."""
        for _ in range(2 * count):  # What was collected since the last block is not counted.
            next(batches)
        return FRAMES * rate(lambda: next(batches), seconds)

    measure(1.0)
    peer.serve_steps(measure, "torchrl", "tensordict", "torch", "mujoco")
    collector.shutdown()
