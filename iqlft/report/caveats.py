"""Caveats: sentences about what the numbers of some runs do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft.analysis.published import comparable_rows, published_rows
from iqlft.analysis.summary import count_range
from iqlft.datasets.antmaze.tasks import REGENERATED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.analysis.published import PublishedRow
    from iqlft.analysis.summary import Group, Summary
    from iqlft.runs.folder import Run

PUBLISHED_EPISODES = 100
"""Episodes of an evaluation in the papers' protocol."""


def caveats(group: Group, summary: Summary) -> list[str]:
    """Sentences about one task's series: its data, seeds, length and evaluations.

    Args:
        group: its runs.
        summary: of the group.
    """
    comparable = comparable_rows(group.task, group.series.algorithm, tuned=bool(group.tuned))
    return [
        _data(summary, [row for row in published_rows() if row.is_of(group.task)]),
        *_seeds(summary.num_seeds[0] or len(group.runs), len(group.runs)),
        *_length(summary, comparable),
        *_apart(summary),
        *_episodes(summary),
    ]


def unfinished(run: Run) -> list[str]:
    """A sentence if training is not finished, else none.

    Raises:
        RunError: `meta.json` cannot be read.
    """
    status = run.meta.get("status", "finished")
    if status == "finished":
        return []
    sentence = (
        f"The training in {run.folder} is not finished (its status is {status}): its numbers are "
        "those so far."
    )
    return [sentence]


def _data(summary: Summary, published: Sequence[PublishedRow]) -> str:
    label = f"The data are {summary.label}"
    versions = sorted({row.dataset_version for row in published})
    if not versions:
        return f"{label}; there is no published number for this task."
    advice = (
        ", which is other data."
        if REGENERATED in summary.label
        else "; compare them only if that is the same data."
    )
    return f"{label}; the published numbers are of {' and '.join(versions)}{advice}"


def _seeds(count: int, trained: int) -> list[str]:
    sentence = (
        "There is one seed: its intervals are about the episodes of an evaluation, not about how "
        "training differs from seed to seed."
        if count == 1
        else f"There are {count} seeds; the intervals over them assume that further seeds would "
        "be alike."
    )
    if count == trained:
        return [sentence]
    counted = "only those evaluated before and after fine-tuning are counted"
    return [sentence, f"Of {trained} seeds {counted}."]


def _length(summary: Summary, published: Sequence[PublishedRow]) -> list[str]:
    offline = max((row.offline_updates for row in published), default=0)
    online = max((row.env_steps for row in published), default=0)
    done = summary.offline_updates, summary.env_steps
    if min(done[0], default=0) >= offline and min(done[1], default=0) >= online:
        return []
    phases = [
        (count_range(each) if each else "no", name, count_range([published]))
        for each, name, published in zip(
            done, ("offline updates", "environment steps"), (offline, online), strict=True
        )
        if published
    ]
    ours = " and ".join(f"{count} {name}" for count, name, _ in phases)
    theirs = " and ".join(published for *_, published in phases)
    sentence = f"The training is shorter than the published one: {ours}, where that has {theirs}."
    return [sentence]


def _apart(summary: Summary) -> list[str]:
    if len(summary.offline_updates) < 2 and len(summary.env_steps) < 2:
        return []
    return ["The seeds have no evaluation after equally many updates and steps in common."]


def _episodes(summary: Summary) -> list[str]:
    if not summary.episodes or summary.episodes[0] >= PUBLISHED_EPISODES:
        return []
    sentence = (
        f"An evaluation has {count_range(summary.episodes)} episodes, where a published one has "
        f"{PUBLISHED_EPISODES}."
    )
    return [sentence]
