"""Imports one of D4RL's HDF5 files as a Minari dataset, and reports how good its marks are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from iqlft.datasets import storage
from iqlft.datasets.antmaze.tasks import find_task
from iqlft.datasets.d4rl.file import open_file
from iqlft.datasets.d4rl.survey import survey
from iqlft.datasets.d4rl.targets import AntMazeTarget, VectorTarget
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.imported import ImportedDataset, check_id
from iqlft.datasets.writing import create_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.datasets.d4rl.file import D4RLFile
    from iqlft.datasets.d4rl.survey import Survey
    from iqlft.datasets.d4rl.targets import Target
    from iqlft.datasets.imported import Report


def import_file(
    path: Path,
    *,
    task: str | None = None,
    environment: str | None = None,
    dataset_id: str | None = None,
    episode_steps: int | None = None,
    force: bool = False,
) -> ImportedDataset:
    """Turns one of D4RL's files into a Minari dataset.

    Args:
        path: the HDF5 file.
        task: for an AntMaze file, its task, such as `antmaze-medium-play`.
        environment: for any other file, the Gymnasium id of an environment with the same
            observations and actions, such as `HalfCheetah-v5`.
        dataset_id: Minari id of the result; by default in the namespace `imported`, which neither
            official nor regenerated datasets use.
        episode_steps: the time limit of episodes, for a file without time-outs.
        force: replaces a dataset of the same id; it stays until the new one is complete.

    Raises:
        DatasetError: task and environment are both given or both missing, the file is not D4RL's or
            does not fit, the id cannot be used, or the dataset exists.
        EnvironmentMismatchError: the environment is unknown.
    """
    target = _choose(task, environment)
    try:
        dataset_id = dataset_id or target.default_id(path)
        check_id(dataset_id)
        storage.require_free(dataset_id, force=force)
        with open_file(path, target.family) as file:
            _check_widths(file, target)
            found = survey(file, episode_steps)
            if not found.spans:
                raise DatasetError(f"There is no transition in {path}: every row ends an episode.")
            target.check(path, found)
            report = _count(found) | target.measure(found)
            _write(dataset_id, target, file, found, report)
    finally:
        target.environment.close()
    return ImportedDataset(dataset_id, report)


def _choose(task: str | None, environment: str | None) -> Target:
    if task is not None and environment is None:
        return AntMazeTarget(find_task(task))
    if environment is not None and task is None:
        return VectorTarget(environment)
    raise DatasetError(
        "Say what the file holds: --task antmaze-medium-play or its like for AntMaze, or else "
        "--environment with a Gymnasium id, one of the two."
    )


def _check_widths(file: D4RLFile, target: Target) -> None:
    for name, width in target.widths.items():
        if file.width(name) != width:
            raise DatasetError(
                f"{file.path} has {name} of {file.width(name)} values, but those of {target.name} "
                f"have {width}; name what the file was recorded in."
            )


def _count(found: Survey) -> Report:
    """Counts of what became of the rows, and of how the file's marks agree with true ends."""
    rows, jumps, timeouts = len(found.timeouts), found.jumps, found.timeouts
    transitions = sum(span.steps for span in found.spans)
    report: Report = {
        "rows in the file": rows,
        "episodes": len(found.spans),
        "transitions": transitions,
        "rows dropped, as nothing says what followed": rows - transitions,
        "action values outside [-1, 1] (share)": found.outside,
        "terminals": int(found.terminals.sum()),
        "time-outs": int(timeouts.sum()),
    }
    if found.sees_jumps:
        ends = jumps | (np.arange(rows) == rows - 1)
        report |= {
            "time-outs where an episode ends": int((timeouts & ends).sum()),
            "time-outs inside an episode": int((timeouts & ~ends).sum()),
            "jumps, where the next row does not follow": int(jumps.sum()),
            "jumps without a mark: false transitions": int((jumps & ~found.marked).sum()),
        }
    return report


def _write(dataset_id: str, target: Target, file: D4RLFile, found: Survey, report: Report) -> None:
    with file.path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    origin = {
        "file": file.path.name,
        "file_sha256": sha256,
        "recorded_in": target.name,
        "report": report,
    }
    description = (
        f"D4RL's own data of {target.name}, imported from {file.path.name} (sha256 {sha256}). "
        "Episodes are split at the file's marks and wherever the next row does not follow. "
        f"{target.remark}"
    )
    with storage.own_work_folder() as work:
        create_dataset(
            dataset_id,
            (target.episode(i, file, found, span) for i, span in enumerate(found.spans)),
            work,
            environment=target.environment,
            evaluation=target.evaluation,
            origin=origin,
            license_name="CC-BY-4.0",
            algorithm_name="that of D4RL's file",
            author="D4RL",
            scores=target.scores,
            description=description,
        )
