import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.analysis.table import format_table
from iqlft.figures.before_after import plot_before_after
from iqlft.runs.curves import common_metric, find_runs, read_run
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run

MakeRun = Callable[..., Path]


def test_a_run_folder_is_read_as_it_was_written(make_run: MakeRun) -> None:
    run = read_run(make_run(seed=3, offline=[0.25, 0.5], online=[0.5, 0.75], episodes=50))

    assert (run.task, run.algorithm, run.seed) == ("antmaze-umaze", "iql", 3)
    assert run.label == "regenerated with the D4RL procedure"
    assert [row.success for row in run.rows] == [0.25, 0.5, 0.5, 0.75]
    assert [row.updates for row in run.rows] == [500_000, 1_000_000, 1_000_000, 2_000_000]
    assert [row.env_steps for row in run.rows] == [0, 0, 0, 1_000_000]
    assert run.rows[0].normalized_score is None
    assert (run.rows[0].episodes, run.rows[0].seconds, run.rows[0].mean_return) == (50, 1.5, 7.0)


def test_before_is_the_evaluation_at_step_0_and_after_the_last_never_the_best(
    make_run: MakeRun,
) -> None:
    run = read_run(make_run(offline=[0.5], online=[0.52, 0.9, 0.7]))

    assert run.before is not None
    assert run.after is not None
    assert (run.before.success, run.after.success) == (0.52, 0.7)


def test_before_is_the_last_offline_evaluation_where_none_was_made_at_step_0(
    make_run: MakeRun,
) -> None:
    folder = make_run(offline=[0.3, 0.5], online=[0.52, 0.9])
    lines = (folder / "curves.csv").read_text().splitlines()
    (folder / "curves.csv").write_text("\n".join(lines[:3] + lines[4:]))
    run = read_run(folder)

    assert run.before is not None
    assert run.before.success == 0.5
    assert run.after is not None


def test_the_episodes_of_an_evaluation_are_found_by_its_place(make_run: MakeRun) -> None:
    run = read_run(make_run(offline=[0.25, 0.5], online=[0.75], episodes=4, kept=True))
    reached = [[each.success for each in run.episodes(row)] for row in run.rows]
    assert reached[0] == [True, False, False, False]
    assert [each.count(True) for each in reached] == [1, 2, 3]


def test_the_first_online_score_has_the_episodes_of_the_last_offline_one(
    make_run: MakeRun,
) -> None:
    folder = make_run(offline=[0.5], online=[0.5, 0.75], episodes=4, kept=True)
    path = folder / "evaluations.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(each for each in lines if not each.startswith("online,1000000,0,")))
    run = read_run(folder)
    assert run.before is not None
    assert run.before.phase == "online"
    assert run.episodes(run.before) == run.episodes(run.offline[-1])
    assert len(run.episodes(run.before)) == 4


def test_a_malformed_episode_is_named_with_its_line(make_run: MakeRun) -> None:
    folder = make_run(offline=[0.5], episodes=2, kept=True)
    path = folder / "evaluations.csv"
    path.write_text(path.read_text().replace(",0,1,7.0", ",0,one,7.0"))
    with pytest.raises(RunError, match=r"evaluations.csv, line 3: seed must be a number"):
        read_run(folder)


@pytest.mark.parametrize("online", [[], [0.5]])
def test_there_is_no_after_before_the_first_environment_step(
    make_run: MakeRun, online: list[float]
) -> None:
    assert read_run(make_run(online=online)).after is None


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        read_run(tmp_path)


def test_a_run_without_evaluations_says_so(make_run: MakeRun) -> None:
    folder = make_run()
    header = (folder / "curves.csv").read_text().splitlines()[0]
    (folder / "curves.csv").write_text(header + "\n")
    with pytest.raises(RunError, match="wait for the run's first evaluation"):
        read_run(folder)

    (folder / "curves.csv").unlink()
    with pytest.raises(RunError, match=r"no curves\.csv"):
        read_run(folder)


@pytest.mark.parametrize(
    ("status", "eval_episodes", "expected"),
    [
        ("finished", 0, r"trained without evaluations \(--eval-episodes 0\); `iqlft evaluate "),
        ("running", 0, r"trained without evaluations"),
        ("finished", 9, r"finished without an evaluation; `iqlft evaluate "),
        ("interrupted", 9, r"stopped before its first evaluation; go on with `iqlft resume "),
        ("running", 9, r"stopped before its first evaluation"),  # No process claims it.
    ],
)
def test_a_run_that_will_have_no_evaluation_is_not_to_be_waited_for(
    make_run: MakeRun, status: str, eval_episodes: int, expected: str
) -> None:
    folder = make_run(offline=[])
    Run(folder).write_meta({"status": status})
    Run(folder).write_config("pretrain", {"eval_episodes": eval_episodes})
    with pytest.raises(RunError, match=expected):
        read_run(folder)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("offline,x,0,1,0.5,1,,100,1", "line 4: updates must be a number, not 'x'"),
        ("offline,1,0,1,50,1,,100,1", r"line 4: success must lie in \[0, 1\], not 50"),
        ("later,1,0,1,0.5,1,,100,1", "line 4: phase must be offline or online, not 'later'"),
        ("offline,1,0,inf,0.5,1,,100,1", "line 4: seconds must be finite"),
        ("offline,1,0,1,0.5,1,,0,1", "line 4: episodes must be at least 1"),
        ("offline,1,0,1", "line 4: the row has fewer values"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(make_run: MakeRun, row: str, message: str) -> None:
    folder = make_run(offline=[0.1, 0.2])
    with (folder / "curves.csv").open("a") as file:
        file.write(row + "\n")

    with pytest.raises(RunError, match=message):
        read_run(folder)


def test_rows_out_of_order_and_missing_columns_are_refused(make_run: MakeRun) -> None:
    folder = make_run(offline=[0.1], online=[0.2])
    header, offline, online = (folder / "curves.csv").read_text().splitlines()
    (folder / "curves.csv").write_text("\n".join([header, online, offline]))
    with pytest.raises(RunError, match="offline evaluation after an online one"):
        read_run(folder)

    (folder / "curves.csv").write_text(header.replace(",success", "") + "\n")
    with pytest.raises(RunError, match="lacks the columns success"):
        read_run(folder)


def test_meta_without_a_task_or_that_is_no_object_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "meta.json").write_text(json.dumps({"algorithm": "iql", "seed": 0}))
    with pytest.raises(RunError, match="has no 'task'"):
        read_run(folder)

    (folder / "meta.json").write_text("[]")
    with pytest.raises(RunError, match="JSON object"):
        read_run(folder)

    (folder / "meta.json").write_text("{")
    with pytest.raises(RunError, match="is not valid JSON"):
        read_run(folder)


def test_the_data_are_labelled_by_their_id_where_there_is_no_label(make_run: MakeRun) -> None:
    folder = make_run()
    meta = {"task": "t", "algorithm": "iql", "seed": 0, "dataset": {"id": "D4RL/x/y-v1"}}
    (folder / "meta.json").write_text(json.dumps(meta))

    assert read_run(folder).label == "D4RL/x/y-v1"


def test_all_runs_under_a_folder_are_found_but_no_hidden_or_unevaluated_ones(
    make_run: MakeRun, tmp_path: Path
) -> None:
    one, two = make_run(seed=0), make_run("antmaze-large-play", seed=1)
    make_run(".partial")
    make_run(root=one / "checkpoints")
    make_run(seed=9, offline=[])

    assert find_runs(tmp_path / "runs") == [two, one]
    assert find_runs(one) == [one]
    assert find_runs(tmp_path / "nothing") == []


@pytest.mark.parametrize("metric", ["success", "normalized_score", "return"])
def test_the_metric_is_the_best_that_all_runs_report(make_run: MakeRun, metric: str) -> None:
    run = read_run(make_run(metric=metric, offline=[0.5]))

    assert common_metric([run]) == metric
    assert run.rows[0].score(common_metric([run])) == (50 if metric == "success" else 0.5)
    other = read_run(make_run(seed=1, metric="return"))
    assert common_metric([run, other]) == "return"


def test_an_evaluation_without_a_return_does_not_change_what_runs_are_judged_by(
    make_run: MakeRun,
) -> None:
    folder = make_run(metric="normalized_score", offline=[0.4, 0.5])
    path = folder / "curves.csv"
    *before, last = path.read_text().splitlines()
    cells = last.split(",")
    for name in ("return", "normalized_score"):
        cells[before[0].split(",").index(name)] = ""
    path.write_text("\n".join([*before, ",".join(cells)]) + "\n")

    assert common_metric([read_run(folder)]) == "normalized_score"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", ""])
def test_a_return_that_was_not_finite_is_read_tabulated_and_drawn(
    make_run: MakeRun, text: str, tmp_path: Path
) -> None:
    folder = make_run(online=[0.5, 0.5], metric="return")
    path = folder / "curves.csv"
    path.write_text(
        re.sub(r"(?m)^((?:online|offline)(?:,[^,]*){4},)[^,]*", rf"\g<1>{text}", path.read_text())
    )
    run = read_run(folder)
    assert all(math.isnan(row.mean_return) for row in run.rows)
    assert "nan" in format_table([run])
    assert all(each.stat().st_size for each in plot_before_after([run], tmp_path / "plots"))
