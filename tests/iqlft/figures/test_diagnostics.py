"""The diagnostics show the numbers of `metrics.jsonl` and of the newest checkpoint."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqlft.figures.diagnostics import Advantages, diagnostics_figure
from iqlft.figures.panels import Timeline
from iqlft.figures.style import WIDE, style
from iqlft.runs.metrics_log import History, read_history

SAMPLES = {
    "dataset": np.array([-2, -1, -0.5, 0.6], np.float32),
    "new": np.array([-30, 0, 0.47, 9], np.float32),
}
WHOLE = Timeline(300, 340)
"""Of the run that the fixtures make."""


@pytest.fixture
def history(finetuned: Path) -> History:
    return read_history(finetuned)


def drawn(history: History, advantages: Advantages | None, timeline: Timeline = WHOLE) -> Figure:
    with mpl.rc_context(style(WIDE)):
        figure = diagnostics_figure(history, timeline, advantages)
        figure.draw_without_rendering()
    return figure


def panel(figure: Figure, title: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_title().startswith(title))
    return found


def words(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_lines_are_the_rows_with_updates_counted_back_from_the_switch(history: History) -> None:
    axes = panel(drawn(history, None), "mean Q and V")
    offline, online = (line for line in axes.lines if line.get_gid() == "dataset/q")
    xs, values = history.column("dataset/q", "offline")
    np.testing.assert_array_equal(offline.get_xdata(), xs - 300)
    np.testing.assert_array_equal(offline.get_ydata(), values)
    np.testing.assert_array_equal(online.get_xdata(), history.column("dataset/q", "online")[0])
    assert words(axes) == ["Q, dataset", "V, dataset", "Q, new", "V, new"]
    assert axes.get_xlim() == (-300, 340)


@pytest.mark.parametrize(("rows", "marker"), [(1, "o"), (2, "o"), (3, "")])
def test_a_line_of_hardly_any_points_shows_them(history: History, rows: int, marker: str) -> None:
    offline = [row for row in history.rows if row["phase"] == "offline"][:rows]
    figure = drawn(History(tuple(offline)), None, Timeline(300, 0))
    lines = [line for axes in figure.axes for line in axes.lines if line.get_gid()]
    assert {line.get_marker() for line in lines} == {marker}


def test_the_switch_is_where_pretraining_ended_whatever_was_logged_last(history: History) -> None:
    axes = panel(drawn(history, None, Timeline(320, 340)), "mean Q and V")
    offline = next(line for line in axes.lines if line.get_gid() == "dataset/q")
    assert list(offline.get_xdata())[-1] == 300 - 320
    assert axes.get_xlim() == (-320, 340)


def test_the_clip_is_marked_and_the_clipped_share_is_told(history: History) -> None:
    axes = panel(drawn(history, Advantages(SAMPLES, 0.46)), "advantages")
    (clip,) = (line for line in axes.lines if line.get_gid() == "clip")
    assert list(clip.get_xdata()) == [0.46, 0.46]
    assert words(axes) == [
        "dataset, 25.0 % clipped", "new, 50.0 % clipped", "clipped from 0.46 on",
    ]  # fmt: skip


def test_bars_add_up_to_everything_with_what_lies_beyond_in_the_outermost(
    history: History,
) -> None:
    rng = np.random.default_rng(0)
    sample = np.append(rng.normal(size=5000), [1e6, -1e6]).astype(np.float32)
    axes = panel(drawn(history, Advantages({"dataset": sample}, 0.46)), "advantages")
    corners = np.asarray(axes.patches[0].get_path().vertices)
    assert np.abs(corners[:, 0]).max() < 10
    heights = corners[:, 1]
    # Each bar's height stands twice in the outline.
    assert heights[heights > 1e-6].sum() / 2 == pytest.approx(100, rel=1e-6)


def test_what_is_not_there_has_no_panel(history: History) -> None:
    offline = History(tuple(row for row in history.rows if row["phase"] == "offline"))
    titles = [axes.get_title() for axes in drawn(offline, None, Timeline(300, 0)).axes]
    gap = "mean Q \N{MINUS SIGN} V"
    assert titles == [
        "mean Q and V", gap, "mean log-std of the policy", "losses, on a logarithmic scale",
        "speeds, per second",
    ]  # fmt: skip
    critics_alone = History(tuple({**row, "dataset/value": None} for row in offline.rows))
    figure = drawn(critics_alone, None, Timeline(300, 0))
    assert {axes.get_title() for axes in figure.axes} == {
        "mean Q", "mean log-std of the policy", "losses, on a logarithmic scale",
        "speeds, per second",
    }  # fmt: skip
    assert [axes.get_title() for axes in drawn(history, Advantages(SAMPLES, 0.46)).axes] == [
        "mean Q and V", gap, "advantages at the newest checkpoint", "mean log-std of the policy",
        "policy lag of new transitions (updates)", "losses, on a logarithmic scale",
        "speeds, per second", "success of the last 100 training episodes",
    ]  # fmt: skip


def test_the_gap_is_the_difference_of_the_same_rows(history: History) -> None:
    axes = panel(drawn(history, None), "mean Q \N{MINUS SIGN}")
    lines = [line for line in axes.lines if line.get_gid() == "dataset/q - dataset/value"]
    q, value = (history.column(f"dataset/{name}", "online")[1] for name in ("q", "value"))
    np.testing.assert_array_equal(lines[1].get_ydata(), q - value)
    assert [line.get_alpha() for line in lines] == [0.25, 0.25, None, None]
