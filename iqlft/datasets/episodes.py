"""Where the episodes of a dataset's rows end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from iqlft_workers.transition import RowLayout


def episode_ends(rows: Tensor, layout: RowLayout) -> Tensor:
    """Whether each row but the last ends its episode, `(N - 1,)` bool; the last row always does.

    Termination does not count: where rewards are relabelled, the agent goes on after reaching the
    goal. So an episode ends where it was truncated, or where the next row begins with an
    observation other than the one in which this row ended.

    Args:
        rows: `(N, width)`, episode by episode.
        layout: where the fields are in a row.
    """
    observations, _, _, next_observations, _, truncated, _ = layout.unpack(rows)
    apart: Tensor = (next_observations[:-1] != observations[1:]).any(-1) | (truncated[:-1] > 0)
    return apart
