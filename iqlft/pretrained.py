"""What pretraining leaves in a run: the checkpoint that fine-tuning begins with, and its policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from iqlft import checkpoint
from iqlft.algorithms.iql import ImplicitQLearning
from iqlft.learning import hyperparameters
from iqlft.members import pretrain_config
from iqlft.policy import Policy, load_policy
from iqlft.runs import RunError

if TYPE_CHECKING:
    from iqlft.runs import Run


def end_of_pretraining(run: Run) -> str:
    """Name of the checkpoint at which a run's pretraining ended.

    Raises:
        RunError: pretraining is not finished.
    """
    total = pretrain_config(run).num_updates
    folder = run.folder / "checkpoints"
    for name in reversed(checkpoint.names_at(folder, total)):
        if checkpoint.read_state(folder, name)["phase"] == "offline":
            return name
    raise RunError(
        f"The pretraining of {run.folder} has not reached its {total:,} updates; finish it with "
        f"`iqlft resume {run.folder}`."
    )


def pretrained_policy(run: Run) -> Policy:
    """The policy that fine-tuning begins with, whether it has begun or not.

    Raises:
        RunError: pretraining is not finished.
        CheckpointError: its checkpoint is damaged, or does not fit the run's configuration.
        PolicyError: the run's policy folder is missing or damaged.
    """
    newest, config = load_policy(run.folder), pretrain_config(run)
    saved = checkpoint.load(run.folder / "checkpoints", end_of_pretraining(run))
    # Fine-tuning normalises observations as pretraining does, and checkpoints leave that out.
    algorithm = ImplicitQLearning(
        newest.weights.observation_dim,
        newest.weights.action_dim,
        hyperparameters(config),
        observation_mean=torch.from_numpy(newest.weights.observation_mean),
        observation_std=torch.from_numpy(newest.weights.observation_std),
        num_updates=config.num_updates,
    )
    with checkpoint.fitting(run.folder):
        algorithm.load_state({k.removeprefix("algorithm."): v for k, v in saved.tensors.items()})
    return Policy(algorithm.actor_weights(), newest.environment)
