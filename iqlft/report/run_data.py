"""The parts of a run beyond its evaluations, loaded on demand.

A part that a run has lost, or never had, raises a `UserError` that says why; a report shows that
sentence instead.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from iqlft.analysis.critics import Critics
from iqlft.analysis.evaluation_paths import evaluation_paths
from iqlft.analysis.restored import restored
from iqlft.analysis.survey import maze_task, survey
from iqlft.datasets.errors import DatasetError
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.errors import RunError
from iqlft.runs.folder import JOURNAL, pretrain_config
from iqlft.runs.growing_files import METRICS
from iqlft.runs.listing import progress
from iqlft.runs.metrics_log import read_history
from iqlft.runs.policy import load_policy
from iqlft.training.build import load_task_dataset
from iqlft.training.evaluation import FIRST_SEED
from iqlft.training.new_transitions import SURVEY, survey_new
from iqlft.training.pretrain import require_same_dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.analysis.evaluation_paths import EvaluationPath
    from iqlft.analysis.survey import MazeTask, Survey
    from iqlft.runs.folder import Run
    from iqlft.runs.metrics_log import History
    from iqlft.runs.policy import Policy

EPISODES = 12
"""Evaluation episodes that are run for their paths: the first ones of every evaluation."""


class RunData:
    """The parts of one run.

    Args:
        run: an existing run; nothing is written to it.
        datasets: surveys of datasets, shared among runs so that each is read once; added to.
    """

    def __init__(self, run: Run, datasets: dict[str, Survey] | None = None) -> None:
        self._run = run
        self._datasets = {} if datasets is None else datasets

    @property
    def only_numbers(self) -> bool:
        """Whether nothing is left of the run but configuration, evaluations and provenance."""
        parts = (METRICS, "policy", "checkpoints", "replay")
        return not any((self._run.folder / each).exists() for each in parts)

    @functools.cached_property
    def history(self) -> History:
        """The rows of `metrics.jsonl`; see `read_history`."""
        return read_history(self._run.folder)

    @functools.cached_property
    def policy(self) -> Policy:
        """The newest policy; see `load_policy`."""
        return load_policy(self._run.folder)

    @functools.cached_property
    def critics(self) -> Critics:
        """The networks of the newest checkpoint; see `restored`.

        Raises:
            CheckpointError: the run has none, or none that can be read.
        """
        if not (self._run.folder / "checkpoints").exists():
            raise CheckpointError(
                f"{self._run.folder} has no checkpoint yet, or only the small files of this run "
                "were kept; its networks are not among them."
            )
        return Critics(restored(self._run, self.policy))

    @functools.cached_property
    def task(self) -> MazeTask | None:
        """The maze and its columns of positions in observations; None where there is none."""
        return maze_task(self.policy.environment)

    @functools.cached_property
    def dataset(self) -> Survey:
        """The dataset's transitions.

        Raises:
            DatasetError: it is not here, or cannot be read.
            RunError: it is not the one that the run learned from.
        """
        # The recorded hash identifies the rows, and the environment identifies the maze.
        about = [self._run.meta.get("dataset"), self.policy.environment.to_dict()]
        key = json.dumps(about, sort_keys=True)
        if key not in self._datasets:
            self._datasets[key] = self._read_dataset()
        return self._datasets[key]

    def _read_dataset(self) -> Survey:
        config = pretrain_config(self._run)
        try:
            dataset = load_task_dataset(config)
            found = survey(dataset.chunks(), dataset.layout, self.task)
        except OSError as error:
            raise DatasetError(
                f"The dataset {' + '.join(config.dataset)} cannot be read ({error}); make or "
                "download it again."
            ) from error
        require_same_dataset(self._run, dataset)
        return found

    @functools.cached_property
    def env_steps(self) -> int:
        """Environment steps that the run has recorded."""
        return progress(self._run.folder)[1]

    @functools.cached_property
    def new(self) -> Survey | None:
        """The new transitions; None where there are none.

        Raises:
            RunError: they are lost, or cannot be read.
        """
        folder = self._run.folder
        found = survey_new(folder, self.policy, self.task)
        if found is None and self.env_steps:
            raise RunError(
                f"{folder} has taken {self.env_steps:,} environment steps and holds none of their "
                f"transitions; restore {JOURNAL}, or {SURVEY} where it was cleaned, from a copy."
            )
        return found

    @functools.cached_property
    def paths(self) -> Sequence[EvaluationPath]:
        """Evaluation episodes of the newest policy in its maze, of an evaluation's first seeds."""
        assert self.task is not None
        seeds = [FIRST_SEED + index for index in range(EPISODES)]
        return evaluation_paths(self.policy, self.task.position, seeds)
