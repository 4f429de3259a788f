"""Intervals for few seeds and few episodes: Student-t, Wilson, Newcombe, and two bootstraps.

Papers have three to five seeds. A percentile bootstrap over so few covers the truth in 75 to 90 %
of cases where it promises 95 %, a Student-t interval in 95 %; so a task's mean gets the latter.
Sums over tasks, and interquartile means, pool many runs and get a bootstrap, which keeps each run's
columns together and is widened because the runs are still few.

Seeds that all agree, as at 100 % success, say nothing about how far other seeds would lie: their
spread alone gives no interval. The interval of a success rate is never narrower than its pooled
episodes allow (`Estimate.at_least`).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Two-sided confidence of every interval in figures and tables."""
_TAIL = (1 - CONFIDENCE) / 2
"""Probability beyond either bound of an interval."""
ROUNDING = 1e-9
"""Values that differ by less than this share of the greatest of them agree."""
ENOUGH_SEEDS = 4
"""Fewest seeds per task for an interquartile mean: a quarter of fewer is less than one seed."""


class Estimate(NamedTuple):
    """A value and its interval; the bounds are NaN where the data allow no interval.

    Attributes:
        value: the point estimate.
        lower: lower bound.
        upper: upper bound.
    """

    value: float
    lower: float = math.nan
    upper: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether the bounds are numbers."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    def scaled(self, factor: float) -> Estimate:
        """All three numbers times a positive factor."""
        return Estimate(*(factor * number for number in self))

    def at_least(self, other: Estimate) -> Estimate:
        """The same value, with an interval that covers both intervals, or the only one."""
        lower = [each.lower for each in (self, other) if each.has_interval]
        upper = [each.upper for each in (self, other) if each.has_interval]
        return Estimate(self.value, min(lower, default=math.nan), max(upper, default=math.nan))

    def clipped(self, low: float, high: float) -> Estimate:
        """The bounds cut at the range of possible values, which costs no coverage."""
        return Estimate(self.value, max(self.lower, low), min(self.upper, high))


def _student_t_inside(angle: float, degrees_of_freedom: int) -> float:
    """P(|T| < t) for `t = sqrt(n) tan(angle)`: a finite sum (Abramowitz and Stegun 26.7.3-4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees_of_freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd, degrees_of_freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def student_t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The quantile of Student's t distribution, by bisection of its closed form.

    Args:
        probability: in (0, 1).
        degrees_of_freedom: a whole number, at least 1 (seeds - 1 here).

    Returns:
        t with P(T < t) = probability, to about ten digits.

    Raises:
        ValueError: an argument outside its range.
    """
    if not 0 < probability < 1 or degrees_of_freedom < 1:
        raise ValueError(
            f"A t quantile needs 0 < probability < 1 and at least 1 degree of freedom, not "
            f"{probability} and {degrees_of_freedom}."
        )
    inside = abs(2 * probability - 1)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # each halves the range of the angle, to the last bit of a double
        middle = (low + high) / 2
        if _student_t_inside(middle, degrees_of_freedom) < inside:
            low = middle
        else:
            high = middle
    t = math.sqrt(degrees_of_freedom) * math.tan((low + high) / 2) if inside else 0.0
    return math.copysign(t, probability - 0.5)


def t_interval(values: ArrayLike) -> Estimate:
    """Mean of a few independent values (seeds) with its Student-t interval.

    Args:
        values: `(S,)`, one per seed; at least one.

    Returns:
        The mean and its interval; NaN bounds for a single value, and for values that all agree,
        whose spread of 0 would pass for certainty.
    """
    array = np.asarray(values, np.float64)
    return _t_interval(array, np.abs(array).max())


def _t_interval(array: NDArray[np.float64], greatest: float) -> Estimate:
    """`t_interval` of values that were worked out from numbers of up to a size."""
    mean = float(array.mean())
    if not np.ptp(array) > ROUNDING * greatest:  # true for NaN values too
        return Estimate(mean)
    t = student_t_quantile(1 - _TAIL, array.size - 1)
    half = t * float(array.std(ddof=1)) / math.sqrt(array.size)
    return Estimate(mean, mean - half, mean + half)


def wilson_interval(share: float, episodes: int) -> Estimate:
    """A share of episodes with its Wilson score interval (Wilson 1927, without continuity).

    Args:
        share: successes / episodes, in [0, 1].
        episodes: number of independent episodes, at least 1.

    Returns:
        The share and its interval, inside [0, 1].

    Raises:
        ValueError: an argument outside its range.
    """
    if not 0 <= share <= 1 or episodes < 1:
        raise ValueError(
            f"A Wilson interval needs a share in [0, 1] of at least 1 episode, not {share} of "
            f"{episodes}."
        )
    z = NormalDist().inv_cdf(1 - _TAIL)
    shrink = 1 / (1 + z * z / episodes)
    centre = shrink * (share + z * z / (2 * episodes))
    half = shrink * z * math.sqrt(share * (1 - share) / episodes + (z / (2 * episodes)) ** 2)
    # Rounding must not push a bound past the share itself, as it would at 0 and at 1.
    return Estimate(share, max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0))


def newcombe_difference(before: Estimate, after: Estimate, correlation: float = 0.0) -> Estimate:
    """`after - before` from two estimates' own intervals (Newcombe 1998, method 10).

    With Wilson intervals this is the hybrid score interval of a difference of two proportions.
    For evaluations that share their episode seeds, a correlation of 0 errs on the wide side if the
    same starts make both succeed.

    Args:
        before: an estimate with its interval.
        after: another.
        correlation: between the two, see `paired_correlation`.

    Returns:
        The difference and its interval; NaN bounds if either has none.
    """
    value = after.value - before.value
    lower = _joint(after.value - after.lower, before.upper - before.value, correlation)
    upper = _joint(after.upper - after.value, before.value - before.lower, correlation)
    return Estimate(value, value - lower, value + upper)


def _joint(first: float, second: float, correlation: float) -> float:
    """The distance of a difference from its bound, given those of the two estimates."""
    square = first**2 - 2 * correlation * first * second + second**2
    return math.nan if math.isnan(square) else math.sqrt(max(square, 0.0))


def paired_correlation(before: ArrayLike, after: ArrayLike) -> float:
    """Correlation of two proportions of the same units (Newcombe 1998, method 10 of paired data).

    The phi coefficient of the fourfold table; where it is positive, the paper's correction towards
    0 keeps few units from making an interval too narrow.

    Args:
        before: `(n,)`, whether each unit succeeded.
        after: `(n,)`, the same units in the same order.

    Returns:
        From -1 to 1; 0 where all units agree before or all agree after.
    """
    first, second = np.asarray(before, bool), np.asarray(after, bool)
    count = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    one, other = int((first & ~second).sum()), int((~first & second).sum())
    product = float(both * neither - one * other)
    if product > 0:
        product = max(0.0, product - count / 2)
    sides = [int(each.sum()) for each in (first, ~first, second, ~second)]
    return product / math.sqrt(math.prod(sides)) if all(sides) else 0.0


def paired_difference(before: ArrayLike, after: ArrayLike) -> Estimate:
    """Mean change over seeds with the Student-t interval of the seeds' own changes.

    Args:
        before: `(S,)`, one per seed.
        after: `(S,)`, the same seeds in the same order.

    Returns:
        The mean change and its interval; NaN bounds for one seed, or if all changed equally.

    Raises:
        ValueError: the two differ in shape.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"Paired values must match seed by seed, not {first.shape} against {second.shape}."
        )
    return _t_interval(second - first, np.abs([first, second]).max())


def sum_of_estimates(estimates: Sequence[Estimate]) -> Estimate:
    """The sum of independent estimates, its interval from their own (Zou and Donner's MOVER).

    Args:
        estimates: one per task, at least one.

    Returns:
        The sum and its interval; NaN bounds if any has none.
    """
    value = math.fsum(estimate.value for estimate in estimates)
    lower = math.hypot(*(estimate.value - estimate.lower for estimate in estimates))
    upper = math.hypot(*(estimate.upper - estimate.value for estimate in estimates))
    return Estimate(value, value - lower, value + upper)


def bootstrap_sums(
    tasks: Sequence[NDArray[np.float64]], *, num_resamples: int = 20_000
) -> list[Estimate]:
    """Sums over tasks of means over seeds, with the intervals of a paired bootstrap.

    Seeds are resampled within each task, a seed with all its columns (before, after, change), so
    that a run's values before and after stay together. Of S seeds, S - 1 are drawn (Rao and Wu
    1988): the variance of the resampled means is then that of the mean, whereas S draws would give
    (S - 1) / S of it, a third too little at three seeds. The percentiles' distances from the sum
    would be right for a known spread; as it is estimated from few seeds, they are widened by t / z,
    at the degrees of freedom of Welch (1947) and Satterthwaite (1946), rounded down.

    Args:
        tasks: one array `(S, K)` per task: S seeds of at least 2, the same K columns in all.
        num_resamples: number of bootstrap draws.

    Returns:
        K sums with their intervals; NaN bounds for a column in which all seeds of each task agree.

    Raises:
        ValueError: a task with fewer than two seeds.
    """
    if any(len(task) < 2 for task in tasks):
        raise ValueError("A bootstrap over seeds needs at least two seeds of each task.")
    rng = np.random.default_rng(0)  # always the same draws, so that a table is the same each time
    values = np.sum([task.mean(axis=0) for task in tasks], axis=0)
    sums = np.zeros((num_resamples, len(values)))
    for task in tasks:
        size = len(task)
        drawn = rng.integers(size, size=(num_resamples, size - 1))
        sums += task[drawn].mean(axis=1)
    z = NormalDist().inv_cdf(1 - _TAIL)
    widening = [student_t_quantile(1 - _TAIL, each) / z for each in _degrees_of_freedom(tasks)]
    bounds = values + widening * (np.quantile(sums, [_TAIL, 1 - _TAIL], axis=0) - values)
    return _estimates(values, bounds, tasks)


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """The mean without the lowest and the highest quarter, rounded down, along the last axis.

    Args:
        values: `(..., N)`; for N below 4 the result is the plain mean.

    Returns:
        `(...)`; NaN where any value is NaN, because its quarter is unknown.
    """
    array = np.sort(np.asarray(values, np.float64), axis=-1)
    cut = array.shape[-1] // 4
    middle: NDArray[np.float64] = array[..., cut : array.shape[-1] - cut].mean(axis=-1)
    return np.where(np.isnan(array).any(axis=-1), np.nan, middle)


def bootstrap_interquartile(
    tasks: Sequence[NDArray[np.float64]], *, num_resamples: int = 5_000
) -> list[Estimate]:
    """Interquartile means (IQM) of all runs of all tasks, with a stratified bootstrap.

    After Agarwal et al. (2021): seeds are resampled within each task, a seed with all its columns,
    and the drawn runs of all tasks are sorted together. With few seeds plain percentiles cover too
    rarely, so their distances from the IQM are widened: by sqrt(S / (S - 1)), S being the fewest
    seeds of a task, because S draws spread too little, and by t / z at N - T degrees of freedom for
    N runs of T tasks.

    Args:
        tasks: one array `(S, K)` per task: S seeds of at least `ENOUGH_SEEDS`, the same K columns.
        num_resamples: number of bootstrap draws.

    Returns:
        K interquartile means with their intervals, and at the end, where K is 2, their difference
        with its own; NaN bounds for a column in which all seeds of each task agree.

    Raises:
        ValueError: a task with fewer seeds.
    """
    if any(len(task) < ENOUGH_SEEDS for task in tasks):
        raise ValueError(f"An IQM needs at least {ENOUGH_SEEDS} seeds of each task.")
    rng = np.random.default_rng(0)  # always the same draws, so that a table is the same each time
    drawn = [task[rng.integers(len(task), size=(num_resamples, len(task)))] for task in tasks]
    resampled = with_difference(interquartile_mean(np.concatenate(drawn, axis=1).swapaxes(1, 2)))
    values = with_difference(interquartile_mean(np.concatenate(tasks).T))
    fewest = min(map(len, tasks))
    t = student_t_quantile(1 - _TAIL, sum(map(len, tasks)) - len(tasks))
    widening = math.sqrt(fewest / (fewest - 1)) * t / NormalDist().inv_cdf(1 - _TAIL)
    bounds = values + widening * (np.quantile(resampled, [_TAIL, 1 - _TAIL], axis=0) - values)
    return _estimates(values, bounds, [with_difference(task) for task in tasks])


def with_difference(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(..., 2)` with the second minus the first as a third column; other widths unchanged."""
    if columns.shape[-1] != 2:
        return columns
    return np.concatenate([columns, np.diff(columns, axis=-1)], axis=-1)


def _estimates(
    values: NDArray[np.float64],
    bounds: NDArray[np.float64],
    tasks: Sequence[NDArray[np.float64]],
) -> list[Estimate]:
    """Values `(K,)` with bounds `(2, K)`, which are left out where each task's seeds all agree."""
    # A difference is as exact as the columns that it is of, so all are held against the greatest.
    spread = np.any([np.ptp(t, axis=0) > ROUNDING * np.abs(t).max() for t in tasks], axis=0)
    return [
        Estimate(float(value), float(low), float(high)) if wide else Estimate(float(value))
        for value, low, high, wide in zip(values, *bounds, spread, strict=True)
    ]


def _degrees_of_freedom(tasks: Sequence[NDArray[np.float64]]) -> list[int]:
    """Degrees of freedom of each column's sum over tasks (Welch, Satterthwaite), rounded down."""
    variances = np.array([task.var(axis=0, ddof=1) / len(task) for task in tasks])  # (T, K)
    squares = sum(
        variance**2 / (len(task) - 1) for variance, task in zip(variances, tasks, strict=True)
    )
    ones = np.ones_like(squares)  # for columns whose seeds all agree: there is nothing to widen
    degrees = np.divide(variances.sum(axis=0) ** 2, squares, where=squares > 0, out=ones)
    return [max(1, math.floor(each + 1e-9)) for each in degrees]
