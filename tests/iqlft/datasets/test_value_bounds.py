"""Bounds are generous, come from the dataset alone, and say what lies outside of them."""

import numpy as np
import pytest

from iqlft.datasets.row_statistics import RowStatistics
from iqlft.datasets.value_bounds import Range, ValueBounds, widened
from iqlft_workers.transition import RowLayout, Transitions

LAYOUT = RowLayout(2, 1)


def transitions(**changes: float) -> Transitions:
    """Five of them, of zeros, and in the last one what is to be changed."""
    rows = LAYOUT.transitions(np.zeros((5, LAYOUT.width), np.float32))
    for name, value in changes.items():
        getattr(rows, name)[-1] = value
    return rows


def bounds(factor: float = 10.0) -> ValueBounds | None:
    """Of a dataset with observations from -4 to 6, seen as the next ones too, and rewards -1, 0."""
    rows, statistics = np.zeros((3, LAYOUT.width), np.float32), RowStatistics(2)
    observations, _, rewards, next_observations, *_ = LAYOUT.unpack(rows)
    observations[0, 1], next_observations[2, 0], rewards[1] = -4, 6, -1
    for each in (rows[:1], rows[1:]):
        statistics.add(each)
    return ValueBounds.of_dataset(statistics, LAYOUT, factor)


@pytest.mark.parametrize(
    ("found", "expected"),
    [((-1, 0), (-11, 10)), ((0, 0), (-10, 10)), ((50, 50), (-450, 550)), ((-5, 15), (-205, 215))],
)
def test_there_is_room_around_a_range_even_where_it_has_no_width(
    found: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert widened(Range(*found), 10.0) == expected


def test_bounds_are_those_of_observations_before_and_after_and_of_rewards() -> None:
    assert bounds() == ((-104, 106), (-11, 10))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("observations", 107.0),
        ("observations", -1e30),
        ("next_observations", -105.0),
        ("rewards", 3e38),
        ("rewards", -11.5),
    ],
)
def test_what_lies_outside_is_told(name: str, value: float) -> None:
    found = bounds()
    assert found is not None
    assert found.violation(transitions(**{name: value})).startswith(f"{name} hold {value:.4g}, far")
    assert found.violation(transitions(observations=106, next_observations=-104, rewards=-11)) == ""


def test_without_a_dataset_or_a_factor_there_are_no_bounds() -> None:
    assert ValueBounds.of_dataset(RowStatistics(2), LAYOUT, 10.0) is None
    assert bounds(0.0) is None
