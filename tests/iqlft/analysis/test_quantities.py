"""Durations and numbers are told the same everywhere."""

import pytest

from iqlft.analysis.quantities import clock, duration, with_minus


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
