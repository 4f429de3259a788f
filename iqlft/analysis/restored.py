"""Networks restored from a run's checkpoints, and the policy that fine-tuning begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from iqlft.algorithms.base import Spec, algorithm_class
from iqlft.config.layers import online_learner
from iqlft.runs import checkpoint
from iqlft.runs.folder import finetune_config, pretrain_config
from iqlft.runs.policy import Policy, load_policy
from iqlft.runs.pretrained import end_of_pretraining

if TYPE_CHECKING:
    from iqlft.algorithms.base import Algorithm
    from iqlft.config.settings import PretrainConfig
    from iqlft.runs.folder import Run


def restored(run: Run, policy: Policy, name: str | None = None) -> Algorithm[Any]:
    """The networks of a run, as a single member on the CPU in float32.

    Args:
        run: an existing run.
        policy: of the run, for the dimensions and the normalisation of observations: a run never
            changes these, and checkpoints leave them out.
        name: of the checkpoint; None for the last one.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged or does not fit.
        RunError: the run's configuration cannot be read.
        ConfigError: it has settings that make no sense.
    """
    weights = policy.weights
    saved = checkpoint.load(run.folder / "checkpoints", name)
    config = _learner(run, online=saved.state["phase"] == "online")
    mean, std = (
        torch.from_numpy(weights.arrays[name]) for name in ("observation_mean", "observation_std")
    )
    spec = Spec(weights.observation_dim, weights.action_dim, mean, std, config.num_updates)
    algorithm = algorithm_class(config.algorithm)(spec, config.hyperparameters)
    with checkpoint.fitting(run.folder):
        algorithm.load_state(checkpoint.algorithm_tensors(saved.tensors), optimizers=False)
    return algorithm


def _learner(run: Run, *, online: bool) -> PretrainConfig:
    """The algorithm's settings in the offline or the online phase of a run."""
    before = pretrain_config(run)
    return online_learner(before, finetune_config(run)) if online and run.fine_tuned else before


def pretrained_policy(run: Run, newest: Policy | None = None) -> Policy:
    """The policy that fine-tuning begins with, even after it has begun.

    Args:
        run: an existing run.
        newest: its newest policy, if already loaded.

    Raises:
        RunError: pretraining is not finished.
        CheckpointError: its checkpoint is damaged, or does not fit the run's configuration.
        PolicyError: the run's policy folder is missing or damaged.
    """
    newest = newest or load_policy(run.folder)
    algorithm = restored(run, newest, end_of_pretraining(run))
    return Policy(algorithm.actor_weights(), newest.environment)
