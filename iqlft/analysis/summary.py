"""Before -> after of each task and in total: the numbers that the figure and the table share."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqlft.analysis.published import task_order
from iqlft.analysis.statistics import (
    ENOUGH_SEEDS,
    Estimate,
    bootstrap_interquartile,
    bootstrap_sums,
    newcombe_difference,
    paired_correlation,
    paired_difference,
    sum_of_estimates,
    t_interval,
    wilson_interval,
    with_difference,
)
from iqlft.config.algorithms import title
from iqlft.runs.curves import common_metric
from iqlft.runs.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from iqlft.runs.curves import RunCurve
    from iqlft.runs.scores import Metric, Score


class Series(NamedTuple):
    """What may be averaged over seeds and added up over tasks: one algorithm, variant and origin.

    Attributes:
        algorithm: such as `iql`.
        variant: how it was trained, where that has a name or differs between seeds; else empty.
        origin: where the data of all its tasks come from.
    """

    algorithm: str
    variant: str
    origin: str

    @property
    def name(self) -> str:
        """`IQL`, or `IQL half` for the variant `half`."""
        return f"{title(self.algorithm)} {self.variant}".rstrip()


def series_of(run: RunCurve) -> Series:
    """The series of a run.

    Its origin is the namespace of its Minari id, such as `D4RL` of `D4RL/antmaze/umaze-v1`; of
    several ids, joined by ` + `, it is their namespaces joined in the same way.
    """
    namespaces = dict.fromkeys(each.partition("/")[0] for each in run.label.split(" + "))
    return Series(run.algorithm, run.variant, " + ".join(namespaces))


@dataclass(frozen=True)
class Group:
    """The seeds of one series on one task.

    Attributes:
        task: the task's name.
        series: algorithm, variant and origin of the data.
        metric: what all runs of the task report.
        runs: one per seed, by seed; all of the same data.
    """

    task: str
    series: Series
    metric: Metric
    runs: tuple[RunCurve, ...]

    @property
    def label(self) -> str:
        """The data of this task."""
        return self.runs[0].label

    @property
    def tuned(self) -> tuple[RunCurve, ...]:
        """The runs that were evaluated before fine-tuning and after some of it."""
        return tuple(run for run in self.runs if run.before and run.after)


@dataclass(frozen=True)
class Summary:
    """Before -> after of one group, or of a sum over tasks.

    Attributes:
        task: the task's name; for a sum, `total of N tasks`.
        series: algorithm, variant and origin of the data.
        label: the data; for a sum over different ones their origin.
        metric: of the numbers.
        before: mean over seeds before fine-tuning, with its interval; None if never evaluated.
        after: the same after it; None while no run has an online evaluation.
        change: mean change, paired by seed; None without both.
        pairs: each seed's values, before `(S, 1)` or before and after `(S, 2)`.
        pooled: episodes of all seeds behind each column of `pairs`.
        correlation: between success before and after, of episodes with the same seed; 0 where runs
            have not kept their evaluation episodes.
        episodes: distinct numbers of episodes per evaluation, ascending.
        offline_updates: distinct numbers of offline updates, ascending.
        env_steps: distinct numbers of online environment steps, ascending; empty without any.
        num_seeds: numbers of seeds that occur; a sum may have several.
        fine_tuned: whether fine-tuning of any run has begun, evaluated or not.
    """

    task: str
    series: Series
    label: str
    metric: Metric
    before: Estimate | None
    after: Estimate | None
    change: Estimate | None
    pairs: NDArray[np.float64]
    pooled: tuple[int, ...]
    correlation: float
    episodes: tuple[int, ...]
    offline_updates: tuple[int, ...]
    env_steps: tuple[int, ...]
    num_seeds: tuple[int, ...]
    fine_tuned: bool


def group_runs(runs: Iterable[RunCurve]) -> list[Group]:
    """Groups runs by task and series, tasks in the order of the published tables.

    Args:
        runs: at least one.

    Raises:
        RunError: no runs, or two with the same task, series and seed.
    """
    runs = list(runs)
    if not runs:
        raise RunError("There are no runs to summarise; train one first with `iqlft run`.")
    series = {run.folder: one for run, one in zip(runs, _series(runs), strict=True)}
    runs.sort(key=lambda run: (task_order(run.task), series[run.folder], run.seed))
    groups: dict[tuple[str, Series], list[RunCurve]] = {}
    for run in runs:
        seeds = groups.setdefault((run.task, series[run.folder]), [])
        if seeds and seeds[-1].seed == run.seed:
            raise RunError(
                f"Seed {run.seed} of {run.task} occurs twice, in {seeds[-1].folder} and "
                f"{run.folder}; name only one of them."
            )
        seeds.append(run)
    metrics = {run.task: common_metric(r for r in runs if r.task == run.task) for run in runs}
    return [Group(*key, metrics[key[0]], tuple(seeds)) for key, seeds in groups.items()]


def _series(runs: Sequence[RunCurve]) -> list[Series]:
    """The series of each run, a separate one per dataset where a task has several of one origin.

    Seeds that were trained with different settings, though under one name, are apart too.
    """
    labels: dict[tuple[str, Series], set[str]] = {}
    found = []
    for run in runs:
        one = series_of(run)
        labels.setdefault((run.task, one), set()).add(run.label)
        found.append(one)
    apart = {one for (_, one), each in labels.items() if len(each) > 1}
    found = [
        one._replace(origin=run.label) if one in apart else one
        for run, one in zip(runs, found, strict=True)
    ]
    alike: dict[tuple[str, Series], list[RunCurve]] = {}
    for run, one in zip(runs, found, strict=True):
        alike.setdefault((run.task, one), []).append(run)
    keys: dict[Series, dict[str, None]] = {one: {} for one in found}
    for (_, one), each in alike.items():
        keys[one] |= dict.fromkeys(_telling([run.settings for run in each]))
    return [_varied(one, run.settings, keys[one]) for run, one in zip(runs, found, strict=True)]


def _telling(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of as few settings as tell apart all that differ; what is not recorded is no value."""
    keys: list[str] = []
    for key in dict.fromkeys(key for each in settings for key in each):
        sorts = [{tuple(map(each.get, some)) for each in settings} for some in (keys, [*keys, key])]
        if len({each[key] for each in settings if key in each}) > 1 and len(sorts[1]) > len(
            sorts[0]
        ):
            keys.append(key)
    return keys


def _varied(series: Series, settings: Mapping[str, str], keys: Iterable[str]) -> Series:
    """A series with these settings in the name of its variant, as a sweep names them."""
    told = ",".join(f"{key}={settings[key]}" for key in keys if key in settings)
    return series._replace(variant=f"{series.variant} {told}".strip())


def clip(estimate: Estimate, metric: Metric, *, low: float = 0.0, high: float = 100.0) -> Estimate:
    """Cuts an interval of a success rate at the possible values; leaves other metrics alone."""
    return estimate.clipped(low, high) if metric == "success" else estimate


def estimate_scores(rows: Sequence[Score], metric: Metric) -> Estimate:
    """Mean over seeds of one evaluation each, with the interval that the data allow.

    Args:
        rows: the same evaluation of each seed.
        metric: what to read.

    Returns:
        The mean, with a Student-t interval over several seeds. For success rates it is never
        narrower than Wilson over the pooled episodes, which is the only interval of one seed, or
        of seeds that agree.
    """
    estimate = clip(t_interval([row.score(metric) for row in rows]), metric)
    if metric != "success":
        return estimate
    return estimate.at_least(_wilson(estimate.value, sum(row.episodes for row in rows)))


def _wilson(percent: float, episodes: int) -> Estimate:
    """The Wilson interval of a success rate in per cent, which rounding may have put above 100.

    A rate of NaN, of an evaluation without a result, has no interval.
    """
    if math.isnan(percent):
        return Estimate(percent)
    return wilson_interval(min(percent / 100, 1.0), episodes).scaled(100)


def summarise(group: Group) -> Summary:
    """Before, after and change of one group.

    If some seeds have been fine-tuned and others not, only the former count, so that before and
    after are of the same seeds; if none has, all count and there is no after. If seeds are not
    equally far, the last evaluation that all of them have counts; without one, each seed's own last
    does, and the counts of updates and steps show how far apart these are.
    """
    metric, tuned = group.metric, group.tuned
    runs = tuned or tuple(run for run in group.runs if run.before)
    befores = [run.before for run in runs if run.before]
    apart = not tuned and len({row.updates for row in befores}) > 1
    if apart and all(run.offline for run in runs):
        befores = _last_shared([run.offline for run in runs], lambda row: row.updates)
    afters = _last_shared([run.online for run in tuned], lambda row: row.env_steps)
    before = estimate_scores(befores, metric) if befores else None
    after = estimate_scores(afters, metric) if afters else None
    evaluated = [rows for rows in (befores, afters) if rows]
    columns = [[row.score(metric) for row in rows] for rows in evaluated]
    pooled = tuple(sum(row.episodes for row in rows) for rows in evaluated)
    correlation = _correlation(runs, befores, afters)
    return Summary(
        task=group.task,
        series=group.series,
        label=group.label,
        metric=metric,
        before=before,
        after=after,
        change=_change(columns, pooled, metric, correlation),
        pairs=np.array(columns, np.float64).T if columns else np.empty((0, 2)),
        pooled=pooled,
        correlation=correlation,
        episodes=_distinct(row.episodes for row in befores + afters),
        offline_updates=_distinct(row.updates for row in befores),
        env_steps=_distinct(row.env_steps for row in afters),
        num_seeds=(len(runs),),
        fine_tuned=any(run.fine_tuned for run in group.runs),
    )


def over_tasks(summaries: Sequence[Summary]) -> list[list[Summary]]:
    """The summaries of each series that has all tasks, for `total` and `interquartile`."""
    tasks = {summary.task for summary in summaries}
    series = dict.fromkeys(summary.series for summary in summaries)
    parts = ([each for each in summaries if each.series == one] for one in series)
    return [each for each in parts if len(each) == len(tasks)]


def total(summaries: Sequence[Summary]) -> Summary | None:
    """The sum over tasks, as the papers report it; None if there is nothing to add up.

    With two or more seeds of every task the intervals are a bootstrap paired by seed; if any task
    has a single seed, they combine the tasks' own intervals. For success rates they are never
    narrower than the episodes alone allow.

    Args:
        summaries: one per task, all of one series.

    Returns:
        The sum, with `after` and `change` only if every task has them after the same number of
        environment steps. None for fewer than two tasks, for metrics that differ, for returns
        (which have no common scale), and unless every task has an evaluation before fine-tuning
        after the same number of offline updates.
    """
    tables = _tables(summaries) if len(summaries) > 1 else None
    if tables is None:
        return None
    if min(map(len, tables)) > 1:
        sums = bootstrap_sums([with_difference(table) for table in tables])
    else:
        own = [(s.before, s.after, s.change) for s in summaries]
        stages = list(zip(*own, strict=True))[: 3 if tables[0].shape[1] == 2 else 1]
        sums = [sum_of_estimates([each for each in stage if each]) for stage in stages]
    if summaries[0].metric == "success":
        alone = [
            _of_episodes(
                table.mean(axis=0).tolist(), summary.pooled[: table.shape[1]], summary.correlation
            )
            for table, summary in zip(tables, summaries, strict=True)
        ]
        floors = map(sum_of_estimates, zip(*alone, strict=True))
        sums = [each.at_least(floor) for each, floor in zip(sums, floors, strict=True)]
    name = f"total of {len(summaries)} tasks"
    return _joined(summaries, name, sums, most=100.0 * len(summaries))


def interquartile(summaries: Sequence[Summary]) -> Summary | None:
    """The interquartile mean (IQM) of all seeds of all tasks; None where there are too few.

    It complements the mean, which a single failed seed can dominate. Intervals are a stratified
    bootstrap; for success rates they are never narrower than the episodes of the middle half of
    the runs allow.

    Args:
        summaries: one per task, all of one series.

    Returns:
        The IQM, under the conditions of `total`, but of a single task too, its returns included.
        None also for fewer than `ENOUGH_SEEDS` seeds of any task.
    """
    tables = _tables(summaries)
    if tables is None or min(map(len, tables)) < ENOUGH_SEEDS:
        return None
    means = bootstrap_interquartile(tables)
    if summaries[0].metric == "success":
        count = tables[0].shape[1]
        middle = [sum(s.pooled[column] for s in summaries) // 2 for column in range(count)]
        floors = _of_episodes([each.value for each in means[:count]], middle)
        means = [each.at_least(floor) for each, floor in zip(means, floors, strict=True)]
    alone = f"IQM of {summaries[0].task}"
    name = alone if len(summaries) == 1 else f"IQM of {len(summaries)} tasks"
    return _joined(summaries, name, means, most=100.0)


def _tables(summaries: Sequence[Summary]) -> list[NDArray[np.float64]] | None:
    """Each task's values by seed: before `(S, 1)`, or before and after `(S, 2)` if all have both.

    None where the tasks cannot be combined, see `total`.
    """
    metrics = {summary.metric for summary in summaries}
    if len(metrics) > 1 or ("return" in metrics and len(summaries) > 1):
        return None
    if not all(s.before for s in summaries) or not _alike(s.offline_updates for s in summaries):
        return None
    whole = all(s.after for s in summaries) and _alike(s.env_steps for s in summaries)
    return [summary.pairs[:, : 2 if whole else 1] for summary in summaries]


def _joined(
    summaries: Sequence[Summary], name: str, estimates: Sequence[Estimate], most: float
) -> Summary:
    """A summary of several tasks from `estimates` of before, or of before, after and change.

    Success rates are clipped to 0 and `most`, their change to `-most` and `most`.
    """
    clipped: list[Estimate | None] = [
        clip(each, summaries[0].metric, low=low, high=most)
        for each, low in zip(estimates, (0.0, 0.0, -most), strict=False)
    ]
    before, after, change = clipped + [None] * (3 - len(clipped))
    labels = {summary.label for summary in summaries}
    return dataclasses.replace(
        summaries[0],
        task=name,
        label=labels.pop() if len(labels) == 1 else summaries[0].series.origin,
        before=before,
        after=after,
        change=change,
        pairs=np.empty((0, 2)),
        pooled=(),
        correlation=0.0,
        episodes=_distinct(n for s in summaries for n in s.episodes),
        offline_updates=_distinct(n for s in summaries for n in s.offline_updates),
        env_steps=_distinct(n for s in summaries for n in s.env_steps if after),
        num_seeds=_distinct(n for s in summaries for n in s.num_seeds),
        fine_tuned=any(s.fine_tuned for s in summaries),
    )


def short_count(number: float) -> str:
    """A count in k or M with up to three digits: 250000 is `250k`, 1e6 is `1M`."""
    size = abs(number)
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        # Half a digit below the unit already rounds up to it: 999,999 is 1M, not 1e+03k.
        if size >= unit * 0.9995:
            return f"{number / unit:.3g}{suffix}"
    return f"{number:.3g}"


def count_range(numbers: Sequence[int]) -> str:
    """Ascending counts as one text: `1M`, or `250k-1M` where they differ; `-` without any."""
    if not numbers:
        return "-"
    ends = dict.fromkeys((short_count(numbers[0]), short_count(numbers[-1])))
    return "-".join(ends)


def _change(
    columns: Sequence[Sequence[float]], pooled: Sequence[int], metric: Metric, correlation: float
) -> Estimate | None:
    """The change paired by seed; for success rates never narrower than the episodes allow."""
    if len(columns) < 2:
        return None
    change = clip(paired_difference(columns[0], columns[1]), metric, low=-100.0)
    if metric != "success":
        return change
    values = [float(np.mean(each)) for each in columns]
    return change.at_least(_of_episodes(values, pooled, correlation)[-1])


def _of_episodes(
    values: Sequence[float], episodes: Sequence[int], correlation: float = 0.0
) -> list[Estimate]:
    """Success rates with intervals from their episodes alone, and the change if there are two."""
    stages = [_wilson(*each) for each in zip(values, episodes, strict=True)]
    if len(stages) < 2:
        return stages
    before, after = stages
    return [before, after, newcombe_difference(before, after, correlation)]


def _correlation(
    runs: Sequence[RunCurve], befores: Sequence[Score], afters: Sequence[Score]
) -> float:
    """Correlation of success before and after over all runs' episodes; 0 if a run lacks them."""
    if not afters:
        return 0.0
    pairs: list[tuple[bool, bool]] = []
    for run, before, after in zip(runs, befores, afters, strict=True):
        own = run.paired_successes(before, after)
        if not own:
            return 0.0
        pairs += own
    return paired_correlation(*zip(*pairs, strict=True))


def _alike(counts: Iterable[tuple[int, ...]]) -> bool:
    """Whether all counts are the same number."""
    return len({number for each in counts for number in each}) == 1


def _last_shared(lines: Sequence[Sequence[Score]], place: Callable[[Score], int]) -> list[Score]:
    """Each line's evaluation at the last place that all share; its own last if there is none."""
    found = [{place(row): row for row in line} for line in lines]
    shared = set.intersection(*map(set, found)) - {0} if found else set()
    return [rows[max(shared or rows)] for rows in found]


def _distinct(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(numbers)))
