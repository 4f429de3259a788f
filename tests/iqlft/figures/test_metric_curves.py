"""Any metric of runs over updates, steps or time: the numbers are those of the files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from iqlft.figures.metric_curves import X, metric_figure, plot_metric
from iqlft.figures.style import drawn_as
from iqlft.runs.curves import RunCurve, read_run
from iqlft.runs.errors import RunError

MakeRun = Callable[..., Path]


def measured(make_run: MakeRun, seed: int = 0, **options: Any) -> RunCurve:  # noqa: ANN401
    """A run with metrics: two rows offline, two online; later seeds are slower and larger."""
    folder = make_run(seed=seed, online=[0.5, 0.9], **options)
    rows = [
        {"phase": phase, "updates": updates, "env_steps": steps, "seconds": updates * (1.0 + seed),
         "critic/q": q + seed}
        for phase, updates, steps, q in [
            ("offline", 10, 0, 1.0), ("offline", 20, 0, 2.0),
            ("online", 30, 10, None), ("online", 40, 20, 4.0),
        ] if q is not None
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_run(folder)


def lines_of(axes: Axes, gid: str) -> list[list[tuple[float, float]]]:
    return [
        [*zip(*map(list, line.get_data()), strict=True)]
        for line in axes.lines
        if line.get_gid() == gid
    ]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("updates", [[(10, 1), (20, 2)], [(40, 4)]]),
        ("seconds", [[(10, 1), (20, 2)], [(40, 4)]]),
        ("env_steps", [[(20, 4)]]),
    ],
)
def test_a_metric_stands_where_its_axis_says(
    make_run: MakeRun, x: X, expected: list[list[tuple[float, float]]]
) -> None:
    # `q_mean` is what version 0.1 called it.
    axes = metric_figure([measured(make_run)], metric="q_mean", x=x).axes[0]
    assert lines_of(axes, "mean") == expected
    # Of so few points none is a line to be seen.
    assert {line.get_marker() for line in axes.lines if line.get_gid() == "mean"} == {"o"}
    assert axes.get_ylabel() == "critic/q"
    assert not lines_of(axes, "seed")


def test_seeds_are_averaged_where_they_belong_together(make_run: MakeRun) -> None:
    runs = [measured(make_run, seed) for seed in (0, 1)]
    figure = metric_figure(runs, metric="critic/q", x="seconds")
    assert lines_of(figure.axes[0], "mean") == [[(15, 1.5), (30, 2.5)], [(60, 4.5)]]
    assert len(lines_of(figure.axes[0], "seed")) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "mean (2 seeds)", "each seed",
    ]  # fmt: skip


def test_without_a_metric_the_score_is_drawn(make_run: MakeRun) -> None:
    axes = metric_figure([measured(make_run)], x="env_steps", title="T").axes[0]
    assert lines_of(axes, "mean") == [[(0, 50), (1_000_000, 90)]]
    assert axes.get_ylabel() == "success rate (%)"
    assert axes.get_figure().get_suptitle() == "T"  # type: ignore[union-attr]


def test_many_series_have_a_panel_each(make_run: MakeRun) -> None:
    runs = [measured(make_run, variant=f"v{i}") for i in range(6)]
    figure = metric_figure(runs, metric="critic/q")
    assert [axes.get_title() for axes in figure.axes] == [f"v{i}" for i in range(6)]
    assert [len(lines_of(axes, "behind")) for axes in figure.axes] == [10] * 6


def test_a_metric_that_no_run_has_is_refused_with_the_nearest_one(make_run: MakeRun) -> None:
    run = measured(make_run)
    with pytest.raises(RunError, match=r"No run has a metric 'critic/p'.* mean 'critic/q'"):
        metric_figure([run], metric="critic/p")


def test_a_metric_of_whole_numbers_is_among_those_that_there_are(make_run: MakeRun) -> None:
    run = measured(make_run)
    row = {"phase": "online", "updates": 50, "env_steps": 30, "seconds": 9.0, "received_steps": 31}
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(RunError, match=r"mean 'received_steps'\?.* There are .*received_steps"):
        metric_figure([run], metric="recieved_steps")


def test_a_run_without_metrics_has_none_that_could_be_meant(make_run: MakeRun) -> None:
    with pytest.raises(RunError, match=r"No run has a metric 'sucess'\. Did you mean 'success'\?"):
        metric_figure([read_run(make_run(online=[0.5, 0.9]))], metric="sucess")


@pytest.mark.parametrize("smoothing", [-3, 0, 4])
def test_smoothing_is_over_an_odd_number_here_too(make_run: MakeRun, smoothing: int) -> None:
    with pytest.raises(RunError, match=f"odd number of evaluations, not {smoothing}"):
        metric_figure([measured(make_run)], metric="critic/q", smoothing=smoothing)


def test_each_scale_is_named_where_another_metric_begins(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, metric=metric, online=[0.5, 0.9]))
        for task, metric in (("antmaze-umaze", "success"), ("door", "return"), ("pen", "return"))
    ]
    figure = metric_figure(runs, x="updates")
    assert [axes.get_ylabel() for axes in figure.axes] == ["success rate (%)", "return", ""]


def test_what_has_no_line_has_no_panel(make_run: MakeRun) -> None:
    runs = [measured(make_run), read_run(make_run("antmaze-large-play", online=[0.5, 0.9]))]
    figure = metric_figure(runs, metric="critic/q", x="env_steps")
    assert [axes.get_title() for axes in figure.axes] == ["antmaze-umaze"]


def test_the_legend_has_the_markers_of_the_lines(make_run: MakeRun) -> None:
    long = "a variant with a name of many words, longer than its panel, which has the legend"
    runs = [
        read_run(make_run(variant=name, offline=[0.1, 0.2, 0.3], online=[0.3, 0.5, 0.9]))
        for name in ("", long)
    ]
    figure = metric_figure(runs)
    drawn = {line.get_marker() for line in figure.axes[0].lines if line.get_gid() == "mean"}
    signs = [one for one in figure.legends[0].get_lines() if one.get_linestyle() != "None"]
    assert len(signs) == 2
    assert {sign.get_marker() for sign in signs} == drawn


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("a/fig.svg", ["a/fig.svg"]),
        ("fig.PDF", ["fig.pdf"]),
        ("v0.1", ["v0.1/it.png", "v0.1/it.pdf"]),
    ],
)
def test_a_path_asks_for_a_file_by_its_ending(
    make_run: MakeRun, tmp_path: Path, out: str, expected: list[str]
) -> None:
    folder, name, kinds = drawn_as(tmp_path / out)
    run, contents = measured(make_run), []
    for _ in range(2):
        drawn = plot_metric([run], folder, name=name or "it", kinds=kinds)
        assert drawn == [tmp_path / each for each in expected]
        contents.append([path.read_bytes() for path in drawn])
    assert contents[0] == contents[1]
