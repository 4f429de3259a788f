import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iqlft.analysis.statistics import (
    newcombe_difference,
    paired_difference,
    t_interval,
    wilson_interval,
)
from iqlft.analysis.summary import (
    count_range,
    estimate_scores,
    group_runs,
    interquartile,
    short_count,
    summarise,
    total,
)
from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft.runs.scores import Score

MakeRun = Callable[..., Path]


def test_several_seeds_are_summarised_by_student_t_paired_by_seed(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(seed=seed, online=[before, after]))
        for seed, before, after in [(0, 0.4, 0.5), (1, 0.5, 0.75), (2, 0.6, 0.65)]
    ]
    (group,) = group_runs(runs)
    summary = summarise(group)

    assert summary.before == pytest.approx(t_interval([40, 50, 60]))
    assert summary.after == pytest.approx(t_interval([50, 75, 65]))
    assert summary.change == pytest.approx(paired_difference([40, 50, 60], [50, 75, 65]))
    assert (summary.num_seeds, summary.episodes) == ((3,), (100,))
    assert (summary.offline_updates, summary.env_steps) == ((1_000_000,), (1_000_000,))


def test_one_seed_is_summarised_by_wilson_and_newcombe(make_run: MakeRun) -> None:
    (group,) = group_runs([read_run(make_run(online=[0.5, 0.8], episodes=50))])
    before, after = wilson_interval(0.5, 50).scaled(100), wilson_interval(0.8, 50).scaled(100)
    summary = summarise(group)

    assert (summary.before, summary.after) == (before, after)
    assert summary.change == newcombe_difference(before, after)


def test_episodes_of_the_same_seeds_make_the_change_surer(make_run: MakeRun) -> None:
    kept = [read_run(make_run(seed=s, online=[0.5, 0.8], episodes=50, kept=True)) for s in (0, 1)]
    other = read_run(make_run(seed=2, online=[0.5, 0.8], episodes=50))
    one, two = summarise(*group_runs(kept[:1])), summarise(*group_runs(kept))
    mixed = summarise(*group_runs([kept[0], other]))

    phi = (25 * 10 - 25) / (25 * 25 * 40 * 10) ** 0.5
    assert (one.correlation, mixed.correlation) == (pytest.approx(phi), 0)
    before, after = wilson_interval(0.5, 50).scaled(100), wilson_interval(0.8, 50).scaled(100)
    assert one.change == newcombe_difference(before, after, one.correlation)
    changes = [each.change for each in (one, two, mixed)]
    widths = [each.upper - each.lower for each in changes if each is not None]
    assert widths[1] < 0.85 * widths[2]
    assert widths[1] == pytest.approx(widths[0] / 2**0.5, rel=0.06)


def test_one_seed_of_returns_has_no_interval(make_run: MakeRun) -> None:
    (group,) = group_runs([read_run(make_run(metric="return", online=[5, 8]))])
    change = summarise(group).change

    assert change is not None
    assert change.value == 3
    assert not change.has_interval


def test_intervals_of_success_stay_within_its_range(make_run: MakeRun) -> None:
    runs = [read_run(make_run(seed=s, online=[0.0, a])) for s, a in enumerate([0.5, 1.0])]
    after = summarise(*group_runs(runs)).after

    assert after is not None
    assert (after.lower, after.value, after.upper) == (0, 75, 100)


def test_only_fine_tuned_seeds_count_once_there_are_any(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(seed=0, online=[0.5, 0.75])),
        read_run(make_run(seed=1, offline=[0.1])),
    ]
    summary = summarise(*group_runs(runs))

    assert summary.num_seeds == (1,)
    assert summary.before is not None
    assert summary.before.value == 50


def test_without_any_fine_tuned_seed_all_count_and_there_is_no_after(make_run: MakeRun) -> None:
    runs = [read_run(make_run(seed=s, offline=[v])) for s, v in enumerate([0.1, 0.3])]
    summary = summarise(*group_runs(runs))

    assert summary.before is not None
    assert summary.before.value == pytest.approx(20)
    assert summary.after is None
    assert summary.change is None


def test_tasks_come_in_the_order_of_the_published_tables(make_run: MakeRun) -> None:
    names = ["hopper-medium", "antmaze-large-play", "antmaze-umaze-diverse", "antmaze-umaze"]
    groups = group_runs([read_run(make_run(name)) for name in names])

    assert [group.task for group in groups] == names[::-1]


def test_the_same_seed_twice_and_no_runs_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    first, again = read_run(make_run()), read_run(make_run(root=tmp_path / "copy"))
    with pytest.raises(RunError, match="Seed 0 of antmaze-umaze occurs twice"):
        group_runs([first, again])
    with pytest.raises(RunError, match="no runs"):
        group_runs([])


def test_data_of_different_origin_are_never_averaged(make_run: MakeRun) -> None:
    runs = [read_run(make_run(seed=0)), read_run(make_run(seed=1, label="D4RL/antmaze/umaze-v1"))]

    assert len(group_runs(runs)) == 2


def test_sets_of_one_namespace_are_of_one_origin_and_add_up(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(f"d4rl-antmaze-{name}", label=f"D4RL/antmaze/{name}-v1", offline=[value]))
        for name, value in [("umaze", 0.8), ("medium-play", 0.7)]
    ]
    groups = group_runs(runs)
    summed = total([summarise(group) for group in groups])

    assert {group.series.origin for group in groups} == {"D4RL"}
    assert [group.label for group in groups] == [
        "D4RL/antmaze/umaze-v1",
        "D4RL/antmaze/medium-play-v1",
    ]
    assert summed is not None
    assert summed.before is not None
    assert (summed.label, summed.before.value) == ("D4RL", pytest.approx(150))


def test_two_sets_of_one_task_are_never_averaged(make_run: MakeRun, tmp_path: Path) -> None:
    names = ["D4RL/antmaze/umaze-v1", "D4RL/antmaze/umaze-v2"]
    runs = [
        read_run(make_run(seed=seed, label=label, root=tmp_path / str(seed)))
        for seed, label in enumerate(names)
    ]

    assert [group.series.origin for group in group_runs(runs)] == names


def test_a_total_before_all_are_fine_tuned_has_no_environment_steps(make_run: MakeRun) -> None:
    runs = [read_run(make_run(online=[0.5, 0.9])), read_run(make_run("antmaze-medium-play"))]
    summed = total([summarise(group) for group in group_runs(runs)])

    assert summed is not None
    assert (summed.after, summed.env_steps) == (None, ())


def test_a_total_is_not_of_tasks_that_are_not_equally_far(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(online=[0.5, 0.9])),
        read_run(make_run("antmaze-medium-play", online=[0.5, 0.9], env_steps=200_000)),
    ]
    summed = total([summarise(group) for group in group_runs(runs)])

    assert summed is not None
    assert summed.before is not None
    assert (summed.after, summed.change, summed.env_steps) == (None, None, ())


def test_there_is_no_total_of_tasks_that_are_not_equally_long_pretrained(make_run: MakeRun) -> None:
    runs = [read_run(make_run()), read_run(make_run("antmaze-medium-play", updates=300_000))]

    assert total([summarise(group) for group in group_runs(runs)]) is None


def test_seeds_are_compared_where_all_of_them_have_come(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(seed=0, online=[0.2, 0.4, 0.6, 0.8, 1.0])),
        read_run(make_run(seed=1, online=[0.4, 0.6, 0.8], env_steps=500_000)),
        read_run(make_run(seed=2, offline=[0.1, 0.3])),
    ]
    summary = summarise(*group_runs(runs))

    assert summary.before == pytest.approx(t_interval([20, 40]).clipped(0, 100))
    assert summary.after is not None
    assert summary.after.value == pytest.approx(70)
    assert (summary.num_seeds, summary.env_steps) == ((2,), (500_000,))


def test_seeds_that_are_pretrained_are_compared_where_all_of_them_have_come(
    make_run: MakeRun,
) -> None:
    runs = [
        read_run(make_run(seed=0, offline=[0.1, 0.3, 0.5, 0.7])),
        read_run(make_run(seed=1, offline=[0.2, 0.4, 0.9], updates=750_000)),
    ]
    summary = summarise(*group_runs(runs))

    assert summary.before == pytest.approx(t_interval([50, 90]).clipped(0, 100))
    assert summary.offline_updates == (750_000,)


def test_seeds_without_a_common_evaluation_are_shown_as_they_are(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, seed=seed, online=[0.2, 0.4], updates=steps, env_steps=steps))
        for task in ("antmaze-umaze", "antmaze-large-play")
        for seed, steps in enumerate([300_000, 500_000])
    ]
    summaries = [summarise(group) for group in group_runs(runs)]

    assert summaries[0].after is not None
    assert summaries[0].after.value == 40
    assert summaries[0].env_steps == summaries[0].offline_updates == (300_000, 500_000)
    assert total(summaries) is None


def test_a_total_stays_within_what_its_tasks_allow(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, seed=seed, online=[0.0, after]))
        for task in ("antmaze-umaze", "antmaze-large-play")
        for seed, after in enumerate([0.5, 1.0])
    ]
    summed = total([summarise(group) for group in group_runs(runs)])

    assert summed is not None
    assert summed.after is not None
    assert summed.change is not None
    assert (summed.after.value, summed.after.upper, summed.change.upper) == (150, 200, 200)
    assert summed.after.lower > 0


def test_data_of_several_sets_are_not_called_by_the_first_one_alone(make_run: MakeRun) -> None:
    label = "D4RL/antmaze/umaze-v1 + imported/antmaze-umaze-v0 + D4RL/antmaze/umaze-v2"
    (group,) = group_runs([read_run(make_run(label=label))])

    assert (group.series.origin, group.label) == ("D4RL + imported", label)


def test_a_total_is_the_sum_over_tasks(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, seed=seed, online=[before + seed / 10, before + 0.2 + seed / 10]))
        for task, before in [("antmaze-umaze", 0.4), ("antmaze-large-play", 0.1)]
        for seed in range(3)
    ]
    summed = total([summarise(group) for group in group_runs(runs)])

    assert summed is not None
    assert summed.before is not None
    assert summed.task == "total of 2 tasks"
    assert summed.before.value == pytest.approx(50 + 20)
    assert summed.before.lower < 70 < summed.before.upper
    assert summed.change is not None
    assert summed.change.value == pytest.approx(40)
    # All seeds changed alike: what is left is how sure 300 episodes of each task are.
    assert 5 < 40 - summed.change.lower < 15


def test_a_total_with_single_seeds_combines_the_tasks_own_intervals(make_run: MakeRun) -> None:
    runs = [read_run(make_run(t, online=[0.5, 0.5])) for t in ("antmaze-umaze", "antmaze-x")]
    summed = total([summarise(group) for group in group_runs(runs)])
    one = wilson_interval(0.5, 100)

    assert summed is not None
    assert summed.before is not None
    assert summed.before.upper - 100 == pytest.approx(100 * (one.upper - 0.5) * 2**0.5)


def test_there_is_no_total_of_one_task_of_mixed_metrics_or_of_returns(make_run: MakeRun) -> None:
    success = summarise(*group_runs([read_run(make_run())]))
    returns = summarise(*group_runs([read_run(make_run("hopper", metric="return"))]))

    assert total([success]) is None
    assert total([success, returns]) is None
    assert total([returns, returns]) is None


def test_a_total_before_fine_tuning_is_complete_has_no_after(make_run: MakeRun) -> None:
    done = summarise(*group_runs([read_run(make_run(online=[0.5, 0.6]))]))
    pending = summarise(*group_runs([read_run(make_run("antmaze-large-play"))]))
    summed = total([done, pending])

    assert summed is not None
    assert summed.before is not None
    assert (summed.before.value, summed.after, summed.change) == (100, None, None)


def test_counts_are_written_short() -> None:
    written = [short_count(n) for n in (0, 500, 25_000, 250_000, 999_999, 1_000_000, 1_250_000)]

    assert written == ["0", "500", "25k", "250k", "1M", "1M", "1.25M"]
    assert [count_range(n) for n in ((), (3,), (100, 200, 5000))] == ["-", "3", "100-5k"]


def scores(rates: list[float], episodes: int = 100) -> list[Score]:
    return [Score("online", 1, 1, 0.0, rate, 0.0, None, episodes) for rate in rates]


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_seeds_that_agree_are_as_sure_as_all_their_episodes(seeds: int, rate: float) -> None:
    estimate = estimate_scores(scores([rate] * seeds), "success")

    assert estimate == pytest.approx(wilson_interval(rate, 100 * seeds).scaled(100))
    assert estimate.lower < estimate.upper


def test_seeds_of_several_lengths_pool_their_episodes() -> None:
    rows = [*scores([1.0], 10), *scores([1.0], 90)]

    assert estimate_scores(rows, "success") == wilson_interval(1.0, 100).scaled(100)


def test_seeds_that_differ_by_more_than_their_episodes_do_keep_student_t() -> None:
    assert estimate_scores(scores([0.3, 0.5, 0.7]), "success") == pytest.approx(
        t_interval([30, 50, 70]).clipped(0, 100)
    )


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.5, 0.97, 0.99])
def test_the_interval_of_a_rate_covers_up_to_the_ends_of_the_scale(seeds: int, rate: float) -> None:
    """Seeds whose own rates hardly differ; Student-t alone covers 50 % of two at 99.5 %."""
    rng, covered = np.random.default_rng(0), []
    own = rng.beta(200 * rate, 200 * (1 - rate), (1000, seeds))
    for drawn in rng.binomial(100, own) / 100:
        estimate = estimate_scores(scores(drawn.tolist()), "success")
        covered.append(estimate.lower <= 100 * rate <= estimate.upper)

    assert np.mean(covered) > 0.94


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.02, 0.98), (0.98, 0.995)])
@pytest.mark.parametrize("seeds", [2, 4])
def test_the_interval_of_a_change_and_of_a_total_cover_up_to_the_ends(
    rates: tuple[float, float], seeds: int, make_run: MakeRun, tmp_path: Path
) -> None:
    rng, tasks = np.random.default_rng(0), ("antmaze-umaze", "antmaze-large-play")
    runs = [
        read_run(make_run(task, seed=seed, online=[0.0, 0.0], root=tmp_path))
        for task in tasks
        for seed in range(seeds)
    ]
    covered: list[list[bool]] = []
    for _ in range(100):
        drawn = []
        for run in runs:
            before, after = rng.binomial(100, rates) / 100
            first, last = run.online
            rows = (first._replace(success=float(before)), last._replace(success=float(after)))
            drawn.append(dataclasses.replace(run, rows=rows))
        summaries = [summarise(group) for group in group_runs(drawn)]
        summed, change = total(summaries), 100 * (rates[1] - rates[0])
        assert summed is not None
        expected = [(summaries[0].change, change), (summed.change, 2 * change)]
        expected += [(summed.before, 200 * rates[0]), (summed.after, 200 * rates[1])]
        covered.append([bool(e and e.lower <= truth <= e.upper) for e, truth in expected])

    assert (np.mean(covered, axis=0) >= 0.9).all()


def test_an_interquartile_mean_stands_beside_the_mean_where_there_are_four_seeds(
    make_run: MakeRun,
) -> None:
    runs = [
        read_run(make_run(task, seed=seed, online=[0.5, after]))
        for task in ("antmaze-umaze", "antmaze-large-play")
        for seed, after in enumerate([0.0, 0.8, 0.9, 0.9])
    ]
    groups = group_runs(runs)
    iqm = interquartile([summarise(group) for group in groups])

    assert iqm is not None
    assert iqm.task == "IQM of 2 tasks"
    assert iqm.before is not None
    assert iqm.after is not None
    assert iqm.change is not None
    assert iqm.after.value == pytest.approx(85)  # Without the two that failed and two of the best.
    assert iqm.change.value == pytest.approx(35)
    # All seeds agree: sure as half of the 800 episodes.
    assert iqm.before == pytest.approx(wilson_interval(0.5, 400).scaled(100))
    one = interquartile([summarise(groups[0])])
    assert one is not None
    assert one.task == "IQM of antmaze-umaze"
    few = [summarise(group) for group in group_runs(runs[:-1])]
    assert interquartile(few) is None


def test_seeds_of_which_one_was_not_evaluated_before_it_came_online_are_summarised(
    make_run: MakeRun,
) -> None:
    runs = [
        read_run(make_run(seed=0, offline=[0.2, 0.4])),
        read_run(make_run(seed=1, offline=[], online=[0.6], updates=500_000)),
    ]
    (group,) = group_runs(runs)
    before = summarise(group).before
    assert before is not None
    assert before.value == pytest.approx(50)
    assert summarise(group).offline_updates == (500_000, 1_000_000)


def test_an_evaluation_without_a_result_has_no_interval(make_run: MakeRun) -> None:
    folder = make_run(offline=[0.25, 0.5], online=[0.5, 0.75])
    curves = folder / "curves.csv"
    head, last = curves.read_text().rstrip().rsplit("\n", 1)
    curves.write_text(f"{head}\n{last.replace('0.75', '').replace(',7.0,', ',,')}\n")
    (group,) = group_runs([read_run(folder)])
    summary = summarise(group)
    assert (summary.metric, summary.before and summary.before.value) == ("success", 50)
    for each in (summary.after, summary.change):
        assert each is not None
        assert math.isnan(each.value)
        assert not each.has_interval


def test_seeds_trained_with_other_settings_under_one_name_are_never_averaged(
    make_run: MakeRun,
) -> None:
    """What is only on record for some, or differs between machines, tells none apart."""
    settings = [
        {"expectile": 0.9, "hidden_size": 64, "device": "cpu"},
        {"expectile": 0.9, "hidden_size": 64, "device": "cuda"},
        {"expectile": 0.6, "hidden_size": 32, "device": "cpu"},
    ]
    folders = [make_run(seed=seed) for seed in range(3)]
    for folder, each in zip(folders, settings, strict=True):
        Run(folder).write_config("pretrain", each)
    runs = [*map(read_run, folders)]
    groups = group_runs(runs)

    assert [(each.series.name, len(each.runs)) for each in groups] == [
        ("IQL expectile=0.6", 1),
        ("IQL expectile=0.9", 2),
    ]
    Run(folders[0]).write_config("finetune", {"expectile": 0.9, "utd_ratio": 1.0})
    Run(folders[1]).write_config("finetune", {"expectile": 0.7, "utd_ratio": 1.0})
    groups = group_runs([read_run(each) for each in folders[:2]])
    assert [each.series.name for each in groups] == [
        "IQL online expectile=0.7",
        "IQL online expectile=0.9",
    ]
