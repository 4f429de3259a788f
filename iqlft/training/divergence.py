"""Values that no return can reach: the sign that critics have diverged, long before a NaN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.datasets.value_bounds import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from iqlft.algorithms.base import Algorithm
    from iqlft.training.replay import Replay

MARGIN = 0.05
"""Share of the range of returns by which estimates, or their mean, may lie outside that range."""
SHARE = 0.01
"""Share of the 1,024 estimates that may lie beyond that margin."""
_PARTS = "dataset", "new"
"""Prefixes of the keys of estimates in a row of metrics."""
_REMEDIES = (
    "Check which states the data lack, the rewards and the learning rate; remedies for a new run "
    "are --clip-targets and --critic-layer-norm."
)


def possible_returns(rewards: Range, discount: float) -> Range:
    """The range of discounted returns of episodes of any length.

    Args:
        rewards: range of the rewards in the data.
        discount: gamma in [0, 1].
    """
    horizon = 1 / (1 - discount) if discount < 1 else math.inf
    return Range(
        rewards.least * horizon if rewards.least < 0 else rewards.least,
        rewards.greatest * horizon if rewards.greatest > 0 else rewards.greatest,
    )


def bound_targets(algorithm: Algorithm[Any], replay: Replay) -> None:
    """Gives an algorithm that clips its targets the present range of possible returns."""
    if algorithm.clips_targets and algorithm.discount is not None:
        for member in range(algorithm.num_members):
            returns = possible_returns(replay.rewards(member), algorithm.discount)
            algorithm.set_possible_returns(*returns, member)


def _with_margin(returns: Range) -> Range:
    """The range in which estimates are sound.

    Everything, where the returns have no scale: they are all the same, or a discount of 1 leaves
    them unbounded.
    """
    margin = MARGIN * (returns.greatest - returns.least) or math.inf
    return Range(returns.least - margin, returns.greatest + margin)


def impossible_share(q: Tensor, returns: Range) -> float:
    """Share of estimates of Q that lie outside the possible returns by more than the margin.

    Args:
        q: estimates, `(B,)`.
        returns: range of possible returns.
    """
    least, greatest = _with_margin(returns)
    return float(((q < least) | (q > greatest)).double().mean())


class Divergence(NamedTuple):
    """How far critics have diverged.

    Attributes:
        level: 0: not at all; 1: a share of the estimates, where data are thin; 2: their mean.
        sentence: describes it; empty at level 0.
    """

    level: int
    sentence: str


def divergence(row: Mapping[str, Any], returns: Range) -> Divergence:
    """Whether Q of dataset or new transitions is impossible, on average or for a share of them.

    A few impossible values appear long before an impossible mean: an ant on its back near the goal
    is its own successor, and the policy goes there first.

    Args:
        row: a row of `metrics.jsonl`.
        returns: range of possible returns.
    """
    least, greatest = _with_margin(returns)
    possible = f"[{returns.least:.4g}, {returns.greatest:.4g}]"
    for part in _PARTS:
        q = row.get(f"{part}/q")
        if q is not None and not least <= q <= greatest:
            return Divergence(
                2,
                f"Q of {part} transitions is {q:.4g} on average, where no return lies outside "
                f"{possible}: the critics have diverged, and the policy follows them. {_REMEDIES}",
            )
    for part in _PARTS:
        share = row.get(f"{part}/impossible_share", 0.0)
        if share > SHARE:
            return Divergence(
                1,
                f"Q of {100 * share:.2g} % of {part} transitions lies outside {possible}, where no "
                "return does: the critics begin to diverge where data are thin, and the policy may "
                f"follow them. {_REMEDIES}",
            )
    return Divergence(0, "")
