"""Names of tasks and series in figures: just long enough to tell them apart."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.analysis.summary import Series


def short_task(task: str, tasks: Sequence[str]) -> str:
    """A task's name without the words that all tasks share: `medium-play` among AntMaze tasks.

    Args:
        task: one of the tasks.
        tasks: all that are shown.
    """
    words = [each.split("-") for each in tasks]
    # Dropping `d4rl` alone would leave the names of other tasks.
    for count in range(min(map(len, words)) - 1 if len(tasks) > 1 else 0, 0, -1):
        start = words[0][:count]
        if start != ["d4rl"] and all(each[:count] == start for each in words):
            return "-".join(task.split("-")[count:])
    return task


def without_after(*, fine_tuned: bool) -> str:
    """The words in place of a missing score after fine-tuning.

    Args:
        fine_tuned: whether it has begun.
    """
    return "not evaluated after fine-tuning" if fine_tuned else "not fine-tuned"


def series_name(one: Series, series: Sequence[Series]) -> str:
    """What tells one series from the others: its variant alone, where all have one algorithm.

    Args:
        one: of the series.
        series: all that are shown.
    """
    same_algorithm = len({each.algorithm for each in series}) == 1
    name = one.variant if same_algorithm and one.variant else one.name
    origins = [each.origin.split(", ") for each in series if each.name == one.name]
    # Datasets that differ only in the policy that collected them are told apart by that alone.
    columns = zip(*origins, strict=False)
    shared = len([*itertools.takewhile(lambda parts: len(set(parts)) == 1, columns)])
    return ", ".join([name, *one.origin.split(", ")[shared:]])
