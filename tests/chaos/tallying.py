"""An environment that keeps a tally of its steps where no kill of its process can undo it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from synthetic_worker import PROCESS, SESSION, Counting

if TYPE_CHECKING:
    from numpy.typing import NDArray

ID = "chaos.tallying:Tallying-v0"
SECONDS_PER_STEP = "TALLYING_SECONDS_PER_STEP"
"""Environment variable with which one worker is made slower than the others."""


class Tallying(Counting):
    """Counts its steps in a file of its own too.

    Args:
        folder: where the file `<process id>-<number of the session in it>` is made.
        seconds_per_step: slept in each step, if the environment variable does not say otherwise.
    """

    def __init__(self, folder: str, seconds_per_step: float) -> None:
        seconds = float(os.environ.get(SECONDS_PER_STEP, seconds_per_step))
        super().__init__(seconds_per_step=seconds)
        source = self._observation[[PROCESS, SESSION]].astype(int)
        path = Path(folder, "-".join(map(str, source)))
        self._steps = np.memmap(path, np.int64, "w+", shape=1)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        self._steps[0] += 1
        return super().step(action)


def tally(folder: Path) -> dict[tuple[int, int], int]:
    """Steps begun so far by each (process, session)."""
    # A file that was made this moment is empty.
    return {
        (int(process), int(session)): int(np.fromfile(path, np.int64).sum())
        for path in folder.iterdir()
        if path.stat().st_size  # It is made this moment.
        for process, session in [path.name.split("-")]
    }


if "Tallying-v0" not in gymnasium.registry:
    gymnasium.register("Tallying-v0", "chaos.tallying:Tallying")
