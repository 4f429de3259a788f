"""In lockstep the gateway, the wire and a worker process change no bit of what a loop does."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.gateway.journal import Journal
from iqlft.runs import checkpoint
from iqlft.runs.folder import JOURNAL
from iqlft.training.build import (
    build_algorithm,
    flushed_denormals,
    load_task_dataset,
)
from iqlft.training.finetune import finetune
from iqlft.training.replay import Replay
from iqlft.training.stack import Stack
from iqlft_workers.actor import ActorWeights, Guide, uniform_weights
from iqlft_workers.environment import Environment
from iqlft_workers.rollout import Rollout

ENV_STEPS, STEPS_PER_UPDATE = 400, 5
"""An episode, of 300 steps, ends within it."""


def in_process(
    config: PretrainConfig, online: FinetuneConfig, start: dict[str, Tensor]
) -> tuple[NDArray[np.float32], dict[str, Tensor]]:
    """Steps, stores and learns in one loop; gives the new rows and what a checkpoint holds."""
    dataset = load_task_dataset(config)
    replay = Replay(
        dataset.chunks(),
        dataset.num_transitions,
        dataset.layout,
        [config.seed],
        capacity=ENV_STEPS,
    )
    algorithm = build_algorithm(
        config.algorithm,
        config.hyperparameters,
        dataset,
        [config.seed],
        normalize_observations=True,
    )
    stack = Stack(algorithm, replay, config.hyperparameters.batch_size)
    member = stack.member(0)
    member.load_state(start)
    guide = member.actor_weights()
    if online.reset_optimizers:
        algorithm.reset_optimizers()
    stack.begin_online()
    environment = Environment(dataset.environment)
    rollout = Rollout(environment, guide, seed=config.seed, worker_id=0)
    rows = []
    rollout.load(guided(guide, guide, 0, online))
    for step in range(1, ENV_STEPS + 1):
        rollout.step()
        rows.append(member.layout.pack(rollout.take()))
        member.add_rows(rows[-1])
        learned = step - online.warmup_steps
        if learned > 0 and learned % STEPS_PER_UPDATE == 0:
            if online.anneal_steps:
                way = min(1.0, (step - STEPS_PER_UPDATE) / online.anneal_steps)
                assert online.offline_ratio is not None
                change = online.final_offline_ratio - online.offline_ratio
                replay.offline_ratio = online.offline_ratio + way * change
            # Only the learner's arithmetic flushes denormals, and here it shares the thread.
            with flushed_denormals():
                stack.update()
        rollout.load(guided(member.actor_weights(), guide, step, online))
    environment.close()
    return np.concatenate(rows), member.state()


def guided(
    weights: ActorWeights, guide: ActorWeights, step: int, config: FinetuneConfig
) -> ActorWeights:
    if step < config.random_steps:
        return uniform_weights(weights)
    left = math.ceil(config.guide_steps * (1 - Fraction(step, config.guide_until or ENV_STEPS)))
    return weights._replace(guide=Guide(left, guide)) if left > 0 else weights


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "warmup_steps": 20,
            "offline_ratio": 0.75,
            "final_offline_ratio": 0.25,
            "anneal_steps": 200,
            # With floats, the fifth step of the second episode would still be the guide's.
            "guide_steps": 36,
            "guide_until": 342,
            "reset_optimizers": True,
        },
        {"warmup_steps": 20, "random_steps": 10},
    ],
)
def test_fine_tuning_in_lockstep_equals_a_loop_in_one_process_bit_for_bit(
    fresh: Path, pretraining: PretrainConfig, lockstep: FinetuneConfig, changes: dict[str, Any]
) -> None:
    online = dataclasses.replace(lockstep, **changes)
    start = checkpoint.load(fresh / "checkpoints").tensors
    expected_rows, expected = in_process(pretraining, online, start)
    finetune(
        dataclasses.replace(
            online,
            run=(fresh,),
            env_steps=ENV_STEPS,
            utd_ratio=1 / STEPS_PER_UPDATE,
            eval_every=ENV_STEPS,
        )
    )
    saved = checkpoint.load(fresh / "checkpoints")
    journal = Journal(fresh / JOURNAL, saved.state["journal"])
    (rows,) = journal.rows(load_task_dataset(pretraining).layout)
    journal.close()
    assert len(rows) == ENV_STEPS
    assert rows.tobytes() == expected_rows.tobytes()
    assert saved.tensors.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(saved.tensors[key], expected[key])] == []
    # All of it has moved meanwhile.
    made = (ENV_STEPS - online.warmup_steps) // STEPS_PER_UPDATE
    assert expected["algorithm.updates"] == start["algorithm.updates"] + made
    moved = [key for key in start if not torch.equal(start[key], expected[key])]
    assert len(moved) > len(start) / 2
