"""A recorded update does what the same update does operation by operation."""

import numpy as np
import pytest
import torch

from iqlft.algorithms.iql import ImplicitQLearning
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.training.cuda_graph import UpdateGraph
from iqlft.training.replay import Replay
from iqlft.training.stack import Stack
from iqlft_workers.transition import RowLayout

LAYOUT, SEEDS, BATCH = RowLayout(5, 2), (0, 1), 32
SMALL = IQLHyperparameters(hidden_size=16)


def test_updates_that_change_from_one_to_the_next_are_not_uniform() -> None:
    def uniform(**settings: object) -> bool:
        hyperparameters = IQLHyperparameters(hidden_size=4, **settings)  # type: ignore[arg-type]
        return ImplicitQLearning(5, 2, hyperparameters, num_updates=10).is_uniform

    assert uniform()
    assert not uniform(dropout=0.1)
    assert not uniform(actor_schedule="cosine")
    assert not uniform(actor_schedule="climbing-cosine")


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("hidden", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_launched_updates_equal_eager_ones_whatever_the_loop_does_between_them(
    hidden: torch.dtype, device: str
) -> None:
    if torch.device(device).index >= torch.cuda.device_count():
        pytest.skip("a machine with one GPU")
    rows = np.random.default_rng(0).normal(size=(300, LAYOUT.width)).astype(np.float32)

    def made(*, graphed: bool) -> Stack:
        algorithm = ImplicitQLearning(5, 2, SMALL, SEEDS, device=device, hidden_dtype=hidden)
        replay = Replay([rows], len(rows), LAYOUT, SEEDS, capacity=50, device=device)
        graph = UpdateGraph(algorithm, replay, BATCH) if graphed else None
        return Stack(algorithm, replay, BATCH, graph)

    eager, graphed = made(graphed=False), made(graphed=True)
    beginning = eager.algorithm.state(0)
    for index in range(20):
        for stack in (eager, graphed):
            if index == 5:
                stack.replay.add_rows(rows[:30], 1)
            if index == 10:
                stack.algorithm.load_state(beginning, 0)
            stack.member(0).estimates(new=False)
            stack.member(0).actor_weights()
        one, other = eager.update(), graphed.update()
        torch.testing.assert_close(other.critic_loss, one.critic_loss)
        torch.testing.assert_close(other.actor_loss, one.actor_loss)
        assert graphed.member(1).metrics(other) == pytest.approx(eager.member(1).metrics(one))
    assert graphed.updates == eager.updates
    for key, tensor in eager.algorithm.state(1).items():
        torch.testing.assert_close(graphed.algorithm.state(1)[key], tensor)
