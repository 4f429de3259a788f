"""`iqlft resume`: an interrupted run goes on from its last checkpoint, in the phase it was in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqlft.finetune import resume_finetuning
from iqlft.pretrain import resume_pretraining
from iqlft.runs import Run, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.reporting import Reporter


def resume(folder: Path, reporter: Reporter | None = None, **changes: Any) -> Path:  # noqa: ANN401
    """Continues a run.

    Args:
        folder: the run folder.
        reporter: told what happens meanwhile.
        changes: settings that differ from before: device, threads, workers, port.

    Returns:
        The run folder.

    Raises:
        ConfigError: a changed setting makes no sense.
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
    if run.config("finetune") is not None:
        return resume_finetuning(run, reporter, **changes)
    return resume_pretraining(run, reporter, **changes)
