"""`iqlft resume`: an interrupted run goes on from its last checkpoint, in the phase it was in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft import checkpoint
from iqlft.finetune import resume_finetuning
from iqlft.pretrain import resume_pretraining
from iqlft.runs import Run, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.reporting import Reporter


def resume(folder: Path, reporter: Reporter | None = None) -> Path:
    """Continues a run.

    Raises:
        RunError: there is no run, or nothing is left to do.
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    run = Run.open(folder)
    if run.meta.get("status") == "finished":
        offline = run.config("finetune") is None
        hint = (
            f"fine-tune it with `iqlft finetune {folder}`" if offline else "there is no more to do"
        )
        raise RunError(f"The run {folder} is finished; {hint}.")
    checkpoint.load(folder / "checkpoints")
    if run.config("finetune") is not None:
        return resume_finetuning(run, reporter)
    return resume_pretraining(run, reporter)
