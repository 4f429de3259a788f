"""Every algorithm resumes exactly: stopped and resumed equals never stopped, bit for bit."""

import dataclasses
import signal
from pathlib import Path

import pytest
import torch

from iqlft.algorithms.base import algorithm_class
from iqlft.config.algorithms import ALGORITHMS
from iqlft.config.layers import with_algorithm, with_settings
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.runs import checkpoint
from iqlft.runs.folder import Run
from iqlft.training.finetune import finetune
from iqlft.training.interruption import Interrupted
from iqlft.training.pretrain import pretrain
from iqlft.training.resume import resume
from run_fixtures import curves, stopped_at

OFFLINE, ONLINE = 60, 60
"""Updates of each phase; they are stopped between two checkpoints."""


AT_MOST = {"num_critics": 3, "critic_updates": 2, "sampled_actions": 2, "target_actions": 2}
"""Settings that cost time and change nothing of what is to be resumed."""
EVALUATED = {"iql": 1}
"""Evaluation episodes; what they go by is the same for all, and takes half of the time."""
OF_EACH_KIND = "td3bc", "rlpd", "calql"
"""A tensor beside the networks, several batches an update, returns to go; the others are slow."""
REMEDIED = {"clip_targets": True, "critic_layer_norm": True}
"""IQL without them is stopped and resumed in `test_pretrain` and `test_finetune`."""


def settings(pretraining: PretrainConfig, name: str, runs: Path) -> PretrainConfig:
    """Those of a pretraining of a moment."""
    config = with_algorithm(pretraining, name)
    own = vars(config.hyperparameters)
    return with_settings(
        config,
        **{key: min(most, own[key]) for key, most in AT_MOST.items() if key in own},
        hidden_size=16, batch_size=16, num_updates=OFFLINE, eval_every=OFFLINE,
        checkpoint_every=20, log_every=20, eval_episodes=EVALUATED.get(name, 0), runs=runs,
    )  # fmt: skip


def online(lockstep: FinetuneConfig, run: Path) -> FinetuneConfig:
    """Those of a fine-tuning of a moment; RLPD is stopped among its random steps."""
    name = Run.open(run).meta["algorithm"]
    return dataclasses.replace(
        lockstep,
        run=(run,),
        env_steps=ONLINE,
        utd_ratio=1.0,
        random_steps=40 * (name == "rlpd"),
        eval_every=ONLINE,
        checkpoint_every=20,
        log_every=20,
        eval_episodes=EVALUATED.get(name, 0),
    )


def assert_same_end(run: Path, other: Path) -> None:
    """Two runs have the same tensors, evaluations and policy, to the last bit."""
    one, two = (checkpoint.load(each / "checkpoints").tensors for each in (run, other))
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    assert curves(run) == curves(other)
    for name in ("actor.safetensors", "policy.json"):
        assert (run / "policy" / name).read_bytes() == (other / "policy" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("iql", REMEDIED),
        *((name, {}) for name in OF_EACH_KIND),
        *(
            pytest.param(name, {}, marks=pytest.mark.slow)
            for name in ALGORITHMS
            if name not in {"iql", *OF_EACH_KIND}
        ),
        pytest.param("awac", REMEDIED, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    name: str,
    own: dict[str, bool],
    corner: str,
    pretraining: PretrainConfig,
    lockstep: FinetuneConfig,
    tmp_path: Path,
) -> None:
    assert corner
    whole_settings, stopped_settings = (
        with_settings(settings(pretraining, name, tmp_path / each), **own)
        for each in ("whole", "stopped")
    )
    (whole,), kind = pretrain(whole_settings), algorithm_class(name)
    with stopped_at(33, kind, signal.SIGTERM), pytest.raises(Interrupted) as caught:
        pretrain(stopped_settings)
    (run,) = caught.value.folders
    assert Run.open(run).meta["algorithm"] == name
    assert checkpoint.load(run / "checkpoints").state["updates"] < OFFLINE
    resume(run)
    assert_same_end(run, whole)

    before = checkpoint.load(run / "checkpoints").tensors
    finetune(online(lockstep, whole))
    with stopped_at(OFFLINE + 33, kind, signal.SIGTERM), pytest.raises(Interrupted):
        finetune(online(lockstep, run))
    assert OFFLINE < checkpoint.load(run / "checkpoints").state["updates"] < OFFLINE + ONLINE
    resume(run)
    assert_same_end(run, whole)
    after = checkpoint.load(run / "checkpoints").tensors
    assert any(not torch.equal(before[key], after[key]) for key in before if ".actor." in key)
