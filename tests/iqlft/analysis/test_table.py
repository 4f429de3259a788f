import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.analysis.published import published_results, published_rows
from iqlft.analysis.statistics import newcombe_difference, wilson_interval
from iqlft.analysis.table import before_after_lines, format_table, show_row, table_rows
from iqlft.runs.curves import RunCurve, read_run

MakeRun = Callable[..., Path]
TASKS = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")


@pytest.fixture
def two_tasks(make_run: MakeRun) -> list[RunCurve]:
    values = [("antmaze-umaze", 0.8, 0.9), ("antmaze-medium-play", 0.5, 0.7)]
    return [
        read_run(make_run(task, seed=seed, online=[before + shift, after + shift]))
        for task, before, after in values
        for seed, shift in enumerate([-0.1, 0.0, 0.1])
    ]


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_published_totals_are_those_of_the_papers_table() -> None:
    rows = [r for r in published_rows() if r.source.startswith("IQL paper") and r.after is not None]
    before = sum(row.before for row in rows if row.algorithm == "IQL")
    after = sum(row.after or 0 for row in rows if row.algorithm == "IQL")

    assert (before, after) == pytest.approx((370.1, 473.7))


def test_each_published_result_has_all_six_tasks_in_their_order() -> None:
    for fine_tuned, count in ((True, 14), (False, 23)):
        results = published_results("all", [], fine_tuned=fine_tuned)
        assert len(results) == count
        for result in results:
            assert [row.task for row in result] == [f"antmaze-{name}" for name in TASKS]
            protocols = {(row.offline_updates, row.env_steps, row.seeds) for row in result}
            assert len(protocols) == 1


@pytest.mark.parametrize(
    ("source", "algorithm", "fine_tuned", "expected"),
    [
        ("IQL paper (ICLR 2022)", "IQL", True, (1_000_000, 1_000_000, None, 86.7, 96.0)),
        ("IQL paper (ICLR 2022)", "10%BC", False, (1_000_000, 0, None, 62.8, None)),
        ("CORL README", "IQL", True, (1_000_000, 1_000_000, 4, 77.0, 96.5)),
        ("CORL README", "DT", False, (100_000, 0, 4, 57.0, None)),
        ("FQL paper (ICML 2025)", "RLPD", True, (0, 1_000_000, 8, 0.0, 98.0)),
        ("ReBRAC paper (NeurIPS 2023)", "TD3+BC", True, (1_000_000, 1_000_000, 10, 66.8, 91.4)),
    ],
)
def test_a_published_number_has_its_budgets_and_seeds(
    source: str, algorithm: str, fine_tuned: bool, expected: tuple[float | None, ...]
) -> None:
    results = published_results("same", [algorithm], fine_tuned=fine_tuned)
    row = next(each[0] for each in results if each[0].source == source)
    assert row[4:] == expected


def test_a_published_task_is_that_of_the_official_set_and_of_the_one_made_anew() -> None:
    row = published_rows()[0]
    assert [row.is_of(f"{each}-umaze") for each in ("antmaze", "d4rl-antmaze")] == [True, True]
    assert not row.is_of("antmaze-umaze-diverse")
    assert not row.is_of("d4rl-pointmaze-umaze")


def test_csv_parses_back_to_values_worked_out_by_hand(two_tasks: list[RunCurve]) -> None:
    rows = records(format_table(two_tasks, "csv"))
    umaze = rows[0]

    assert (umaze["task"], umaze["result"]) == ("antmaze-umaze", "iqlft IQL")
    assert umaze["data"] == "regenerated with the D4RL procedure"
    # Seeds 70, 80, 90: mean 80, deviation 10, so 80 +- 4.3027 * 10 / sqrt(3), cut at 100.
    assert float(umaze["before"]) == pytest.approx(80)
    assert float(umaze["before_lower"]) == pytest.approx(80 - 24.8414, abs=1e-3)
    assert float(umaze["before_upper"]) == 100
    # All seeds changed alike, so what is left is Newcombe's of 240 and 270 among 300 episodes.
    change = newcombe_difference(wilson_interval(0.8, 300), wilson_interval(0.9, 300)).scaled(100)
    found = [float(umaze[f"change{end}"]) for end in ("", "_lower", "_upper")]
    assert found == pytest.approx(list(change), abs=1e-3)
    assert (umaze["seeds"], umaze["episodes"]) == ("3", "100")
    assert (umaze["offline_updates"], umaze["env_steps"]) == ("1000000", "1000000")


def test_published_rows_stand_beside_ours_with_their_dataset_version(
    two_tasks: list[RunCurve],
) -> None:
    rows = records(format_table(two_tasks, "csv"))
    umaze = [row for row in rows if row["task"] == "antmaze-umaze"]

    assert [row["data"] for row in umaze[1:]] == ["antmaze-v0", "antmaze-v2"]
    assert [(row["before"], row["after"]) for row in umaze[1:]] == [("86.7", "96"), ("77", "96.5")]
    assert [row["before_lower"] for row in umaze[1:]] == ["", ""]


def test_the_total_is_over_the_tasks_shown_and_so_are_the_published_totals(
    two_tasks: list[RunCurve],
) -> None:
    rows = records(format_table(two_tasks, "csv"))
    totals = [row for row in rows if row["task"] == "total of 2 tasks"]

    assert [float(row["before"]) for row in totals] == pytest.approx([130, 86.7 + 72, 77 + 71.75])
    assert [float(row["after"]) for row in totals] == pytest.approx([160, 96 + 95, 96.5 + 89.75])
    assert rows[-len(totals) :] == totals


def test_a_missing_task_has_no_row_and_leaves_no_total(
    two_tasks: list[RunCurve], make_run: MakeRun
) -> None:
    awac = read_run(make_run(algorithm="awac", online=[0.1, 0.2]))
    rows = [row for row in table_rows([*two_tasks, awac], "none") if row.result == "iqlft AWAC"]

    assert [row.task for row in rows] == ["antmaze-umaze"]
    assert rows[0].before is not None


def test_a_run_that_is_not_fine_tuned_has_a_dash_after(make_run: MakeRun) -> None:
    run = read_run(make_run(offline=[0.5]))

    assert "50.0 [40, 60]     -                 -\n" in format_table([run])
    assert "1 seed, 100 episodes, 1M offline updates, not fine-tuned" in format_table([run])


def test_all_or_no_published_rows_can_be_asked_for(make_run: MakeRun) -> None:
    run = read_run(make_run(online=[0.5, 0.6]))

    assert [len(table_rows([run], which)) for which in ("none", "same", "all")] == [1, 3, 15]


def test_beside_a_run_that_ends_with_pretraining_stand_published_ones_that_end_there(
    make_run: MakeRun,
) -> None:
    best = make_run(algorithm="bc", seed=1, offline=[0.6])
    meta = json.loads((best / "meta.json").read_text())
    (best / "meta.json").write_text(json.dumps(meta | {"known_as": "10%BC"}))
    runs = [read_run(make_run(algorithm="bc", offline=[0.5])), read_run(best)]
    (name, *published), (other, *others) = (
        [show_row(row)[:5] for row in table_rows([run])] for run in runs
    )
    assert [name[1], other[1]] == ["iqlft BC", "iqlft 10%BC"]
    assert published == [
        ("antmaze-umaze", "IQL paper (ICLR 2022), BC offline", "antmaze-v0", "54.6", "-"),
        ("antmaze-umaze", "CORL README, BC offline", "antmaze-v2", "55.3", "-"),
    ]
    assert [row[3] for row in others] == ["62.8", "65.8"]
    text = format_table(runs)
    assert "    4 seeds, 1M offline updates, not fine-tuned\n" in text
    tuned = read_run(make_run("antmaze-medium-play", algorithm="bc", online=[0.5, 0.6]))
    assert len(table_rows([tuned])) == 1  # Nobody has published such.
    assert [row.task for row in table_rows([tuned, runs[0]]) if not row.ours] == [
        "antmaze-umaze"
    ] * 2


def test_offline_tables_stand_beside_the_tasks_and_algorithms_that_are_not_fine_tuned(
    make_run: MakeRun,
) -> None:
    runs = [
        read_run(make_run("antmaze-umaze", algorithm="awac")),
        read_run(make_run("antmaze-medium-play", algorithm="bc")),
    ]
    offline = [row for row in table_rows(runs) if not row.ours and row.after is None]
    assert [(row.task, row.result) for row in offline] == [
        (task, f"{source}, {name} offline")
        for task, name in (("antmaze-umaze", "AWAC"), ("antmaze-medium-play", "BC"))
        for source in ("IQL paper (ICLR 2022)", "CORL README")
    ]


def test_a_total_of_offline_results_is_not_said_to_be_of_unequal_tasks(make_run: MakeRun) -> None:
    text = format_table([read_run(make_run(f"antmaze-{name}")) for name in TASKS[:2]])
    assert "not equally far" not in text
    assert "no pretraining, 1M environment steps" in format_table(
        [read_run(make_run(algorithm="rlpd", online=[0.0, 0.5]))]
    )


def test_latex_has_the_seeds_of_published_results(make_run: MakeRun) -> None:
    text = format_table([read_run(make_run())], "latex")
    assert "CORL README, IQL, 4 seeds & antmaze-v2" in text
    assert "CORL README, IQL offline, 4 seeds & antmaze-v2" in text


def test_an_unknown_task_and_other_metrics_have_no_published_rows(make_run: MakeRun) -> None:
    hopper = read_run(make_run("hopper-medium", online=[0.5, 0.6]))
    returns = read_run(make_run(metric="return", online=[5, 6]))

    assert [row.ours for row in table_rows([hopper], "all")] == [True]
    assert [row.ours for row in table_rows([returns], "all")] == [True]
    scores = [
        read_run(make_run(task, 1, metric="normalized_score", online=[5, 6]))
        for task in ("antmaze-umaze", "antmaze-medium-play")
    ]
    rows = table_rows(scores, "all")
    assert [(row.kind, row.ours) for row in rows] == [("task", True)] * 2 + [("total", True)]
    assert "+1.0\n" in format_table([returns])


def test_text_names_intervals_seeds_and_effort(two_tasks: list[RunCurve]) -> None:
    text = format_table(two_tasks)

    least = "Student-t over seeds, at least Wilson over all their episodes"
    assert f"{least}, bootstrap paired by seed for totals" in text
    assert "3 seeds, 100 episodes, 1M offline updates, 1M environment steps" in text
    assert "50.0 [25, 75]" in text
    assert "+20.0 [12, 27]" in text
    assert max(map(len, text.splitlines()[1:])) <= 102


def test_a_total_with_a_single_seed_is_not_called_a_bootstrap(make_run: MakeRun) -> None:
    runs = [read_run(make_run(seed=seed, online=[0.5, 0.6])) for seed in range(3)]
    text = format_table([*runs, read_run(make_run("antmaze-medium-play", online=[0.5, 0.6]))])

    assert "bootstrap" not in text
    assert "combined from the tasks' own for totals that hold a single seed" in text


def test_every_kind_of_interval_of_single_seeds_is_named(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, online=[0.5, 0.6]))
        for task in ("antmaze-umaze", "antmaze-medium-play")
    ]
    head = format_table(runs).splitlines()[0]

    assert head == (
        "Before and after fine-tuning: success rate (%), last evaluation; 95 % intervals: Wilson "
        "over the episodes of a single seed, Newcombe for its change, combined from the tasks' "
        "own for totals that hold a single seed."
    )


def test_sets_of_several_tasks_have_one_row_each(make_run: MakeRun) -> None:
    names = ["umaze", "medium-play", "large-play"]
    runs = [
        read_run(make_run(f"d4rl-antmaze-{name}", label=f"D4RL/antmaze/{name}-v1"))
        for name in names
    ]
    rows = [row for row in table_rows(runs) if row.ours]

    assert sorted(row.data for row in rows[:3]) == sorted(run.label for run in runs)
    assert [(row.task, row.data) for row in rows[3:]] == [("total of 3 tasks", "D4RL")]


def test_the_total_says_that_its_tasks_are_not_equally_far(make_run: MakeRun) -> None:
    tasks = ("antmaze-umaze", "antmaze-medium-play")
    runs = [
        read_run(make_run(task, online=[0.5, 0.6], env_steps=n))
        for task, n in zip(tasks, (10, 20), strict=True)
    ]

    assert "1 seed, 100 episodes, 1M offline updates, tasks not equally far" in format_table(runs)


def test_seeds_without_a_common_evaluation_are_not_said_to_have_one(make_run: MakeRun) -> None:
    for updates in (1_000_000, 700_000):
        task = f"task-{updates}"
        runs = [read_run(make_run(task, 0)), read_run(make_run(task, 1, updates=updates))]
        head = format_table(runs).splitlines()[0]
        assert ("last evaluation that all seeds have;" in head) == (updates == 1_000_000)
        assert "last evaluation" in head


def test_text_of_one_seed_names_wilson(make_run: MakeRun) -> None:
    text = format_table([read_run(make_run(online=[0.5, 0.6]))])

    assert "Wilson over the episodes of a single seed, Newcombe for its change." in text


def test_markdown_is_a_table_of_equal_rows(two_tasks: list[RunCurve], make_run: MakeRun) -> None:
    odd = read_run(make_run("antmaze-large-play", label="a|b", online=[0.5, 0.6]))
    lines = format_table([*two_tasks, odd], "markdown").splitlines()[2:]
    cells = {line.replace("\\|", "").count("|") for line in lines}

    assert cells == {11}
    assert any("a\\|b" in line for line in lines)


def test_interquartile_means_stand_beside_means_where_there_are_four_seeds(
    make_run: MakeRun,
) -> None:
    runs = [
        read_run(make_run(task, seed=seed, online=[0.5, after]))
        for task in ("antmaze-umaze", "antmaze-medium-play")
        for seed, after in enumerate([0.0, 0.8, 0.9, 0.9])
    ]
    text = format_table(runs)

    assert "stratified bootstrap for interquartile means (IQM) of all runs" in text
    (row,) = [row for row in table_rows(runs) if row.kind == "iqm"]
    assert row.task == "IQM of 2 tasks"
    assert row.after is not None
    assert row.after.value == pytest.approx(85)
    assert not [row for row in table_rows(runs[1:]) if row.kind == "iqm"]


def test_seeds_that_agree_are_not_shown_as_certain(make_run: MakeRun) -> None:
    runs = [read_run(make_run(seed=seed, online=[0.9, 1.0])) for seed in range(2)]

    assert "100.0 [98, 100]" in format_table(runs)
    assert "100.0 [100, 100]" not in format_table(runs)


def test_for_latex_nothing_of_a_name_is_a_command(make_run: MakeRun) -> None:
    run = make_run(task="my_task", variant="50%_a&b", online=[0.5, 0.9])
    lines = format_table([read_run(run)], "latex").splitlines()

    assert lines[0].startswith("% Before and after fine-tuning: success rate (%)")
    assert lines[1] == r"\begin{tabular}{lllrrr}"
    (row,) = (line for line in lines if "my" in line)
    cells = [cell.strip() for cell in row.removesuffix(r" \\").split(" & ")]
    assert cells[:2] == [r"my\_task", r"iqlft IQL 50\%\_a\&b"]
    assert cells[3].startswith("$50.0 [")
    assert lines[-1] == r"\end{tabular}"


def test_a_task_says_what_its_numbers_are_where_that_differs(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(online=[0.5, 0.9])),
        read_run(make_run("door", metric="normalized_score", online=[5, 9])),
    ]
    for style in ("text", "markdown", "latex"):
        text = format_table(runs, style, published="none")
        assert "antmaze-umaze, success rate (" in text
        assert "door, normalized score" in text
        assert "umaze, success" not in format_table(runs[:1], style)
    tasks = [row["task"] for row in records(format_table(runs, "csv", published="none"))]
    assert tasks == ["antmaze-umaze", "door"]


def test_fine_tuning_that_is_not_evaluated_is_not_said_not_to_have_been(
    make_run: MakeRun,
) -> None:
    folder = make_run()
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"finetune": {}}))
    run = read_run(folder)

    assert "1M offline updates, not evaluated after fine-tuning\n" in format_table([run])
    (line,) = before_after_lines([run])
    assert line.endswith("before 50.0 [40, 60] -> not evaluated after fine-tuning.")
