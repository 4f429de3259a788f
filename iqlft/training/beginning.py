"""The beginning of fine-tuning: its first checkpoint, and the run or copy that it trains."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from iqlft.config.layers import to_dict
from iqlft.config.settings import ConfigError, FinetuneConfig
from iqlft.runs import checkpoint
from iqlft.runs.errors import AGAIN, RunError, command, writing
from iqlft.runs.folder import Run, pretrain_config, refuse_existing
from iqlft.runs.pretrained import end_of_pretraining, load_pretrained, pretrained_for
from iqlft.runs.surroundings import surroundings
from iqlft.training.copies import pretrained_as
from iqlft.training.learner import learner_machine
from iqlft.training.seeds import copy_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.training.plan import RunPlan
    from iqlft.training.stack import Stack


def start_checkpoint(run: Run, config: FinetuneConfig) -> str:
    """Name of the checkpoint from which a run is to be fine-tuned.

    Raises:
        RunError: pretraining is not finished, fine-tuning has begun already, or the copy exists.
    """
    start = pretrained_checkpoint(run, config)
    if config.into:
        refuse_existing(copy_folder(run, config), "--into")
    elif run.fine_tuned:
        finished = run.finished
        resume = "" if finished else f"continue it with {command('resume', run.folder)}, or "
        raise RunError(
            f"{run.folder} has been fine-tuned already{'' if finished else ', at least in part'}: "
            f"{resume}fine-tune a copy from the end of its pretraining with --into NAME."
        )
    return start


def pretrained_checkpoint(run: Run, config: FinetuneConfig) -> str:
    """Name of the checkpoint at which pretraining ended, or is taken to have ended.

    Raises:
        ConfigError: an earlier checkpoint is asked for without a copy, or of a run with a schedule.
        RunError: there is no such checkpoint.
    """
    before = pretrain_config(run)
    if config.checkpoint in {0, before.num_updates}:
        return end_of_pretraining(run)
    if not config.into:
        raise ConfigError(
            "--checkpoint starts from before the end of pretraining, and the run itself stays as "
            "it is; name a copy with --into NAME."
        )
    if before.hyperparameters.scheduled:
        raise ConfigError(
            f"{run.folder} was pretrained with a schedule over all its updates, such as "
            "--actor-schedule cosine, so at an earlier checkpoint it is no run of "
            f"{config.checkpoint:,} updates; pretrain one."
        )
    return pretrained_for(run, config.checkpoint)


def load_start(run: Run, config: FinetuneConfig) -> Checkpoint:
    """The checkpoint from which a run is to be fine-tuned; see `start_checkpoint`."""
    return load_pretrained(run, start_checkpoint(run, config))


def begin(plan: RunPlan[FinetuneConfig], stack: Stack, *, keeps_policy: bool) -> Run:
    """Claims the run, or a copy of it where one is asked for, and marks it as being fine-tuned.

    Called when all else is ready, so that the run stays unchanged if anything fails before.

    Args:
        plan: of the run.
        stack: what it learns online with.
        keeps_policy: whether it begins with the policy of pretraining.
    """
    run, config = plan.run, plan.config
    start = start_checkpoint(run, config)
    if config.into:
        run = run.copy(copy_folder(run, config), start, _ends_earlier(plan, start))
        run.claim()
    else:
        run.claim()
        start_checkpoint(run, config)  # Another process may have begun since the first check.
    with writing(run.folder, AGAIN):
        folder = run.folder / "checkpoints"
        if config.into:
            start = checkpoint.last(folder)
        # Pretraining may have been stopped in its last evaluation, after its last update.
        checkpoint.make_last(folder, checkpoint.for_good(folder, start))
        # The status first: killed in between, a run still marked as finished could not be resumed.
        learner = {"algorithm": plan.learned.algorithm, "keeps_policy": keeps_policy}
        learner |= learner_machine(stack)
        run.write_meta({"status": "running", "finetune": learner | surroundings()})
        # The run may be resumed in another folder.
        keys = config.keys and config.keys.resolve()
        own = dataclasses.replace(config, run=(), into="", checkpoint=0, keys=keys)
        run.write_config("finetune", to_dict(own))
    return run


def _ends_earlier(plan: RunPlan[FinetuneConfig], start: str) -> Callable[[Run], None] | None:
    """Changes a copy so that its pretraining ended at an earlier checkpoint; None if not needed."""
    before, learned = pretrain_config(plan.run), plan.learned
    if learned.num_updates == before.num_updates:
        return None
    learner = dataclasses.replace(before, num_updates=learned.num_updates)
    # Not `plan.saved`, which may hold the tensors of another algorithm by now.
    saved = checkpoint.load(plan.run.folder / "checkpoints", start)
    return lambda made: pretrained_as(made, learner, saved, keep=True)
