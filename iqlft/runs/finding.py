"""Search for run folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft.config.errors import ConfigError
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft_workers.files import outermost

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.config.settings import FinetuneConfig


def run_folders(root: Path) -> list[Path]:
    """All run folders under a folder, or that folder itself; see `outermost`."""
    return list(outermost(root, lambda _, names: "meta.json" in names))


def chosen_runs(config: FinetuneConfig) -> tuple[Path, ...]:
    """Folders of the runs that a config names, or of the newest one that waits for fine-tuning.

    Raises:
        RunError: a folder holds no readable run, or no run waits.
        ConfigError: a run is of another task than the config's.
    """
    for folder in config.run:
        if config.task not in ("", task := Run.open(folder).meta["task"]):
            raise ConfigError(
                f"{folder} is of the task {task}, not of {config.task}; leave the task out where "
                "runs are named."
            )
    return config.run or (newest_pretrained(config.runs, config.task),)


def newest_pretrained(root: Path, task: str = "") -> Path:
    """The folder of the newest run under `root` that is pretrained and not fine-tuned yet.

    Runs that cannot be read are passed over.

    Args:
        root: holds `<task>/<run>/`.
        task: only runs of this task; empty: of any.

    Raises:
        RunError: there is none.
    """
    found = sorted(root.glob(f"{task or '*'}/*/meta.json"), key=lambda path: path.stat().st_mtime)
    ready = [path.parent for path in found if _is_only_pretrained(path.parent)]
    if not ready:
        raise RunError(
            f"There is no run under {root}/{task} that is pretrained and not fine-tuned yet; "
            "make one with `iqlft pretrain`, or name a run and a copy with --into."
        )
    return ready[-1]


def _is_only_pretrained(folder: Path) -> bool:
    """Whether a run is pretrained and not fine-tuned yet; False if it cannot be read."""
    if folder.name.startswith("."):
        return False
    run = Run(folder)
    try:
        return run.finished and not run.fine_tuned
    except RunError:
        return False
