"""Which new batches may have made a run diverge, and how to drop them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqlft.config.settings import OnlineConfig
from iqlft.datasets.value_bounds import ValueBounds
from iqlft.gateway.journal import outliers
from iqlft.runs.errors import command
from iqlft.runs.folder import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.gateway.records import BatchName
    from iqlft.training.plan import RunPlan

MOST_NAMES = 20
"""Number of names beyond which episodes or workers are named in place of batches."""


def suspects(plan: RunPlan[Any], dataset: OfflineDataset) -> str:
    """A sentence that names the batches with values far outside of the dataset's range.

    Args:
        plan: plan of the run; nothing is written to its folder.
        dataset: what it was pretrained on.

    Returns:
        The sentence, after a space; empty where there are no such batches, or no journal.
    """
    journal, factor = plan.run.folder / JOURNAL, getattr(plan.config, "value_bounds", 0.0)
    bounds = ValueBounds.of_dataset(
        dataset.statistics, dataset.layout, factor or OnlineConfig.value_bounds
    )
    if bounds is None or not journal.is_file():
        return ""
    try:
        found = outliers(journal, bounds)
    except OSError:
        return ""  # The divergence is to be reported, not this error.
    if not found:
        return ""
    folder = plan.run.folder
    return (
        f" {len(found):,} of the new batches hold values far outside of the dataset's range; go on "
        f"without them by {command('clean', folder, '--drop-batches', *_shortened(found))}, and "
        f"{command('resume', folder)}."
    )


def _shortened(batches: Sequence[BatchName]) -> list[str]:
    """Names of batches, else of their episodes, else of their workers: at most `MOST_NAMES`."""
    parts = [str(each).split(":") for each in batches]
    for kept in (3, 2, 1):
        names = list(dict.fromkeys(":".join(each[:kept]) for each in parts))
        if len(names) <= MOST_NAMES:
            break
    return names
