"""Durations and numbers are told the same everywhere."""

import pytest

from iqlft.analysis.quantities import clock, duration, estimate_text, rounded, with_minus
from iqlft.analysis.statistics import Estimate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "not recorded"), (12.4, "12 s"), (1138.5, "19 min"), (7_000, "1 h 57 min")],
)
def test_a_duration_is_told_in_hours_and_minutes(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_what_counts_is_read_like_a_clock() -> None:
    assert [clock(each) for each in (None, 0, 59.6, 3600, 90_061)] == [
        "unknown time", "0:00:00", "0:01:00", "1:00:00", "25:01:01"
    ]  # fmt: skip


def test_a_minus_is_no_hyphen() -> None:
    assert with_minus("-3 to -1") == "\N{MINUS SIGN}3 to \N{MINUS SIGN}1"


def test_a_half_is_rounded_away_from_0_and_nothing_to_minus_zero() -> None:
    assert [f"{rounded(-0.04, digits):+.1f}" for digits in (0, 1)] == ["+0.0", "+0.0"]
    assert [rounded(-0.06, 1), rounded(2.5), rounded(-2.5)] == [-0.1, 3.0, -3.0]
    # CORL's mean of four seeds, and a share that is less than its half by the last bit.
    assert [rounded(55.25, 1), rounded(100 * 0.565)] == [55.3, 57.0]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(92.0, 85.0015, 95.9), "92.0 [85, 96]"),
        (Estimate(0.0, 0.0, 6.02), "0.0 [0, 6]"),
        (Estimate(100.0, 96.3, 100.0), "100.0 [96, 100]"),
        (Estimate(-11.0, -21.37, -0.48), "-11.0 [-21.4, -0.5]"),
        (Estimate(0.062, 0.038, 0.086), "0.06 [0.04, 0.09]"),
        (Estimate(0.8, 0.6, 1.4), "0.8 [0.6, 1.4]"),
        (Estimate(2.0, 1.6, 2.4), "2.0 [1.6, 2.4]"),
        (Estimate(-0.034), "-0.03"),
        (Estimate(0.0), "0.0"),
        (Estimate(1e-16, -5.0, 1e-15), "0.0 [-5, 0]"),
    ],
)
def test_an_interval_is_never_rounded_to_one_that_says_something_else(
    estimate: Estimate, text: str
) -> None:
    assert estimate_text(estimate) == text
