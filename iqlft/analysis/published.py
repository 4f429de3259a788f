"""Published results, as package data: `published.csv`.

Its tasks are AntMaze's, by the papers' names: `umaze` is both `antmaze-umaze` and
`d4rl-antmaze-umaze` here. A task without a row has no published number.
"""

from __future__ import annotations

import csv
import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

Published = Literal["same", "all", "none"]
"""Which published results to show: those of the same algorithms, all, or none."""
Marked = Literal["same", "none"]
"""Which published results a figure marks; with all of them marks would cover each other."""


class PublishedRow(NamedTuple):
    """Published success in per cent, before fine-tuning or before and after it.

    Attributes:
        source: the paper or repository.
        dataset_version: such as `antmaze-v0`; numbers of different versions differ.
        algorithm: as spelled in the source.
        task: such as `antmaze-umaze`.
        offline_updates: of its protocol; 0 where it learns online from the first step on.
        env_steps: of its protocol; 0 where it ends with pretraining.
        seeds: how many; None where the source does not say.
        before: after the offline phase.
        after: after the online phase; None where there is none.
    """

    source: str
    dataset_version: str
    algorithm: str
    task: str
    offline_updates: int
    env_steps: int
    seeds: int | None
    before: float
    after: float | None

    @property
    def label(self) -> str:
        """Whose result it is, of how many seeds: `CORL README, 4 seeds`."""
        return self.source if self.seeds is None else f"{self.source}, {self.seeds} seeds"

    def is_of(self, task: str) -> bool:
        """Whether it is of a task of ours."""
        return self.task == _published_name(task)


def _published_name(task: str) -> str:
    """A task's name in the rows, the same for official datasets and newly made ones."""
    return task.removeprefix("d4rl-")


@functools.cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All rows of the package's `published.csv`, in its order."""
    text = (resources.files(__package__) / "published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedRow(
            source=row["source"],
            dataset_version=row["dataset_version"],
            algorithm=row["algorithm"],
            task=f"antmaze-{row['task']}",
            offline_updates=int(row["offline_updates"]),
            env_steps=int(row["env_steps"]),
            seeds=int(row["seeds"]) if row["seeds"] else None,
            before=float(row["before"]),
            after=float(row["after"]) if row["after"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    )


def published_results(
    published: Published, algorithms: Iterable[str], *, fine_tuned: bool = True
) -> list[list[PublishedRow]]:
    """Published results, one list of tasks per source and algorithm.

    Args:
        published: which results to select.
        algorithms: those that `same` selects, as runs spell them.
        fine_tuned: whether to select results of fine-tuning, or those that end with pretraining.
    """
    names = [*algorithms]
    results: dict[tuple[str, str], list[PublishedRow]] = {}
    for row in published_rows() if published != "none" else ():
        wanted = published == "all" or is_among(row.algorithm, names)
        if wanted and fine_tuned == (row.after is not None):
            results.setdefault((row.source, row.algorithm), []).append(row)
    return list(results.values())


def comparable_rows(task: str, algorithm: str, *, tuned: bool) -> list[PublishedRow]:
    """Published rows that a run may be compared with.

    They have its task and algorithm: results of fine-tuning for a fine-tuned run, else of offline
    tables, or, where those lack the algorithm, of fine-tuning, for the number before it.

    Args:
        task: of the run.
        algorithm: as runs spell it.
        tuned: whether the run has been fine-tuned.
    """
    mine = [
        row for row in published_rows() if row.is_of(task) and is_among(row.algorithm, [algorithm])
    ]
    fine_tuned = [row for row in mine if row.after is not None]
    return fine_tuned if tuned else [row for row in mine if row.after is None] or fine_tuned


def is_among(algorithm: str, names: Iterable[str]) -> bool:
    """Whether an algorithm is among `names`, whether sources or runs spell them."""
    return _plain(algorithm) in map(_plain, names)


def _plain(algorithm: str) -> str:
    """`calql` for `Cal-QL`, `onestep` for `One-step RL`: sources differ in spelling."""
    return re.sub(r"[^a-z0-9]|rl$", "", algorithm.lower())


def task_order(task: str) -> tuple[int, str]:
    """Sort key: published tasks in the order of the papers' tables, then others by name."""
    known = list(dict.fromkeys(row.task for row in published_rows()))
    name = _published_name(task)
    return (known.index(name) if name in known else len(known), task)
