"""Groups of runs, each of which learns in one stack, trained one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft.training.interruption import Interrupted
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from iqlft.runs.folder import Run
    from iqlft.training.progress import Reporter


def train_groups(
    groups: Sequence[Sequence[Run]],
    train: Callable[[Sequence[Run]], list[Path]],
    made_in: Callable[[Run], Path],
    reporter: Reporter,
    *,
    begun: bool = False,
) -> list[Path]:
    """Trains every group; one that fails does not stop the others.

    Args:
        groups: the runs.
        train: trains a group, and returns the folders of its runs.
        made_in: the folder of what a run is trained into, which may be a copy.
        reporter: is told why a group has failed.
        begun: whether all of these folders can be resumed already.

    Returns:
        The folders of the runs of all groups.

    Raises:
        UserError: that of the first group that has failed, after the last group.
        Interrupted: stopped by a signal; names what can be resumed, and what has not begun.
    """
    folders: list[Path] = []
    failures: list[UserError] = []
    for number, group in enumerate(groups, 1):
        try:
            folders += train(group)
        except Interrupted as stopped:
            later = [made_in(run) for each in groups[number:] for run in each]
            left, not_begun = (later, []) if begun else ([], later)
            raise Interrupted([*stopped.folders, *left], not_begun) from None
        except UserError as error:
            if len(groups) > 1:
                reporter.event(f"{', '.join(run.folder.name for run in group)}: {error}")
            # Its traceback would keep the group's replay in memory.
            failures.append(error.with_traceback(None))
    if failures:
        raise failures[0]
    return folders
