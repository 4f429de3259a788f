"""`iqlft demo`: the task and the dataset of the small-scale demonstration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft.config import layers
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.datasets.catalogue import list_local

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = "antmaze-corner-diverse"
"""Task of the demonstration; its settings take a few minutes on two cores."""
TRANSITIONS = 30_000
"""Transitions of the demonstration's dataset."""


def make_demo_dataset(progress: Callable[[int, int, float], None]) -> str:
    """Makes the demonstration's dataset unless it exists; returns a description of it."""
    dataset = layers.load_task(TASK)["dataset"]
    for each in list_local():
        if each.id == dataset:
            return f"{dataset}, {each.transitions:,} transitions, made before."
    made = make_dataset(TASK, transitions=TRANSITIONS, processes=2, progress=progress)
    return f"{made.id}, {made.transitions:,} transitions, made in {made.seconds:.0f} s."
