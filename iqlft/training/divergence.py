"""Values that no return can reach: the sign that critics have diverged, long before a NaN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from iqlft.datasets.value_bounds import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iqlft.algorithms.base import Algorithm
    from iqlft.training.replay import Replay

MARGIN = 0.05
"""Share of the range of returns by which a mean of 1,024 estimates may lie outside."""
_PARTS = {"dataset/q": "dataset", "new/q": "new"}
"""What a mean Q is of, by its key in a row."""


def possible_returns(rewards: Range, discount: float) -> Range:
    """Between which discounted returns lie, of episodes of any length.

    Args:
        rewards: that occur in the data.
        discount: gamma in [0, 1].
    """
    horizon = 1 / (1 - discount) if discount < 1 else math.inf
    return Range(
        rewards.least * horizon if rewards.least < 0 else rewards.least,
        rewards.greatest * horizon if rewards.greatest > 0 else rewards.greatest,
    )


def bound_targets(algorithm: Algorithm[Any], replay: Replay) -> None:
    """Tells an algorithm that clips its targets between which returns lie by now."""
    if algorithm.clips_targets and algorithm.discount is not None:
        for member in range(algorithm.num_members):
            returns = possible_returns(replay.rewards(member), algorithm.discount)
            algorithm.set_possible_returns(*returns, member)


def impossible_value(row: Mapping[str, Any], returns: Range) -> str:
    """A sentence if the mean Q of dataset or new transitions is no possible return, else "".

    Args:
        row: of `metrics.jsonl`.
        returns: that are possible.
    """
    margin = MARGIN * (returns.greatest - returns.least)
    for key, part in _PARTS.items():
        q = row.get(key)
        if q is not None and not returns.least - margin <= q <= returns.greatest + margin:
            return (
                f"Q of {part} transitions is {q:.4g} on average, where no return lies outside "
                f"[{returns.least:.4g}, {returns.greatest:.4g}]: the critics have diverged, and "
                "the policy follows them. Stop, and look at what states the data lack, at "
                "rewards and at the learning rate; remedies for a new run are --clip-targets and "
                "--critic-layer-norm."
            )
    return ""
