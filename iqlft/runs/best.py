"""The policy of a run's best evaluation, kept in `best/` where `--keep-best` is on."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.policy import PolicyError, load_policy, save_policy

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.runs.scores import Score
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.environment import EnvironmentSpec

BEST = "best"
"""Folder of a run with the policy of its best evaluation."""


def keep_if_best(run: Path, weights: ActorWeights, environment: EnvironmentSpec) -> None:
    """Saves the weights of a run's newest evaluation if it beats all earlier ones."""
    curve = read_run(run)
    *before, newest = curve.rows
    rank = _rank(newest)
    if rank == -math.inf or any(_rank(each) >= rank for each in before):
        return
    about = {"task": curve.task, "score": newest._asdict()}
    save_policy(run / BEST, weights, environment, about)


def drop_if_cut(run: Path) -> None:
    """Removes the best policy if its evaluation is none of the run's any more.

    That is so where a run goes on from an earlier checkpoint, or a copy from its pretraining.
    """
    if not (run / BEST).is_dir():
        return
    try:
        score = load_policy(run / BEST).about["score"]
    except (PolicyError, KeyError):
        return  # Whoever asks for it is told.
    try:
        rows = read_run(run).rows
    except RunError:
        rows = ()  # No evaluation is left.
    at = (score["phase"], score["updates"], score["env_steps"])
    if at not in {(each.phase, each.updates, each.env_steps) for each in rows}:
        shutil.rmtree(run / BEST)


def _rank(score: Score) -> float:
    """Rank of an evaluation within its run: success, else mean return; -inf if not finite."""
    rank = score.mean_return if score.success is None else score.success
    return rank if math.isfinite(rank) else -math.inf
