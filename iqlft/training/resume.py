"""`iqlft resume`: interrupted runs go on from their last checkpoint, in the phase they were in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqlft.runs.folder import Run, RunError
from iqlft.training.finetune import resume_finetuning
from iqlft.training.pretrain import resume_pretraining

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.training.progress import Reporter


def resume(*folders: Path, reporter: Reporter | None = None, **changes: Any) -> None:  # noqa: ANN401
    """Continues runs, several in one stack.

    Args:
        folders: the run folders; they differ in their seeds alone.
        reporter: told what happens meanwhile.
        changes: settings that differ from before: device, threads, workers, port.

    Raises:
        ConfigError: a changed setting makes no sense, or the runs differ.
        RunError: there is no run, one is named twice, or nothing is left to do.
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    if not folders:
        raise RunError("Name the runs to resume: `iqlft resume RUN...`; `iqlft doctor` lists them.")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise RunError("A run is named twice; name each once.")
    runs = [Run.open(folder) for folder in folders]
    for run in runs:
        _require_unfinished(run)
    online = {run.config("finetune") is not None for run in runs}
    if len(online) > 1:
        raise RunError(
            "Some of these runs are being fine-tuned and others are not; resume them apart."
        )
    if online == {True}:
        resume_finetuning(runs, reporter, **changes)
    else:
        resume_pretraining(runs, reporter, **changes)


def _require_unfinished(run: Run) -> None:
    if run.meta.get("status") != "finished":
        return
    hint = "there is no more to do"
    if run.config("finetune") is None:
        hint = f"fine-tune it with `iqlft finetune {run.folder}`"
    raise RunError(f"The run {run.folder} is finished; {hint}.")
