"""Soft actor-critic learns from its own steps alone, without pretraining and dataset."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from iqlft.config.layers import with_algorithm, with_settings
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.gateway.journal import read_rows
from iqlft.runs import checkpoint
from iqlft.runs.folder import JOURNAL, Run
from iqlft.training.build import load_task_dataset
from iqlft.training.finetune import finetune
from iqlft.training.pretrain import pretrain
from iqlft.training.replay import Replay
from iqlft_workers.rollout import episode_randomness
from run_fixtures import curves

ENV_STEPS, RANDOM_STEPS = 60, 20


def test_sac_learns_from_its_own_steps_alone_of_which_the_first_are_random(
    corner: str,
    pretraining: PretrainConfig,
    lockstep: FinetuneConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert corner
    config = with_settings(
        with_algorithm(pretraining, "sac"),
        hidden_size=16, batch_size=16, num_updates=0, checkpoint_every=20, log_every=20,
        eval_episodes=1, runs=tmp_path,
    )  # fmt: skip
    (folder,) = pretrain(config)
    assert Run.open(folder).meta["status"] == "finished"
    assert checkpoint.load(folder / "checkpoints").state["updates"] == 0
    assert curves(folder) == []

    drawn = []
    gather = Replay.gather

    def spied(self: Replay, places: torch.Tensor) -> object:
        if len(places) == config.hyperparameters.batch_size:  # Not a look at the estimates.
            drawn.append((int(places.min()), self.dataset_size))
        return gather(self, places)

    monkeypatch.setattr(Replay, "gather", spied)
    online = dataclasses.replace(
        lockstep, run=(folder,), env_steps=ENV_STEPS, utd_ratio=1.0, offline_ratio=0.0,
        random_steps=RANDOM_STEPS,
        eval_every=ENV_STEPS, checkpoint_every=20, log_every=10_000, eval_episodes=1,
    )  # fmt: skip
    finetune(online)
    assert checkpoint.load(folder / "checkpoints").state["updates"] == ENV_STEPS
    assert len(drawn) == ENV_STEPS
    assert all(place >= dataset_size for place, dataset_size in drawn)
    found = [(row["phase"], row["updates"], row["env_steps"]) for row in curves(folder)]
    assert found == [("online", "0", "0"), ("online", "60", "60")]

    layout = load_task_dataset(config).layout
    rows = np.concatenate(list(read_rows(folder / JOURNAL, layout)))
    actions = layout.unpack(rows)[1]
    _, rng = episode_randomness(config.seed, 0, 0)
    noise = rng.standard_normal(actions.shape, np.float32)
    at_random = np.vectorize(math.erf)(noise / np.sqrt(2))
    np.testing.assert_allclose(actions[:RANDOM_STEPS], at_random[:RANDOM_STEPS], atol=1e-6)
    assert abs(actions[RANDOM_STEPS:] - at_random[RANDOM_STEPS:]).max() > 0.1
