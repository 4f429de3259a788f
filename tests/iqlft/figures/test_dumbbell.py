"""The change beside an arrow says how large it is, whatever is measured."""

import math

import pytest

from iqlft.analysis.statistics import Estimate
from iqlft.figures.dumbbell import change_text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Estimate(26.4, 17.0, 35.2), "+26 [17, 35]"),
        (Estimate(1.64, math.nan, math.nan), "+1.6"),
        (Estimate(-0.034, -0.09, 0.02), "\N{MINUS SIGN}0.03 [\N{MINUS SIGN}0.09, 0.02]"),
        (Estimate(0.0, math.nan, math.nan), "+0"),
        (Estimate(math.nan, math.nan, math.nan), "no number"),
        (None, "not fine-tuned"),
    ],
)
def test_a_change_has_the_digits_that_its_size_needs(change: Estimate | None, text: str) -> None:
    assert change_text(change) == text
