"""Published results, as package data: `published.csv`.

Its column `run_task` names the task of ours that a row is comparable with: the published names
(`umaze`) lack the `antmaze-` of ours. A task that stands in no row has no published number.
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
"""Those that a figure marks: more than two or three would cover each other."""


class PublishedRow(NamedTuple):
    """One published number, or pair of them.

    Attributes:
        source: the paper or repository.
        dataset_version: such as `antmaze-v0`; numbers of different versions differ.
        algorithm: as spelled in the source.
        task: our name of the task.
        protocol: such as `1M offline + 1M online`.
        before: percent success after the offline phase.
        after: percent success after the online phase; None for offline protocols.
    """

    source: str
    dataset_version: str
    algorithm: str
    task: str
    protocol: str
    before: float
    after: float | None

    @property
    def result(self) -> str:
        """Whose result it is, and of which algorithm."""
        return f"{self.source}, {self.algorithm}"

    def phase_length(self, phase: str) -> tuple[int, ...]:
        """Updates (`offline`) or environment steps (`online`) by the protocol; `()` if silent."""
        match = re.search(rf"(\d+)M {phase}", self.protocol)
        return (int(match[1]) * 1_000_000,) if match else ()


@functools.cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All rows of the package's `published.csv`, in its order."""
    text = (resources.files(__package__) / "published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedRow(
            source=row["source"],
            dataset_version=row["dataset_version"],
            algorithm=row["algorithm"],
            task=row["run_task"],
            protocol=row["protocol"],
            before=float(row["before"]),
            after=float(row["after"]) if row["after"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    )


def fine_tuning_results(
    published: Published, algorithms: Iterable[str]
) -> list[list[PublishedRow]]:
    """Published results before and after fine-tuning, one list per source and algorithm.

    Args:
        published: which.
        algorithms: those that `same` is about, as runs spell them.
    """
    names = [*algorithms]
    results: dict[str, list[PublishedRow]] = {}
    for row in published_rows() if published != "none" else ():
        if row.after is not None and (published == "all" or is_among(row.algorithm, names)):
            results.setdefault(row.result, []).append(row)
    return list(results.values())


def is_among(algorithm: str, names: Iterable[str]) -> bool:
    """Whether an algorithm is one of some others, as a source or as a run spells it."""
    return _plain(algorithm) in map(_plain, names)


def _plain(algorithm: str) -> str:
    """`CalQL` for `Cal-QL`: sources spell alike names differently."""
    return re.sub(r"[^a-z0-9]|rl$", "", algorithm.lower())


def task_order(task: str) -> tuple[int, str]:
    """Sort key: published tasks in the order of the papers' tables, then others by name."""
    known = list(dict.fromkeys(row.task for row in published_rows()))
    return (known.index(task) if task in known else len(known), task)
