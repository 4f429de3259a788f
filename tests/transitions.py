"""Transitions of several batches as one."""

from collections.abc import Sequence

import numpy as np

from iqlft_workers.transition import Transitions


def concatenate(parts: Sequence[Transitions]) -> Transitions:
    """Joins transitions in order along their first axis."""
    return Transitions(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
