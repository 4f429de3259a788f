"""Runs at a glance: status, steps, last score, size and age."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.finding import run_folders
from iqlft.runs.folder import status_of
from iqlft.runs.growing_files import METRICS
from iqlft.runs.meta import read_meta
from iqlft_workers.files import file_stats

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.runs.scores import Score


class Listed(NamedTuple):
    """A run in the list.

    Attributes:
        folder: the run folder.
        task: its task; empty where `meta.json` cannot be read.
        status: `running`, `killed` (recorded as running, but claimed by no process), `interrupted`,
            `finished`, `failed`, or `damaged`.
        updates: offline and online updates, as far as recorded.
        env_steps: online environment steps, as far as recorded.
        last: its last score, None before the first one.
        size_bytes: size of all its files.
        changed: when it was written last, in seconds since 1970.
    """

    folder: Path
    task: str
    status: str
    updates: int
    env_steps: int
    last: Score | None
    size_bytes: int
    changed: float

    @property
    def age_seconds(self) -> float:
        """Seconds since it was written last."""
        return max(0.0, time.time() - self.changed)


def list_runs(*roots: Path) -> list[Listed]:
    """The runs under some folders, the most recently written first, each once.

    Raises:
        RunError: there is no such folder.
    """
    found: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise RunError(
                f"There is no folder {root}; check the path, or make a run with `iqlft pretrain`."
            )
        for folder in run_folders(root):
            found.setdefault(folder.resolve(), folder)
    return sorted(map(_listed, found.values()), key=lambda run: -run.changed)


def _listed(folder: Path) -> Listed:
    """A run, whatever state it is in."""
    stats = file_stats(folder)
    try:
        meta = read_meta(folder)
    except RunError:
        meta = {"status": "damaged"}
    try:
        last = read_run(folder).rows[-1]
    except RunError:
        last = None
    updates, env_steps = progress(folder)
    return Listed(
        folder,
        str(meta.get("task", "")),
        status_of(folder, meta),
        max(updates, last.updates if last else 0),
        max(env_steps, last.env_steps if last else 0),
        last,
        sum(each.st_size for each in stats),
        max((each.st_mtime for each in stats), default=0.0),
    )


def progress(folder: Path) -> tuple[int, int]:
    """Updates and environment steps by the last whole row of metrics and the last checkpoint."""
    updates, env_steps = 0, 0
    for tell in (_last_row, _last_state):
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            told = json.loads(tell(folder))
            updates = max(updates, int(told["updates"]))
            env_steps = max(env_steps, int(told["env_steps"]))
    return updates, env_steps


def _last_row(folder: Path) -> bytes:
    # The last line may be one that is being written.
    return (folder / METRICS).read_bytes().split(b"\n")[-2]


def _last_state(folder: Path) -> bytes:
    checkpoints = folder / "checkpoints"
    name = (checkpoints / "last").read_text(encoding="utf-8").strip()
    return (checkpoints / name / "state.json").read_bytes()
