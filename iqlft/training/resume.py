"""`iqlft resume`: interrupted runs go on from their last checkpoint, in the phase they were in."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from iqlft.config.layers import config_fields, override
from iqlft.config.settings import MachineConfig
from iqlft.config.validation import check
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft.runs.pretrained import finetuning_command
from iqlft.runs.recorded import settle
from iqlft.training.finetune import resume_finetuning
from iqlft.training.parallel import Job, Parallel
from iqlft.training.pretrain import resume_pretraining
from iqlft.training.progress import Silent
from iqlft.training.seeds import apportion, at_once, stacked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from iqlft.training.progress import Reporter


def resume(
    *folders: Path,
    reporter: Reporter | None = None,
    accept_loss: bool = False,
    edited: bool = False,
    **changes: Any,  # noqa: ANN401
) -> None:
    """Continues runs; several as they began, in one stack or each in its own process.

    Args:
        folders: the run folders; those of a stack differ only in their seeds.
        reporter: receives status and events.
        accept_loss: whether to go on without the damaged parts of a journal of new transitions.
        edited: whether to take a `config.yaml` as it is, even if the checkpoint holds another.
        changes: settings that differ from before: device, threads, stack, workers, port.

    Raises:
        ConfigError: a changed setting makes no sense, or the runs differ.
        RunError: there is no run, one is named twice, nothing is left to do, or config.yaml is not
            the one that the checkpoint was written with.
        CheckpointError: there is no checkpoint, or it is damaged.
        JournalError: a journal is damaged, and the loss is not accepted.
        RunsFailedError: runs in their own processes have failed.
        Interrupted: stopped by a signal; the runs can be resumed.
    """
    if not folders:
        raise RunError("Name the runs to resume: `iqlft resume RUN...`; `iqlft list` shows them.")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise RunError("A run is named twice; name each once.")
    runs, reporter = [Run.open(folder) for folder in folders], reporter or Silent()
    for run in runs:
        if not (run.folder / "config.yaml").exists():
            settle(run, reporter.event)  # Restores it, also for a finished run.
        _require_unfinished(run)
        settle(run, reporter.event, edited=edited)
    machines = [_machine(run, changes) for run in runs]
    if not any(stacked(each, len(runs)) for each in machines):
        together = at_once(machines[0], len(runs))
        how = changes | {"accept_loss": accept_loss, "edited": edited}
        jobs = [
            Job(run.folder, "resume", apportion(how, index, together))
            for index, run in enumerate(runs)
        ]
        Parallel(jobs, together, reporter).run()
        return
    online = {run.fine_tuned for run in runs}
    if len(online) > 1:
        raise RunError(
            "Some of these runs are being fine-tuned and others are not; resume them separately."
        )
    with ExitStack() as opened:
        for run in runs:
            # Before a checkpoint is read, from which another process could have gone on meanwhile.
            opened.callback(run.close)
            run.claim()
            _require_unfinished(run)
        if online == {True}:
            resume_finetuning(runs, reporter, accept_loss=accept_loss, **changes)
        else:
            resume_pretraining(runs, reporter, **changes)


def _machine(run: Run, changes: Mapping[str, Any]) -> MachineConfig:
    """A run's machine settings, changed; runs from before `stack` was a setting were stacked."""
    values = {"stack": "always"} | run.latest_settings | {**changes}
    own = {key: each for key, each in values.items() if key in config_fields(MachineConfig)}
    config = override(MachineConfig(), own, "resume")
    check(config)
    return config


def _require_unfinished(run: Run) -> None:
    if not run.finished:
        return
    hint = "there is no more to do"
    if not run.fine_tuned:
        hint = f"fine-tune it with `{finetuning_command([run.folder])}`"
    raise RunError(f"The run {run.folder} is finished; {hint}.")
