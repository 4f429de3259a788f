"""`iqlft clean`: removes from a run what only resuming needs, or bad batches from its journal.

Every step leaves a run that can be read and cleaned again: what is new is renamed into place before
what it replaces is removed.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from iqlft.analysis.survey import maze_task, write_survey
from iqlft.config.settings import ConfigError
from iqlft.gateway.journal import drop_batches, read_entries
from iqlft.runs import checkpoint
from iqlft.runs.errors import RunError, command
from iqlft.runs.folder import ENDPOINT, JOURNAL, Run
from iqlft.runs.policy import load_policy
from iqlft.runs.pretrained import end_of_pretraining
from iqlft.training.new_transitions import SURVEY, survey_new
from iqlft_workers.discovery import write_finished
from iqlft_workers.files import TEMPORARY, file_stats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iqlft.gateway.records import BatchName

REST = "left by a crash"
"""What the report calls temporary files and folders."""


def clean(run: Run, *, dry_run: bool = False) -> dict[str, int]:
    """Removes what only resuming needs.

    The checkpoint at the end of pretraining stays whole, so that it can be fine-tuned. The last one
    keeps its networks, a survey replaces the journal, and all that is shown of a run stays.

    Args:
        run: a finished run.
        dry_run: whether only to say what would be removed.

    Returns:
        Bytes that are freed, by what they were.

    Raises:
        RunError: the run is not finished, another process trains in it, or it cannot be written.
        CheckpointError: a checkpoint that stays is damaged.
    """
    require_finished(run)
    if dry_run:
        _require_whole(run)
        return _removable(run)
    run.claim()
    try:
        require_finished(run)  # Another process may have begun since the first check.
        _require_whole(run)
        before = _removable(run)
        _remove(run)
        after = _removable(run)
        return {name: size - after.get(name, 0) for name, size in before.items()}
    except OSError as error:
        raise RunError(
            f"{run.folder} cannot be cleaned ({error}); it is still whole enough to be read: free "
            "some space or mend the permissions, then repeat the command."
        ) from error
    finally:
        run.close()


def drop(run: Run, names: Sequence[str], *, dry_run: bool = False) -> list[BatchName]:
    """Removes batches from a run's journal atomically; a resumed run goes on without them.

    Args:
        run: a run in which no process trains.
        names: `WORKER:EPISODE:BATCH`, or `WORKER:EPISODE` or `WORKER` for all of their batches.
        dry_run: whether only to say which batches they are.

    Returns:
        The names of the batches.

    Raises:
        ConfigError: a name is malformed.
        RunError: there is no such batch, another process trains in the run, or its journal cannot
            be written and stays as it was.
    """
    wanted = [_name(each) for each in names]
    journal = run.folder / JOURNAL
    run.claim()
    try:
        if not journal.is_file():
            raise RunError(f"{run.folder} has no journal of new transitions (any more).")
        _require_batches(journal, wanted)
        return drop_batches(journal, lambda name: _is_among(name, wanted), dry_run=dry_run)
    except OSError as error:
        raise RunError(
            f"{journal} cannot be written ({error}) and is as before: free as much space as it "
            "takes once more, or mend the permissions, then repeat the command."
        ) from error
    finally:
        run.close()


def _name(text: str) -> tuple[int, ...]:
    parts = text.split(":")
    if len(parts) > 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError(
            f"{text!r} does not name a batch; say WORKER:EPISODE:BATCH, or WORKER:EPISODE or "
            "WORKER for all batches of these, in numbers."
        )
    return tuple(map(int, parts))


def _is_among(name: BatchName, wanted: Sequence[tuple[int, ...]]) -> bool:
    found = (name.worker_id, name.episode, name.sequence)
    return any(found[: len(each)] == each for each in wanted)


def _require_batches(journal: Path, wanted: Sequence[tuple[int, ...]]) -> None:
    """Raises `RunError` if a name matches no batch."""
    there = [each.name for each in read_entries(journal)]
    for each in wanted:
        if not any(_is_among(name, [each]) for name in there):
            raise RunError(
                f"There is no batch {':'.join(map(str, each))} in {journal}, so none is dropped; "
                "say WORKER:EPISODE:BATCH as the message says that named it."
            )


def require_finished(run: Run) -> None:
    """Raises `RunError` if a run is not finished."""
    if not run.finished:
        raise RunError(
            f"{run.folder} is not finished (its status is {run.meta.get('status')}), and what "
            "would be removed is what it goes on with; finish it with "
            f"{command('resume', run.folder)} first."
        )


def _removable(run: Run) -> dict[str, int]:
    """Bytes that could be removed, by name; names without any are left out."""
    checkpoints, folder = run.folder / "checkpoints", run.folder
    surplus = [checkpoints / name for name in _surplus(run)]
    parts = {
        "journal": _size(folder / JOURNAL),
        "checkpoints": sum(map(_size, surplus)),
        "optimiser": _optimizer_bytes(run),
        REST: sum(map(_size, _temporary(folder))),
    }
    return {name: size for name, size in parts.items() if size}


def _remove(run: Run) -> None:
    folder, checkpoints = run.folder, run.folder / "checkpoints"
    for path in _temporary(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if (folder / JOURNAL).is_file():
        policy = load_policy(folder)
        found = survey_new(folder, policy, maze_task(policy.environment))
        if found is not None:
            write_survey(folder / SURVEY, found)
        (folder / JOURNAL).unlink()
    if (folder / ENDPOINT).exists():
        write_finished(folder / ENDPOINT)  # For workers that come late.
    if _optimizer_bytes(run):
        saved = checkpoint.networks_alone(checkpoint.load(checkpoints))
        checkpoint.save(checkpoints, saved.state["updates"], saved, keep=True)
    for name in _surplus(run):
        shutil.rmtree(checkpoints / name)


def _kept(run: Run) -> tuple[str, ...]:
    """The checkpoints that stay: the end of pretraining and the last one, which may be the same."""
    folder = run.folder / "checkpoints"
    if not checkpoint.names(folder):
        return ()  # Only the results of this run were kept.
    return end_of_pretraining(run), checkpoint.last(folder)


def _require_whole(run: Run) -> None:
    """Raises `CheckpointError` if a checkpoint that stays is damaged: others may be whole."""
    for name in set(_kept(run)):
        checkpoint.require_whole(run.folder / "checkpoints", name)


def _surplus(run: Run) -> set[str]:
    """The checkpoints that need not stay."""
    return set(checkpoint.names(run.folder / "checkpoints")) - set(_kept(run))


def _optimizer_bytes(run: Run) -> int:
    """Bytes of the last checkpoint beside networks; 0 if it is also the end of pretraining."""
    if len(set(_kept(run))) < 2:
        return 0
    saved = checkpoint.load(run.folder / "checkpoints")
    return _tensor_bytes(saved) - _tensor_bytes(checkpoint.networks_alone(saved))


def _tensor_bytes(content: checkpoint.Checkpoint) -> int:
    return sum(each.numel() * each.element_size() for each in content.tensors.values())


def _temporary(folder: Path) -> list[Path]:
    return [*folder.glob(TEMPORARY), *folder.glob(f"*/{TEMPORARY}")]


def _size(path: Path) -> int:
    return sum(each.st_size for each in file_stats(path))
