"""`iqlft clean`: removes from a run what only resuming needs, or bad batches from its journal.

Every step leaves a run that can be read and cleaned again: what is new is renamed into place before
what it replaces is removed.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

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
        return _surplus(run).sizes
    run.claim()
    try:
        require_finished(run)  # Another process may have begun since the first check.
        surplus = _surplus(run)
        _remove(run, surplus)
        return surplus.sizes
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


class _Surplus(NamedTuple):
    """What of a run only resuming needs, beside its journal.

    Attributes:
        temporary: files and folders that a crash has left.
        checkpoints: folders of the checkpoints that need not stay.
        networks: the last checkpoint without its optimisers; None where it stays as it is.
        sizes: bytes that are freed, by what they are; what takes none is left out.
    """

    temporary: list[Path]
    checkpoints: list[Path]
    networks: checkpoint.Checkpoint | None
    sizes: dict[str, int]


def _surplus(run: Run) -> _Surplus:
    """What can be removed from a run.

    The end of pretraining stays, and the last checkpoint, which may be the same.

    Raises:
        CheckpointError: a checkpoint that stays is damaged: those that would go may be whole.
    """
    folder = run.folder / "checkpoints"
    names, networks, optimizer_bytes = checkpoint.names(folder), None, 0
    if names:  # Else only the results of this run were kept.
        end, last = end_of_pretraining(run), checkpoint.last(folder)
        checkpoint.require_whole(folder, end)
        if last != end:
            saved = checkpoint.load(folder, last)
            networks = checkpoint.networks_alone(saved)
            optimizer_bytes = _tensor_bytes(saved) - _tensor_bytes(networks)
        names = [name for name in names if name not in {end, last}]
    checkpoints = [folder / name for name in names]
    temporary = [*run.folder.glob(TEMPORARY), *run.folder.glob(f"*/{TEMPORARY}")]
    sizes = {
        "journal": _size(run.folder / JOURNAL),
        "checkpoints": sum(map(_size, checkpoints)),
        "optimiser": optimizer_bytes,
        REST: sum(map(_size, temporary)),
    }
    sizes = {name: size for name, size in sizes.items() if size}
    return _Surplus(temporary, checkpoints, networks if optimizer_bytes else None, sizes)


def _remove(run: Run, surplus: _Surplus) -> None:
    folder, checkpoints = run.folder, run.folder / "checkpoints"
    for path in surplus.temporary:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if (folder / JOURNAL).is_file():
        policy = load_policy(folder)
        found = survey_new(folder, policy, maze_task(policy.environment))
        if found is not None:
            write_survey(folder / SURVEY, found)
        (folder / JOURNAL).unlink()
    if (folder / ENDPOINT).exists():
        write_finished(folder / ENDPOINT)  # For workers that come late.
    if surplus.networks is not None:
        replaced, updates = checkpoint.last(checkpoints), surplus.networks.state["updates"]
        checkpoint.save(checkpoints, updates, surplus.networks, keep=True)
        shutil.rmtree(checkpoints / replaced)
    for path in surplus.checkpoints:
        shutil.rmtree(path)


def _tensor_bytes(content: checkpoint.Checkpoint) -> int:
    return sum(each.numel() * each.element_size() for each in content.tensors.values())


def _size(path: Path) -> int:
    return sum(each.st_size for each in file_stats(path))
