"""Statistics of a stream do not depend on how it was cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iqlft.datasets.row_statistics import RowStatistics


@given(cuts=st.lists(st.integers(1, 499), unique=True, max_size=8))
def test_chunk_borders_change_neither_hash_nor_mean_nor_deviation(cuts: list[int]) -> None:
    rows = np.random.default_rng(0).normal([3, -100, 0.1, 7], [1, 5, 1e-3, 0], (500, 4))
    rows = rows.astype(np.float32)
    whole, parts = RowStatistics(3), RowStatistics(3)
    whole.add(rows)
    for part in np.split(rows, sorted(cuts)):
        parts.add(np.ascontiguousarray(part))
    assert parts.hash == whole.hash
    exact = rows[:, :3].astype(np.float64)
    for statistics in (whole, parts):
        np.testing.assert_allclose(statistics.mean, exact.mean(0), rtol=1e-6)
        np.testing.assert_allclose(statistics.std, exact.std(0) + 1e-3, rtol=1e-6)


def test_other_rows_have_another_hash() -> None:
    statistics = [RowStatistics(1), RowStatistics(1)]
    statistics[0].add(np.zeros((2, 2), np.float32))
    statistics[1].add(np.ones((2, 2), np.float32))
    assert statistics[0].hash != statistics[1].hash
