"""Hash, mean, standard deviation and extremes of a stream of rows, in a single pass."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RowStatistics:
    """Statistics of the rows seen so far.

    Mean and variance are combined chunk by chunk in float64 (Chan, Golub and LeVeque, 1979), so
    that a dataset larger than memory needs no second pass and no float64 copy.

    Args:
        width: O, the number of leading values of a row that are the observation.

    Attributes:
        least: minimum of each value of a row, `(W,)`; a single infinity before the first row.
        greatest: the maximum; a single minus infinity before the first row.
    """

    def __init__(self, width: int) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._count = 0
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)
        self._normalizer: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.least, self.greatest = np.full(1, np.inf), np.full(1, -np.inf)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Adds rows `(n, W)`, which must be contiguous, with n at least 1."""
        self._hash.update(rows.data)
        self.least = np.minimum(self.least, rows.min(0))
        self.greatest = np.maximum(self.greatest, rows.max(0))
        observations = rows[:, : len(self._mean)].astype(np.float64)
        mean, count = observations.mean(0), self._count + len(rows)
        gap = mean - self._mean
        self._squares += np.square(observations - mean).sum(0)
        self._squares += gap**2 * (self._count * len(rows) / count)
        self._mean += gap * (len(rows) / count)
        self._count = count

    def settle(self) -> None:
        """Freezes mean and standard deviation, so that later rows do not change them."""
        self._normalizer = self.mean, self.std

    @property
    def hash(self) -> str:
        """blake2b of the rows' bytes, in hexadecimal, whatever chunks they came in."""
        return self._hash.hexdigest()

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the observations, `(O,)`."""
        return self._normalizer[0] if self._normalizer else self._mean.astype(np.float32)

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation of the observations + 1e-3, `(O,)`: a divisor that is never 0."""
        if self._normalizer:
            return self._normalizer[1]
        return (np.sqrt(self._squares / max(self._count, 1)) + 1e-3).astype(np.float32)
