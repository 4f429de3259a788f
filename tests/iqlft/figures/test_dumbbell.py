"""The change beside an arrow says how large it is, whatever is measured."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.patches import FancyArrowPatch

from iqlft.analysis.statistics import Estimate
from iqlft.figures.before_after import before_after_figure
from iqlft.figures.dumbbell import change_text
from iqlft.runs.curves import read_run

MakeRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Estimate(26.4, 17.0, 35.2), "+26 [17, 35]"),
        (Estimate(1.64, math.nan, math.nan), "+1.6"),
        (
            Estimate(-11.0, -21.37, -0.48),
            "\N{MINUS SIGN}11.0 [\N{MINUS SIGN}21.4, \N{MINUS SIGN}0.5]",
        ),
        (Estimate(-0.034, -0.09, 0.02), "\N{MINUS SIGN}0.03 [\N{MINUS SIGN}0.09, 0.02]"),
        (Estimate(0.0, math.nan, math.nan), "+0"),
        (Estimate(math.nan, math.nan, math.nan), "no number"),
        (None, "not fine-tuned"),
    ],
)
def test_a_change_has_the_digits_that_its_size_needs(change: Estimate | None, text: str) -> None:
    assert change_text(change) == text


def test_fine_tuning_that_is_not_evaluated_is_not_said_not_to_have_been() -> None:
    assert change_text(None, fine_tuned=True) == "not evaluated after fine-tuning"


def test_bars_are_inside_axes_that_choose_their_own_scale(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(seed=seed, metric="return", offline=[before], online=[before, after]))
        for seed, (before, after) in enumerate([(900, 1200), (1100, 3400)])
    ]
    axes = before_after_figure(runs).axes[-1]

    ends = [x for line in axes.lines if "interval" in line.get_gid() for x in line.get_xdata()]
    assert len(ends) == 4
    low, high = axes.get_xlim()
    assert low <= min(ends) < 0
    assert 10_000 < max(ends) <= high


@pytest.mark.parametrize(("after", "drawn"), [(0.52, False), (0.9, True)])
def test_an_arrow_is_drawn_where_there_is_room_for_it(
    make_run: MakeRun, after: float, drawn: bool
) -> None:
    figure = before_after_figure([read_run(make_run(online=[0.5, after]))])
    figure.draw_without_rendering()
    (arrow,) = (each for each in figure.axes[-1].patches if isinstance(each, FancyArrowPatch))
    assert arrow.get_visible() == drawn
