"""A survey of a run's new transitions, from its journal or as cleaning left it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors import SafetensorError

from iqlft.analysis.survey import read_survey, survey
from iqlft.gateway.journal import read_rows
from iqlft.runs.errors import RunError
from iqlft.runs.folder import JOURNAL
from iqlft_workers.transition import RowLayout

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.analysis.survey import MazeTask, Survey
    from iqlft.runs.policy import Policy

SURVEY = "replay/survey.safetensors"
"""What cleaning leaves of the journal."""


def survey_new(folder: Path, policy: Policy, task: MazeTask | None) -> Survey | None:
    """A survey of a run's new transitions; None where there are none.

    Args:
        folder: the run folder; nothing is written to it.
        policy: the run's policy, which tells the dimensions of a transition.
        task: the maze, if there is one.

    Raises:
        RunError: the journal or the survey cannot be read.
    """
    journal, kept = folder / JOURNAL, folder / SURVEY
    layout = RowLayout(policy.weights.observation_dim, policy.weights.action_dim)
    try:
        if journal.is_file():
            found = survey(read_rows(journal, layout), layout, task)
            return found if found.num_transitions else None
        return read_survey(kept) if kept.is_file() else None
    except OSError as error:
        raise RunError(f"{journal} cannot be read ({error.strerror}).") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{kept} is damaged ({error}).") from error
