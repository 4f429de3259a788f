from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from iqlft.analysis.published import Marked
from iqlft.analysis.statistics import t_interval, wilson_interval
from iqlft.figures.before_after import before_after_figure, plot_before_after
from iqlft.figures.metric_curves import metric_figure
from iqlft.figures.panels import smooth, ticks
from iqlft.figures.style import WIDE, style
from iqlft.runs.curves import RunCurve, read_run
from iqlft.runs.errors import RunError

MakeRun = Callable[..., Path]


@pytest.fixture
def three_seeds(make_run: MakeRun) -> list[RunCurve]:
    return [
        read_run(make_run(seed=seed, offline=[0.1 + s, 0.5 + s], online=[0.5 + s, 0.6, 0.8 + s]))
        for seed, s in enumerate([0.0, 0.05, 0.1])
    ]


def lines_of(axes: Axes, gid: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid() == gid]


def points_of(line: Line2D) -> list[tuple[float, float]]:
    xs, ys = (np.asarray(values, float) for values in line.get_data())
    return [(float(x), round(float(y), 6)) for x, y in zip(xs, ys, strict=True)]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_png_and_a_pdf_as_wide_as_a_page_are_written(
    three_seeds: list[RunCurve], tmp_path: Path
) -> None:
    png, pdf = plot_before_after(three_seeds, tmp_path / "plots")

    assert [png.name, pdf.name] == ["before_after.png", "before_after.pdf"]
    with Image.open(png) as image:
        assert image.width == pytest.approx(WIDE * 300, abs=1)
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"/FontFile2" in pdf.read_bytes()
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [pdf.name, png.name]


def test_the_same_runs_give_the_same_bytes(three_seeds: list[RunCurve], tmp_path: Path) -> None:
    first = [path.read_bytes() for path in plot_before_after(three_seeds, tmp_path / "a")]
    again = [path.read_bytes() for path in plot_before_after(three_seeds, tmp_path / "b")]

    assert first == again
    assert all(b"CreationDate" not in data and b"Matplotlib" not in data for data in first)


def test_the_lines_are_the_csvs_numbers(three_seeds: list[RunCurve]) -> None:
    curves = before_after_figure(three_seeds).axes[0]
    seeds = [points_of(line) for line in lines_of(curves, "seed")]
    offline, online = (points_of(line) for line in lines_of(curves, "mean"))

    assert seeds[0] == [(-500_000, 10), (0, 50)]
    assert seeds[5] == [(0, 60), (500_000, 60), (1_000_000, 90)]
    assert offline == [(-500_000, 15), (0, 55)]
    assert online == [(0, 55), (500_000, 60), (1_000_000, 85)]


def test_the_band_is_student_t_over_seeds(three_seeds: list[RunCurve]) -> None:
    figure = before_after_figure(three_seeds)
    vertices = figure.axes[0].collections[0].get_paths()[0].vertices
    drawn = np.asarray(vertices)
    last = sorted({round(float(y), 6) for x, y in drawn if x == 0})

    expected = t_interval([50, 55, 60])
    assert last == pytest.approx([expected.lower, expected.upper])
    assert "95 % Student-t interval over seeds, at least Wilson's" in words(figure)


def test_one_seed_has_a_wilson_band_and_the_figure_says_so(make_run: MakeRun) -> None:
    run = read_run(make_run(offline=[0.25, 0.5], online=[0.5, 0.75], episodes=40))
    figure = before_after_figure([run], published="none")
    drawn = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    first = sorted({round(float(y), 6) for x, y in drawn if x == -500_000})

    expected = wilson_interval(0.25, 40).scaled(100)
    assert first == pytest.approx([expected.lower, expected.upper])
    assert words(figure) == [
        "1 seed",
        "95 % Wilson interval of 40 episodes (one seed; change: Newcombe)",
    ]
    assert not lines_of(figure.axes[0], "seed")


def test_the_y_axis_is_0_to_100_and_the_switch_is_dashed(three_seeds: list[RunCurve]) -> None:
    curves = before_after_figure(three_seeds).axes[0]
    (switch,) = lines_of(curves, "switch")

    assert curves.get_ylim() == (0, 100)
    assert curves.get_ylabel() == "success rate (%)"
    assert curves.get_xlim() == (-1_000_000, 1_000_000)
    assert list(switch.get_xdata()) == [0, 0]
    assert [label.get_text() for label in curves.get_xticklabels()] == [
        "\N{MINUS SIGN}1M",
        "\N{MINUS SIGN}500k",
        "0",
        "500k",
        "1M",
    ]


def test_a_copy_whose_start_was_not_evaluated_offline_has_its_switch_where_it_was(
    make_run: MakeRun,
) -> None:
    folder = make_run(offline=[0.1, 0.2, 0.3, 0.4], online=[0.3, 0.5], updates=200, env_steps=50)
    lines = (folder / "curves.csv").read_text().splitlines(keepends=True)
    (folder / "curves.csv").write_text("".join(lines[:4] + lines[5:]))
    run = read_run(folder)
    curves = before_after_figure([run], published="none").axes[0]
    offline, online = (points_of(line) for line in lines_of(curves, "mean"))

    assert curves.get_xlim() == (-200, 50)
    assert offline == [(-150, 10), (-100, 20), (-50, 30)]
    assert online == [(0, 30), (50, 50)]

    (switch,) = lines_of(metric_figure([run], metric="success").axes[0], "switch")
    assert list(switch.get_xdata()) == [200, 200]


def test_phases_of_any_length_share_the_panel(make_run: MakeRun) -> None:
    run = read_run(make_run(online=[0.5, 0.75], updates=1_000_000, env_steps=20_000))
    curves = before_after_figure([run]).axes[0]
    left, switch, right = (curves.transData.transform((x, 0))[0] for x in (-1e6, 0, 2e4))

    assert switch - left == pytest.approx(right - switch)


def test_runs_without_an_online_phase_count_updates_from_0(make_run: MakeRun) -> None:
    runs = [read_run(make_run(seed=seed, offline=[0.2, 0.4])) for seed in range(2)]
    figure = before_after_figure(runs)
    (curves,) = figure.axes

    assert points_of(lines_of(curves, "mean")[0]) == [(500_000, 20), (1_000_000, 40)]
    assert curves.get_xlim() == (0, 1_000_000)
    assert not lines_of(curves, "switch")
    assert "offline updates" in [text.get_text() for text in curves.texts]


def test_the_mean_stands_only_where_every_seed_was_evaluated(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(seed=0, offline=[0.2, 0.4, 0.6, 0.8])),
        read_run(make_run(seed=1, offline=[0.2, 0.4])),
    ]
    curves = before_after_figure(runs).axes[0]

    assert points_of(lines_of(curves, "mean")[0]) == [(500_000, 30), (1_000_000, 60)]
    assert [len(points_of(line)) for line in lines_of(curves, "seed")] == [4, 2]


def test_a_single_evaluation_is_a_dot_and_its_interval_a_bar(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(seed=seed, offline=offline, online=[]))
        for seed, offline in enumerate(([0.2], [0.4], [0.3, 0.9]))
    ]
    curves = before_after_figure(runs).axes[0]
    assert [line.get_marker() for line in lines_of(curves, "seed")] == [".", ".", ""]
    assert lines_of(curves, "mean")[0].get_marker() == "o"
    (bar,) = curves.collections
    assert bar.get_linewidth() == 2


def test_the_online_line_starts_at_the_switch_without_an_evaluation_there(
    make_run: MakeRun,
) -> None:
    folder = make_run(offline=[0.5], online=[0.6, 0.75])
    lines = (folder / "curves.csv").read_text().splitlines()
    (folder / "curves.csv").write_text("\n".join([*lines[:2], *lines[3:]]))
    _, online = lines_of(before_after_figure([read_run(folder)]).axes[0], "mean")

    assert points_of(online) == [(0, 50), (1_000_000, 75)]


def test_the_dumbbell_shows_each_task_and_their_mean_last(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, online=values))
        for task, values in [("antmaze-umaze", [0.5, 0.75]), ("antmaze-large-play", [0.25, 0.25])]
    ]
    figure = before_after_figure(runs)
    dumbbell = figure.axes[-1]
    before, after = ([points_of(m)[0] for m in lines_of(dumbbell, g)] for g in ("before", "after"))

    names = [label.get_text() for label in dumbbell.get_yticklabels()]
    assert names == ["umaze", "large-play", "mean of 2 tasks"]
    assert before == [(50, 0), (25, -1), (37.5, -2)]
    assert after == [(75, 0), (25, -1), (50, -2)]
    changes = [text.get_text().split()[0] for text in dumbbell.texts]
    assert changes == ["+25", "+0", "+13", "change"]
    assert "mean of tasks: combined from theirs" in words(figure)
    assert titles(figure) == ["antmaze-umaze", "antmaze-large-play"]


def test_a_mean_of_several_seeds_is_called_a_bootstrap(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(task, seed=seed, online=[0.5, 0.75 + seed / 10]))
        for task in ("antmaze-umaze", "antmaze-large-play")
        for seed in range(2)
    ]

    assert "mean of tasks: bootstrap paired by seed" in words(before_after_figure(runs))


def test_the_dumbbell_says_what_a_row_has_less_than_others(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(online=[0.5, 0.75])),
        read_run(make_run(seed=1)),
        read_run(make_run("antmaze-large-play", online=[0.1, 0.2], env_steps=200_000)),
    ]
    dumbbell = before_after_figure(runs).axes[-1]

    names = [label.get_text() for label in dumbbell.get_yticklabels()]
    assert names == ["umaze (1 of 2 seeds)", "large-play (200k steps)"]


def test_the_dumbbells_legend_is_whole_when_the_first_task_is_not_fine_tuned(
    make_run: MakeRun,
) -> None:
    runs = [read_run(make_run()), read_run(make_run("antmaze-large-play", online=[0.1, 0.2]))]
    legend = before_after_figure(runs).axes[-1].get_legend()

    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["before", "after"]


def test_a_task_of_one_seed_among_several_says_so(
    three_seeds: list[RunCurve], make_run: MakeRun
) -> None:
    figure = before_after_figure([*three_seeds, read_run(make_run("antmaze-large-play"))])

    assert titles(figure) == ["antmaze-umaze", "antmaze-large-play (1 seed)"]
    assert "95 % Wilson interval of 100 episodes (where one seed)" in words(figure)
    texts = [text.get_text() for text in figure.axes[-1].texts]
    assert "not fine-tuned" in texts


def test_several_algorithms_differ_in_more_than_colour(
    three_seeds: list[RunCurve], make_run: MakeRun
) -> None:
    awac = read_run(make_run(algorithm="awac", online=[0.1, 0.2]))
    curves = before_after_figure([*three_seeds, awac]).axes[0]
    looks = {(m.get_color(), m.get_linestyle(), m.get_marker()) for m in lines_of(curves, "mean")}

    assert [len(set(parts)) for parts in zip(*looks, strict=True)] == [2, 2, 2]


def test_variants_are_named_below_the_curves_inside_the_figure(make_run: MakeRun) -> None:
    names = ["", "eight workers, no evaluation", "half"]
    runs = [read_run(make_run(variant=name, online=[0.1, 0.2])) for name in names]
    figure = before_after_figure(runs)
    figure.draw_without_rendering()
    curves, dumbbell = figure.axes
    labels = dumbbell.get_yticklabels()
    assert [label.get_text() for label in labels] == ["IQL", *names[1:]]
    assert all(figure.bbox.contains(*label.get_window_extent().p0) for label in labels)
    assert dumbbell.get_window_extent().y1 < curves.get_window_extent().y0


@pytest.mark.parametrize(("names", "bands"), [(["", "half"], 2), (["", "half", "third"], 0)])
def test_bands_of_many_series_do_not_cover_each_other(
    make_run: MakeRun, names: list[str], bands: int
) -> None:
    runs = [read_run(make_run(variant=name, offline=[0.5, 0.6])) for name in names]
    figure = before_after_figure(runs)
    assert len(figure.axes[0].collections) == bands
    assert any("interval" in word for word in words(figure)) == bool(bands)


@pytest.mark.parametrize(("num_tasks", "num_axes"), [(1, 2), (2, 3), (4, 5), (6, 7), (7, 8)])
def test_any_number_of_tasks_has_a_panel_each(
    make_run: MakeRun, num_tasks: int, num_axes: int
) -> None:
    runs = [read_run(make_run(f"maze-{i}", online=[0.1, 0.2])) for i in range(num_tasks)]

    assert len(before_after_figure(runs).axes) == num_axes


@pytest.mark.parametrize("scale", [1, 140])
def test_normalized_scores_choose_their_own_axis(make_run: MakeRun, scale: float) -> None:
    online = [scale, 1.1 * scale]
    run = read_run(make_run(metric="normalized_score", offline=[0.5 * scale], online=online))
    curves, dumbbell = before_after_figure([run]).axes

    assert curves.get_ylabel() == "normalized score"
    for low, high in (curves.get_ylim(), dumbbell.get_xlim()):
        assert low < scale < high < 1.5 * scale
    assert max(curves.get_yticks()) > scale
    assert max(dumbbell.get_xticks()) > scale


def test_returns_choose_their_own_axis(make_run: MakeRun) -> None:
    run = read_run(make_run(metric="return", offline=[-900, 2000], online=[2000, 3000]))
    figure = before_after_figure([run])

    assert figure.axes[0].get_ylabel() == "return"
    assert figure.axes[0].get_ylim()[1] > 1000
    assert words(figure) == ["1 seed"]


def test_published_results_are_marked_where_their_protocol_ends(make_run: MakeRun) -> None:
    figure = before_after_figure([read_run(make_run(online=[0.5, 0.9]))])
    marks = lines_of(figure.axes[0], "published")

    assert [points_of(line)[0] for line in marks] == [
        (0, 86.7), (1_000_000, 96.0), (0, 77.0), (1_000_000, 96.5),
    ]  # fmt: skip
    assert len({line.get_marker() for line in marks}) == 2
    # No shift: what is drawn stands where the axis has those numbers.
    assert all(line.get_transform() == figure.axes[0].transData for line in marks)
    assert words(figure)[-2:] == [
        "IQL paper (ICLR 2022), IQL, antmaze-v0, 1M + 1M",
        "CORL README, 4 seeds, IQL, antmaze-v2, 1M + 1M",
    ]


def test_each_panel_has_the_marks_of_its_algorithms_and_each_source_its_own(
    make_run: MakeRun,
) -> None:
    names = ("iql", "awac", "cql", "calql", "rlpd")  # More than share a panel.
    figure = before_after_figure(
        [read_run(make_run(algorithm=name, online=[0.5, 0.9])) for name in names]
    )
    marks = {axes.get_title(): lines_of(axes, "published") for axes in figure.axes[: len(names)]}
    # One at the switch and one at the end, of the paper and of CORL; nobody pretrains for RLPD.
    assert {title: len(lines) for title, lines in marks.items()} == {
        "IQL": 4, "AWAC": 4, "CQL": 4, "Cal-QL": 2, "RLPD": 1
    }  # fmt: skip
    assert len({line.get_marker() for lines in marks.values() for line in lines}) == 8


def test_a_run_without_an_online_phase_is_marked_at_its_end(make_run: MakeRun) -> None:
    figure = before_after_figure([read_run(make_run())])

    marks = lines_of(figure.axes[0], "published")
    assert [points_of(line)[0] for line in marks] == [(1_000_000, 87.5), (1_000_000, 77.0)]
    assert words(figure)[-2:] == [
        "IQL paper (ICLR 2022), IQL, antmaze-v0, 1M updates",
        "CORL README, 4 seeds, IQL, antmaze-v2, 1M updates",
    ]


@pytest.mark.parametrize(
    ("algorithm", "online", "expected"),
    [
        ("bc", (), [54.6, 55.25]),
        ("bc", (0.5, 0.9), []),  # Nobody has published that.
        ("td3bc", (), [78.6, 70.75]),
        ("td3bc", (0.5, 0.9), [66.8, 91.4]),
        ("calql", (), [76.75]),  # It is in no offline table.
        ("rlpd", (0.0, 0.9), [98.0]),
        ("sac", (0.0, 0.9), []),
    ],
)
def test_marked_is_what_was_published_of_such_a_run(
    algorithm: str, online: tuple[float, ...], expected: list[float], make_run: MakeRun
) -> None:
    figure = before_after_figure([read_run(make_run(algorithm=algorithm, online=online))])
    marks = lines_of(figure.axes[0], "published")
    assert [points_of(line)[0][1] for line in marks] == expected


def test_a_panel_has_marks_of_its_own_and_the_legend_those_that_are_drawn(
    make_run: MakeRun,
) -> None:
    runs = [make_run(), make_run("antmaze-medium-play", algorithm="bc", online=[0.1, 0.2])]
    figure = before_after_figure([read_run(run) for run in runs])
    drawn = [lines_of(axes, "published") for axes in figure.axes[:2]]
    assert [len(lines) for lines in drawn] == [2, 0]
    assert [each for each in words(figure) if "antmaze-v" in each] == [
        "IQL paper (ICLR 2022), IQL, antmaze-v0, 1M updates",
        "CORL README, 4 seeds, IQL, antmaze-v2, 1M updates",
    ]
    assert figure.axes[1].get_xlim()[1] <= 1_100_000


def test_a_legend_is_no_wider_than_its_figure(make_run: MakeRun) -> None:
    figure = before_after_figure([read_run(make_run(algorithm="rlpd", online=[0.0, 0.9]))])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
    extent = legend.get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({}, "none"),
        ({"task": "mujoco-hopper-medium"}, "same"),
        ({"metric": "normalized_score"}, "same"),
    ],
)
def test_no_mark_stands_where_it_would_mislead(
    make_run: MakeRun, settings: dict[str, Any], published: Marked
) -> None:
    run = read_run(make_run(online=[0.5, 0.9], **settings))
    figure = before_after_figure([run], published=published)

    assert not lines_of(figure.axes[0], "published")
    assert not any("IQL paper" in word for word in words(figure))


@pytest.mark.parametrize("updates", [200_000, 1_000_000])
def test_an_axis_reaches_to_the_marks_of_a_longer_fine_tuning(
    make_run: MakeRun, updates: int
) -> None:
    run = make_run(online=[0.5, 0.9], updates=updates, env_steps=300_000)
    axes = before_after_figure([read_run(run)]).axes[0]

    marks = lines_of(axes, "published")
    assert [points_of(line)[0][0] for line in marks] == [0, 1_000_000, 0, 1_000_000]
    assert axes.get_xlim() == (-updates, 1_000_000)
    assert not [text for text in axes.texts if text.get_gid() == "break"]


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"online": [0.1, 0.2], "updates": 200_000, "env_steps": 150_000}, [0, 1_000_000]),
        ({"online": [0.1, 0.2], "updates": 200_000, "env_steps": 3_000}, [0, 1_000_000]),
        ({"online": [0.1, 0.2], "offline": (), "env_steps": 3_000}, [0, 1_000_000]),
        ({"updates": 30_000}, [1_000_000]),
    ],
)
def test_marks_far_beyond_the_runs_stand_at_their_place_on_an_axis_that_is_drawn_together(
    make_run: MakeRun, settings: dict[str, Any], places: list[int]
) -> None:
    figure = before_after_figure([read_run(make_run(**settings))])
    figure.draw_without_rendering()
    axes = figure.axes[0]

    marks = lines_of(axes, "published")
    assert [points_of(line)[0][0] for line in marks] == places * 2
    assert all(line.get_transform() == axes.transData for line in marks)
    assert axes.get_xlim()[1] == 1_000_000
    shown = {tick.get_text(): tick for tick in axes.get_xticklabels()}
    assert "1M" in shown
    assert len([text for text in axes.texts if text.get_gid() == "break"]) == 1
    # The runs have most of their phase's room, as they have without marks.
    (end,) = {points_of(line)[-1][0] for line in lines_of(axes, "mean")} - {0}
    left, right = (axes.transData.transform((x, 0))[0] for x in (0, end))
    share = 0.4 if axes.get_xlim()[0] < 0 else 0.2
    assert axes.bbox.x1 - right == pytest.approx(share * (right - left))
    boxes = [tick.get_window_extent() for tick in shown.values()]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def test_a_longer_fine_tuning_is_marked_where_it_passes_the_place(make_run: MakeRun) -> None:
    axes = before_after_figure([read_run(make_run(online=[0.5, 0.9], env_steps=2_000_000))]).axes[0]

    marks = lines_of(axes, "published")
    assert [points_of(line)[0][0] for line in marks] == [0, 1_000_000, 0, 1_000_000]
    assert axes.get_xlim()[1] == 2_000_000


def test_up_to_four_series_are_named_at_the_ends_of_their_lines(make_run: MakeRun) -> None:
    names = ["a", "b", "c", "d"]
    runs = [
        read_run(make_run(variant=name, online=[0.1, 0.9], env_steps=steps))
        for name, steps in zip(names, [1_000_000, 1_000_000, 1_000_000, 500_000], strict=True)
    ]
    with mpl.rc_context(style(WIDE)):
        figure = before_after_figure(runs, published="none")
        figure.draw_without_rendering()
    axes = figure.axes[0]
    labels = {text.get_text(): text for text in axes.texts if text.get_gid() == "name"}

    assert sorted(labels) == names
    means = {line.get_color(): line for line in lines_of(axes, "mean")}
    assert len(means) == 4
    ends = {name: max(points_of(means[text.get_color()]))[0] for name, text in labels.items()}
    assert ends == {"a": 1e6, "b": 1e6, "c": 1e6, "d": 5e5}
    boxes = [text.get_window_extent() for text in labels.values()]
    assert [box.x0 > axes.bbox.x1 for box in boxes] == [True, True, True, False]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])
    assert words(figure)[0] == "each line: 1 seed"
    assert not any(name in word.split() for name in names for word in words(figure))


def test_names_that_take_too_much_of_a_panel_stand_in_the_legend(make_run: MakeRun) -> None:
    long = "a variant with a name of many words, longer than its panel, which has the legend"
    runs = [read_run(make_run(variant=name)) for name in ("", long)]
    figure = before_after_figure(runs)

    assert not [text for text in figure.axes[0].texts if text.get_gid() == "name"]
    assert f"{long}: 1 seed" in words(figure)


def test_many_series_have_a_panel_each_with_the_others_behind(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(variant=f"v{i}", seed=seed, online=[0.1, i / 10]))
        for i in range(8)
        for seed in range(2)
    ]
    figure = before_after_figure(runs)
    *panels, _ = figure.axes

    assert [axes.get_title() for axes in panels] == [f"v{i}" for i in range(8)]
    for i, axes in enumerate(panels):
        assert max(points_of(lines_of(axes, "mean")[-1])) == (1_000_000, pytest.approx(10 * i))
        assert len(lines_of(axes, "seed")) == 4
        assert len(lines_of(axes, "behind")) == 2 * 7
    drawn = {line.get_color() for axes in panels for line in axes.lines if line.get_gid()}
    signs = figure.legends[0].get_lines()
    named = {sign.get_color() for sign in signs if sign.get_linestyle() != "None"}
    assert named <= drawn
    assert words(figure)[:3] == ["mean (2 seeds)", "each seed", "the others"]


def test_long_names_cover_neither_each_other_nor_the_edge(make_run: MakeRun) -> None:
    names = [f"{which}, no evaluation, LayerNorm" for which in ("half", "guide", "own", "cool")]
    algorithms = ["iql", "awac", "calql", "td3bc"]
    runs = [
        read_run(make_run(variant=name, algorithm=algorithm, online=[0.1, 0.2]))
        for name, algorithm in zip(names, algorithms, strict=True)
    ]
    runs += [read_run(make_run(seed=1, online=[0.1, 0.2]))]
    with mpl.rc_context(style(WIDE)):
        figure = before_after_figure(runs)
        figure.canvas.draw()
    *panels, _ = figure.axes
    boxes = [axes.title.get_window_extent() for axes in panels]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert max(axes.get_title().count("\n") for axes in panels) >= 1
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width


@pytest.mark.parametrize("names", [[""], ["", "half"], ["", "half", "third"]])
@pytest.mark.parametrize("smoothing", [None, 3])
def test_the_legend_has_a_band_only_where_one_is_drawn(
    make_run: MakeRun, names: list[str], smoothing: int | None
) -> None:
    runs = [read_run(make_run(variant=name, online=[0.5, 0.6])) for name in names]
    figure = before_after_figure(runs, smoothing=smoothing)

    drawn = {
        tuple(colour[:3]) for band in figure.axes[0].collections for colour in band.get_facecolor()
    }
    assert len(drawn) == (len(names) if len(names) < 3 and not smoothing else 0)
    signs = {tuple(patch.get_facecolor())[:3] for patch in figure.legends[0].get_patches()}
    assert signs == (drawn if len(names) == 1 else set())
    assert any("Wilson interval of 100 episodes" in word for word in words(figure))


def test_a_run_that_has_just_come_online_ends_at_its_last_update(make_run: MakeRun) -> None:
    curves = before_after_figure([read_run(make_run(offline=[0.2, 0.5], online=[0.5]))]).axes[0]

    assert [points_of(line) for line in lines_of(curves, "mean")] == [
        [(500_000, 20), (1_000_000, 50)]
    ]


def test_seeds_are_averaged_at_equal_updates(make_run: MakeRun) -> None:
    whole = read_run(make_run(offline=[0.2, 0.4, 0.6, 0.8, 1.0], online=[1.0, 1.0]))
    behind = read_run(make_run(seed=1, offline=[0.2, 0.4, 0.6, 0.8], updates=800_000))
    (mean,) = lines_of(before_after_figure([whole, behind]).axes[0], "mean")

    assert points_of(mean) == [
        (-800_000, 20), (-600_000, 40), (-400_000, 60), (-200_000, 80),
    ]  # fmt: skip


def test_an_online_mean_is_of_all_seeds_or_of_none(make_run: MakeRun) -> None:
    runs = [read_run(make_run(online=[0.5, 0.9])), read_run(make_run(seed=1))]
    curves = before_after_figure(runs).axes[0]

    assert [points_of(line)[-1][0] for line in lines_of(curves, "mean")] == [0]
    assert max(points_of(line)[-1] for line in lines_of(curves, "seed")) == (1_000_000, 90)


def test_panels_of_one_metric_have_one_scale(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(f"mujoco-{name}", metric="normalized_score", offline=[0, top]))
        for name, top in [("hopper", 70.0), ("walker2d", 130.0)]
    ]
    hopper, walker = before_after_figure(runs).axes[:2]

    assert hopper.get_ylim() == walker.get_ylim()
    assert hopper.get_ylim()[1] > 130
    assert hopper.get_ylabel() == "normalized score"
    assert walker.get_ylabel() == ""


def test_six_sets_of_one_origin_are_one_series_inside_the_figure(make_run: MakeRun) -> None:
    names = [
        f"{maze}-{kind}" for maze in ("umaze", "medium", "large") for kind in ("play", "diverse")
    ]
    runs = [
        read_run(
            make_run(f"d4rl-antmaze-{name}", label=f"D4RL/antmaze/{name}-v1", online=[0.5, 0.6])
        )
        for name in names
    ]
    with mpl.rc_context(style(WIDE)):
        figure = before_after_figure(runs)
        figure.canvas.draw()

    legend = figure.legends[0]
    assert legend.get_title().get_text() == "data: D4RL"
    assert sorted(title for title in titles(figure)) == sorted(names)
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert 0 <= box.y0 < box.y1


def test_smoothing_averages_within_a_phase_and_is_named(make_run: MakeRun) -> None:
    run = read_run(make_run(offline=[0.0, 0.3, 0.9], online=[0.9, 0.9]))
    figure = before_after_figure([run], smoothing=3, published="none")
    offline, online = (points_of(line) for line in lines_of(figure.axes[0], "mean"))

    assert [y for _, y in offline] == [0, 40, 90]
    assert [y for _, y in online] == [90, 90]
    assert words(figure)[0] == "1 seed, smoothed over 3 evaluations"
    with pytest.raises(RunError, match=r"odd number of evaluations, not 4"):
        before_after_figure([run], smoothing=4)


@pytest.mark.parametrize(
    ("window", "expected"), [(None, [0, 3, 9, 0]), (1, [0, 3, 9, 0]), (3, [0, 4, 4, 0])]
)
def test_a_running_mean_is_narrower_at_the_ends(
    window: int | None, expected: Sequence[float]
) -> None:
    assert smooth([0, 3, 9, 0], window) == expected


def test_ticks_are_round_and_within_the_phase() -> None:
    assert ticks(1_000_000, 2) == [500_000, 1_000_000]
    assert ticks(1_000_000, 1) == [1_000_000]
    assert ticks(250_000, 2) == [100_000, 200_000]
    assert ticks(3, 2) == [1, 2, 3]
    assert ticks(0, 2) == []


def test_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no runs"):
        plot_before_after([], tmp_path)


def test_an_interquartile_mean_has_a_row_of_its_own_where_there_are_four_seeds(
    make_run: MakeRun,
) -> None:
    runs = [
        read_run(make_run(seed=seed, online=[0.5, after]))
        for seed, after in enumerate([0.0, 0.8, 0.9, 0.9])
    ]
    figure = before_after_figure(runs)

    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["mean", "IQM"]
    assert "IQM, interquartile mean of all runs: stratified bootstrap" in words(figure)
    assert "IQM" not in " ".join(words(before_after_figure(runs[1:])))


@pytest.mark.parametrize("name", [r"$\frac{$", r"a$x^2$b$", "\x1b[2J", "$", r"\$_{"])
def test_names_are_no_formulas_and_no_control_characters(
    make_run: MakeRun, tmp_path: Path, name: str
) -> None:
    online = (0.5, 0.6)
    folders = [
        make_run(name, seed, variant=variant, online=online, label=f"of {name}")
        for variant in (name, "other")
        for seed in (0, 1)
    ] + [make_run("antmaze-umaze", online=online)]
    curves = [read_run(folder) for folder in folders]
    drawn = plot_before_after(curves, tmp_path / "drawn", published="none")
    assert all(path.stat().st_size for path in drawn)


def test_the_legend_is_of_the_intervals_that_are_shown(make_run: MakeRun) -> None:
    # The dumbbell is of the one seed that has been fine-tuned, the curves are of both.
    runs = [read_run(make_run(online=[0.5, 0.75])), read_run(make_run(seed=1))]
    assert [word for word in words(before_after_figure(runs)) if "interval" in word] == [
        "95 % Student-t interval over seeds, at least Wilson's",
        "95 % Wilson interval of 100 episodes (where one seed; change: Newcombe)",
    ]
    # Of three series no bands are drawn, and only the last evaluations have an interval.
    folders = [make_run(variant=name, online=[0.5, 0.6], episodes=60) for name in "abc"]
    for folder in folders:
        rows = (folder / "curves.csv").read_text().split("\n", 2)
        (folder / "curves.csv").write_text(
            "\n".join([rows[0], rows[1].replace("60", "100"), rows[2]])
        )
    drawn = words(before_after_figure([read_run(folder) for folder in folders]))
    assert [word for word in drawn if "interval" in word] == [
        "pale bars: 95 % Wilson interval of 60 episodes (one seed; change: Newcombe)"
    ]


def test_a_long_title_has_lines_that_fit(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(online=[0.5, 0.6]))
    heights = []
    for title in ("short", "a title of many words " * 10):
        png, _ = plot_before_after([run], tmp_path, title=title.strip())
        with Image.open(png) as image:
            heights.append(image.height)
            edge = np.asarray(image.convert("L"))[:, [0, -1]]
        assert (edge == 255).all()
    assert heights[1] > heights[0]
