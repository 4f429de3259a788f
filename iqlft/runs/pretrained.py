"""The checkpoints of a run's pretraining, from which it learns on."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from iqlft.runs import checkpoint
from iqlft.runs.errors import RunError, command
from iqlft.runs.folder import ONLINE_SETTINGS, pretrain_config
from iqlft.runs.recorded import require_recorded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.runs.folder import Run


def finetuning_command(folders: Sequence[Path]) -> str:
    """The command that fine-tunes pretrained runs, by the settings that their folders hold."""
    settings = folders[0] / ONLINE_SETTINGS
    known = all((each / ONLINE_SETTINGS).is_file() for each in folders)
    return shlex.join(
        ["iqlft", "finetune", *map(str, folders), *(["--config", str(settings)] if known else [])]
    )


def end_of_pretraining(run: Run) -> str:
    """Name of the checkpoint at which a run's pretraining ended.

    Raises:
        RunError: pretraining is not finished.
    """
    total = pretrain_config(run).num_updates
    if name := _after(run, total):
        return name
    folder = run.folder / "checkpoints"
    if any(updates > total for updates in map(checkpoint.updates_of, checkpoint.names(folder))):
        raise RunError(
            f"The checkpoint at the end of pretraining, after {total:,} updates, is missing in "
            f"{folder}; restore it from a copy."
        )
    raise RunError(
        f"The pretraining of {run.folder} has not reached its {total:,} updates; finish it with "
        f"{command('resume', run.folder)}."
    )


def pretrained_for(run: Run, updates: int) -> str:
    """Name of the checkpoint of a run's pretraining after `updates` updates.

    Raises:
        RunError: there is none.
    """
    if name := _after(run, updates):
        return name
    written = _of_pretraining(run, checkpoint.names(run.folder / "checkpoints"))
    there = [f"{each:,}" for each in sorted({*map(checkpoint.updates_of, written)} - {0})]
    raise RunError(
        f"{run.folder} has no checkpoint of its pretraining after {updates:,} updates; there are "
        f"those after {', '.join(there) or 'none'} (--keep-every N keeps more)."
    )


def load_pretrained(run: Run, name: str) -> Checkpoint:
    """A checkpoint of a run's pretraining, if `config.yaml` is still what it was written with.

    Raises:
        CheckpointError: it cannot be read, or is damaged.
        RunError: `config.yaml` has changed since.
    """
    saved = checkpoint.load(run.folder / "checkpoints", name)
    advice = "Put these values back; other ones need another pretraining."
    require_recorded(run, name, saved.state, advice)
    return saved


def _after(run: Run, updates: int) -> str:
    """The last checkpoint of pretraining after `updates` updates; empty if there is none."""
    names = checkpoint.names_at(run.folder / "checkpoints", updates)
    return next(reversed(_of_pretraining(run, names)), "")


def _of_pretraining(run: Run, names: Sequence[str]) -> list[str]:
    """The checkpoints among `names` that the run's pretraining has written."""
    folder = run.folder / "checkpoints"
    return [name for name in names if checkpoint.read_state(folder, name)["phase"] == "offline"]
