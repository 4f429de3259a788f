"""The policy of a run's best evaluation, kept in `best/` where `--keep-best` is on."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.policy import PolicyError, load_policy, save_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from iqlft.runs.scores import Score
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.environment import EnvironmentSpec

BEST = "best"
"""Folder of a run with the policy of its best evaluation."""
_PREVIOUS = "best.previous"
"""Folder with the one before, until a checkpoint holds the evaluation of the newer one."""


def keep_if_best(
    run: Path,
    about: Mapping[str, Any],
    score: Score,
    weights: ActorWeights,
    environment: EnvironmentSpec,
) -> None:
    """Saves the weights of a run's newest evaluation if it beats the one that is kept.

    Without one, it must not be worse than any other of the run, whose weights are gone.

    Args:
        run: the run folder.
        about: what `policy.json` says besides, as that of the run's newest policy does.
        score: the evaluation.
        weights: what was evaluated.
        environment: what they were trained for.
    """
    rank, best = _rank(score._asdict()), _score(run / BEST)
    if best is None:
        others = (each for each in read_run(run).rows if each.updates != score.updates)
        beaten = all(_rank(each._asdict()) <= rank for each in others)
    else:
        beaten = _rank(best) < rank
    if rank == -math.inf or not beaten:
        return
    if best is not None and not (run / _PREVIOUS).exists():
        (run / BEST).rename(run / _PREVIOUS)
    save_policy(run / BEST, weights, environment, {**about, "score": score._asdict()})


def settle_best(run: Path) -> None:
    """To be called once a checkpoint holds all evaluations: the newest best is here to stay."""
    shutil.rmtree(run / _PREVIOUS, ignore_errors=True)


def cut_best(run: Path) -> None:
    """Goes back to the previous best if the evaluation of the best is none of the run's any more.

    That is so where a run goes on from an earlier checkpoint, or a copy from its pretraining.
    """
    if not any((run / name).is_dir() for name in (BEST, _PREVIOUS)):
        return  # As nearly always: then the run's evaluations need not be read.
    places = _places(run)
    for folder in (run / BEST, run / _PREVIOUS):
        score = _score(folder)
        if score is not None and _place(score) not in places:
            shutil.rmtree(folder)
    if (run / BEST).exists():
        settle_best(run)
    elif (run / _PREVIOUS).exists():
        (run / _PREVIOUS).rename(run / BEST)


def _places(run: Path) -> set[tuple[Any, ...]]:
    """Where the evaluations of a run stand."""
    try:
        return {_place(each._asdict()) for each in read_run(run).rows}
    except RunError:
        return set()  # It has none.


def _place(score: dict[str, Any]) -> tuple[Any, ...]:
    return score["phase"], score["updates"], score["env_steps"]


def _score(folder: Path) -> dict[str, Any] | None:
    """The score that a kept policy has; None if there is none, or a damaged one."""
    try:
        found = load_policy(folder).about.get("score")
    except PolicyError:
        return None
    return found if isinstance(found, dict) else None


def _rank(score: dict[str, Any]) -> float:
    """Rank of an evaluation within its run: success, else mean return; -inf if not finite."""
    success, mean_return = score.get("success"), score.get("mean_return")
    rank = mean_return if success is None else success
    return rank if isinstance(rank, (int, float)) and math.isfinite(rank) else -math.inf
