"""In lockstep the gateway, the wire and a worker process change no bit of what a loop does."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.gateway.journal import Journal
from iqlft.runs import checkpoint
from iqlft.runs.folder import JOURNAL
from iqlft.training.build import (
    build_algorithm,
    build_replay,
    flushed_denormals,
    load_task_dataset,
)
from iqlft.training.finetune import finetune
from iqlft.training.stack import Stack
from iqlft_workers.environment import Environment
from iqlft_workers.rollout import Rollout

ENV_STEPS, STEPS_PER_UPDATE = 400, 5
"""An episode, of 300 steps, ends within it."""


def in_process(
    config: PretrainConfig, start: dict[str, Tensor]
) -> tuple[NDArray[np.float32], dict[str, Tensor]]:
    """Steps, stores and learns in one loop; gives the new rows and what a checkpoint holds."""
    dataset = load_task_dataset(config)
    replay = build_replay(dataset, [config.seed], capacity=ENV_STEPS)
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
    stack.begin_online()
    environment = Environment(dataset.environment)
    rollout = Rollout(environment, member.actor_weights(), seed=config.seed, worker_id=0)
    rows = []
    for step in range(1, ENV_STEPS + 1):
        rollout.step()
        rows.append(member.layout.pack(rollout.take()))
        member.add_rows(rows[-1])
        if step % STEPS_PER_UPDATE == 0:
            # Only the learner's arithmetic flushes denormals, and here it shares the thread.
            with flushed_denormals():
                stack.update()
            rollout.load(member.actor_weights())
    environment.close()
    return np.concatenate(rows), member.state()


def test_fine_tuning_in_lockstep_equals_a_loop_in_one_process_bit_for_bit(
    fresh: Path, pretraining: PretrainConfig, lockstep: FinetuneConfig
) -> None:
    start = checkpoint.load(fresh / "checkpoints").tensors
    expected_rows, expected = in_process(pretraining, start)
    finetune(
        dataclasses.replace(
            lockstep,
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
    assert (
        expected["algorithm.updates"] == start["algorithm.updates"] + ENV_STEPS // STEPS_PER_UPDATE
    )
    moved = [key for key in start if not torch.equal(start[key], expected[key])]
    assert len(moved) > len(start) / 2
