import math

import numpy as np
import pytest
import scipy.stats

from iqlft.analysis.statistics import (
    ENOUGH_SEEDS,
    Estimate,
    bootstrap_interquartile,
    bootstrap_sums,
    interquartile_mean,
    newcombe_difference,
    paired_correlation,
    paired_difference,
    student_t_quantile,
    sum_of_estimates,
    t_interval,
    wilson_interval,
    with_difference,
)


@pytest.mark.parametrize("degrees_of_freedom", [1, 2, 3, 4, 5, 9, 10, 29, 100])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.3, 0.5, 0.6, 0.95, 0.975, 0.9995])
def test_the_t_quantile_is_scipys(degrees_of_freedom: int, probability: float) -> None:
    expected = scipy.stats.t.ppf(probability, degrees_of_freedom)

    assert student_t_quantile(probability, degrees_of_freedom) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize(("probability", "degrees_of_freedom"), [(0, 2), (1, 2), (0.9, 0)])
def test_a_t_quantile_outside_its_range_is_refused(
    probability: float, degrees_of_freedom: int
) -> None:
    with pytest.raises(ValueError, match="A t quantile needs"):
        student_t_quantile(probability, degrees_of_freedom)


def test_the_t_interval_is_scipys() -> None:
    values = [70.0, 72.0, 81.0]
    scale = scipy.stats.sem(values)
    lower, upper = scipy.stats.t.interval(0.95, 2, loc=np.mean(values), scale=scale)

    assert t_interval(values) == pytest.approx((np.mean(values), lower, upper))


def test_one_value_has_no_t_interval() -> None:
    estimate = t_interval([3.0])

    assert estimate.value == 3
    assert not estimate.has_interval


def test_values_that_agree_have_no_t_interval() -> None:
    rounded = np.array([[100.1, 100.4], [100.2, 100.5]] * 2)  # all rise by 0.3, but for rounding
    for estimate in (
        t_interval([1.0] * 5),
        t_interval([0.1 + 0.2, 0.3]),
        paired_difference([1.0, 2.0], [3.0, 4.0]),
        paired_difference(*rounded.T),
        bootstrap_sums([with_difference(rounded)])[2],
        bootstrap_interquartile([rounded])[2],
    ):
        assert not estimate.has_interval
    assert np.ptp(rounded[:, 1] - rounded[:, 0]) > 0
    assert t_interval([0.3, 0.3001]).has_interval


def test_an_interval_is_stretched_to_another_and_replaced_where_there_is_none() -> None:
    wide, none = Estimate(5, 1, 9), Estimate(4, math.nan, math.nan)

    assert Estimate(4, 3, 10).at_least(wide) == (4, 1, 10)
    assert none.at_least(wide) == (4, 1, 9)
    assert wide.at_least(none) == wide
    assert not none.at_least(none).has_interval


@pytest.mark.parametrize(("successes", "episodes"), [(0, 10), (3, 10), (55, 100), (100, 100)])
def test_the_wilson_interval_is_scipys(successes: int, episodes: int) -> None:
    expected = scipy.stats.binomtest(successes, episodes).proportion_ci(method="wilson")

    estimate = wilson_interval(successes / episodes, episodes)

    assert estimate == pytest.approx((successes / episodes, expected.low, expected.high))
    assert 0 <= estimate.lower <= estimate.value <= estimate.upper <= 1


def test_a_wilson_interval_of_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 episode"):
        wilson_interval(0.5, 0)
    with pytest.raises(ValueError, match=r"share in \[0, 1\]"):
        wilson_interval(55, 100)


def test_newcombes_difference_is_his_published_example() -> None:
    # Newcombe (1998), table II, example (a), method 10: 56/70 - 48/80 is in (0.0524, 0.3339).
    estimate = newcombe_difference(wilson_interval(48 / 80, 80), wilson_interval(56 / 70, 70))

    assert estimate == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_the_correlation_of_paired_episodes_is_phi_of_their_fourfold_table() -> None:
    # 14 succeeded both times, 5 only before, none only after, 22 never.
    before, after = [1] * 14 + [1] * 5 + [0] * 22, [1] * 14 + [0] * 5 + [0] * 22
    phi = (14 * 22 - 41 / 2) / (19 * 22 * 14 * 27) ** 0.5
    assert paired_correlation(before, after) == pytest.approx(phi)
    assert paired_correlation([1, 0, 1, 0], [0, 1, 0, 1]) == -1
    assert paired_correlation([1, 1, 0], [1, 0, 0]) == 0  # Three episodes show nothing.
    assert paired_correlation([1, 1, 0], [1, 1, 1]) == 0


def test_the_paired_difference_sees_through_what_seeds_share() -> None:
    before, after = [20.0, 50.0, 80.0], [29.0, 60.0, 91.0]

    assert paired_difference(before, after) == pytest.approx(t_interval([9, 10, 11]))
    with pytest.raises(ValueError, match="seed by seed"):
        paired_difference(before, after[:2])


def test_a_sum_of_estimates_adds_the_squares_of_its_sides() -> None:
    total = sum_of_estimates([Estimate(10, 7, 15), Estimate(20, 16, 32)])

    assert total == (30, 30 - 5, 30 + 13)  # 3-4-5 and 5-12-13
    assert not sum_of_estimates([Estimate(1, 0, 2), t_interval([1])]).has_interval


def test_a_bootstrap_keeps_the_columns_of_a_seed_together() -> None:
    before = np.array([0.0, 40.0, 90.0])
    tasks = [np.column_stack([before, before + 7, np.full(3, 7.0)])] * 2

    first, second, change = bootstrap_sums(tasks)

    assert change.value == 14
    assert not change.has_interval  # Seeds that all change alike say nothing of others.
    assert second == pytest.approx(Estimate(*(number + 14 for number in first)))
    assert first.lower < first.value < first.upper
    assert bootstrap_sums(tasks) == bootstrap_sums(tasks)


def test_a_bootstrap_of_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two seeds"):
        bootstrap_sums([np.zeros((1, 2))])


def test_the_t_interval_covers_at_the_promised_rate_with_three_seeds() -> None:
    samples = np.random.default_rng(0).normal(50, 10, (4000, 3))
    covered = [est.lower <= 50 <= est.upper for est in map(t_interval, samples)]

    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_the_wilson_interval_covers_near_the_promised_rate() -> None:
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.5, 0.9):
        shares = rng.binomial(100, share, 2000) / 100
        bounds = [wilson_interval(float(drawn), 100) for drawn in shares]

        assert np.mean([b.lower <= share <= b.upper for b in bounds]) == pytest.approx(
            0.95, abs=0.03
        )


def test_the_paired_interval_covers_and_is_narrower_than_an_unpaired_one() -> None:
    rng = np.random.default_rng(0)
    seeds = rng.normal(50, 20, (3000, 5))
    after = seeds + 10 + rng.normal(0, 3, seeds.shape)
    paired = [paired_difference(b, a) for b, a in zip(seeds, after, strict=True)]
    unpaired = [
        newcombe_difference(t_interval(b), t_interval(a)) for b, a in zip(seeds, after, strict=True)
    ]

    assert np.mean([e.lower <= 10 <= e.upper for e in paired]) == pytest.approx(0.95, abs=0.015)
    widths = [np.median([e.upper - e.lower for e in kind]) for kind in (paired, unpaired)]
    assert widths[0] < widths[1] / 3


def test_newcombes_difference_covers_near_the_promised_rate() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.binomial(50, 0.6, 2000) / 50, rng.binomial(50, 0.9, 2000) / 50
    bounds = [
        newcombe_difference(wilson_interval(b, 50), wilson_interval(a, 50))
        for b, a in zip(map(float, before), map(float, after), strict=True)
    ]

    assert np.mean([b.lower <= 0.3 <= b.upper for b in bounds]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("shared", "width"), [(0.0, 1.0), (0.5, 0.86), (0.9, 0.72)])
def test_the_interval_of_paired_episodes_covers_and_is_narrower_the_more_they_share(
    shared: float, width: float
) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random((2000, 60))
    luck = np.where(rng.random(hard.shape) < shared, hard, rng.random(hard.shape))
    before, after = hard < 0.6, luck < 0.8
    pairs = [
        (wilson_interval(float(b.mean()), 60), wilson_interval(float(a.mean()), 60))
        for b, a in zip(before, after, strict=True)
    ]
    alone = [newcombe_difference(*each) for each in pairs]
    together = [
        newcombe_difference(*each, paired_correlation(b, a))
        for each, b, a in zip(pairs, before, after, strict=True)
    ]

    covered = np.mean([each.lower <= 0.2 <= each.upper for each in together])
    assert covered == pytest.approx(0.955, abs=0.015)
    widths = [np.median([e.upper - e.lower for e in kind]) for kind in (together, alone)]
    assert widths[0] / widths[1] == pytest.approx(width, abs=0.02)


@pytest.mark.parametrize(("tasks", "seeds"), [(2, 2), (2, 3), (6, 3), (6, 5)])
def test_the_bootstrap_of_a_total_covers_where_a_known_spread_falls_short(
    tasks: int, seeds: int
) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(50, 10, (400, tasks, seeds, 1))
    covered, plain = [], []
    for sample in samples:
        (total,) = bootstrap_sums(list(sample), num_resamples=1000)
        covered.append(total.lower <= 50 * tasks <= total.upper)
        half = 1.96 * math.sqrt(sum(float(task.var()) / seeds for task in sample))
        plain.append(abs(total.value - 50 * tasks) <= half)  # the normal limit, all seeds drawn

    assert np.mean(covered) > 0.925  # three standard errors of 400 below .95 and a little
    assert np.mean(plain) < np.mean(covered) - 0.02


def test_a_bootstrap_is_widened_by_student_t_for_the_seeds_that_there_are() -> None:
    # Equal spreads of two tasks with two seeds each: Welch and Satterthwaite's two degrees.
    tasks = [np.array([[0.0], [10.0]])] * 2
    (total,) = bootstrap_sums(tasks)

    half = 10 * scipy.stats.t.ppf(0.975, 2) / scipy.stats.norm.ppf(0.975)  # percentiles are 0, 20
    assert total == pytest.approx((10, 10 - half, 10 + half))


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 30])
def test_the_interquartile_mean_is_scipys_trimmed_one(count: int) -> None:
    values = np.random.default_rng(count).normal(size=(2, count))

    expected = scipy.stats.trim_mean(values, 0.25, axis=-1)
    np.testing.assert_allclose(interquartile_mean(values), expected)


def test_an_interquartile_mean_is_of_all_runs_and_keeps_the_columns_of_a_seed_together() -> None:
    before = np.array([0.0, 40.0, 60.0, 90.0])
    tasks = [np.column_stack([before, before + 7]), np.column_stack([before + 5, before + 12])]

    first, second, change = bootstrap_interquartile(tasks)

    assert first.value == pytest.approx(scipy.stats.trim_mean(np.r_[before, before + 5], 0.25))
    assert first.lower < first.value < first.upper
    assert second == pytest.approx(Estimate(*(number + 7 for number in first)))
    assert change.value == pytest.approx(7)
    assert len(bootstrap_interquartile([before[:, None]])) == 1
    assert bootstrap_interquartile(tasks) == bootstrap_interquartile(tasks)


def test_an_interquartile_mean_of_few_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {ENOUGH_SEEDS} seeds"):
        bootstrap_interquartile([np.zeros((4, 2)), np.zeros((3, 2))])


@pytest.mark.parametrize(("tasks", "seeds"), [(1, 4), (1, 10), (3, 4), (6, 5)])
def test_the_interval_of_an_interquartile_mean_covers(tasks: int, seeds: int) -> None:
    rng = np.random.default_rng(0)
    means = np.linspace(20, 80, tasks)[:, None]
    (truth,) = interquartile_mean([rng.normal(means, 10, (tasks, 40_000)).ravel()])
    covered = []
    for sample in rng.normal(means, 10, (400, tasks, seeds)):
        (iqm,) = bootstrap_interquartile(list(sample[..., None]), num_resamples=500)
        covered.append(iqm.lower <= truth <= iqm.upper)

    # Of tasks that lie far apart less, for a quarter of few runs is cut where the gap is.
    assert np.mean(covered) > (0.87 if (tasks, seeds) == (3, 4) else 0.925)


def test_a_run_without_a_number_is_not_cut_off_as_the_best() -> None:
    assert math.isnan(float(interquartile_mean([20, 21, 22, math.nan])))
    assert interquartile_mean([[1, 2, 3, 4], [1, 2, 3, math.nan]])[0] == 2.5
    before, after, change = bootstrap_interquartile(
        [np.array([[10.0, 20.0], [11.0, 21.0], [12.0, 22.0], [13.0, math.nan]])]
    )
    assert before.value == 11.5
    assert np.isnan([*after, *change]).all()
