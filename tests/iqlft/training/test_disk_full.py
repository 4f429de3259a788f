"""A disk that fills up stops what is being written, and nothing that was written before."""

import contextlib
import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import synthetic_worker
from iqlft.cli import main as cli
from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.ingestion import RETRY_SECONDS
from iqlft.gateway.journal import Journal, JournalError
from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import Checkpoint, CheckpointError
from iqlft.runs.folder import Run
from iqlft.training import oversight
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool
from scarcity import no_file_longer_than
from transitions import concatenate

OFFLINE = 300
MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]
WRITES = (
    (safetensors.torch, "save_file"), (safetensors.numpy, "save_file"), (Path, "mkdir"),
    (Path, "write_text"), (os, "pwrite"), (os, "truncate"), (os, "fsync"), (Path, "rename"),
    (Path, "replace"),
)  # fmt: skip
"""All that a run asks of the disk, but for rows at the end of a file."""
COUNTING = EnvironmentSpec(synthetic_worker.ID, {"observation_dim": 4, "action_dim": 1})


def content(number: int) -> Checkpoint:
    return Checkpoint({"number": torch.tensor(number)}, {"updates": number, "phase": "offline"})


@contextlib.contextmanager
def full_at(call: int, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The disk is full at one of the calls that write, sync or rename there; yields their names."""
    calls: list[str] = []

    def is_there(argument: object) -> bool:
        in_folder = isinstance(argument, Path) and folder in argument.parents
        return in_folder or isinstance(argument, int)  # An open file.

    def failing(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            if any(map(is_there, arguments)):
                calls.append(name)
                if len(calls) == call:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **options)

        return function

    with patch.context() as context:
        for owner, name in WRITES:
            context.setattr(owner, name, failing(name, getattr(owner, name)))
        yield calls


def test_at_whatever_call_the_disk_fills_up_the_last_checkpoint_loads_and_the_next_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 10, content(10))
    with full_at(0, tmp_path, monkeypatch) as calls:
        checkpoint.save(tmp_path, 20, content(20))
    # Both files, the manifest, the folder's entries and the name in `last` are synced.
    assert calls.count("fsync") == 5
    for call in range(1, len(calls) + 1):
        folder = tmp_path / str(call)
        checkpoint.save(folder, 10, content(10))
        with (
            full_at(call, folder, monkeypatch),
            pytest.raises(CheckpointError, match=r"No space left on device.*previous one is"),
        ):
            checkpoint.save(folder, 20, content(20))
        assert checkpoint.load(folder).tensors["number"] == 10, calls[call - 1]
        assert not list(folder.glob(".*.tmp/")), calls[call - 1]
        saved = checkpoint.save(folder, 20, content(20))
        assert checkpoint.load(folder, saved.name).tensors["number"] == 20
        assert (folder / "last").read_text() == saved.name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_at_whatever_call_of_a_run_the_disk_fills_up_it_says_so_and_the_run_can_be_finished(
    pretrained: Path,
    corner: str,
    lockstep: FinetuneConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert corner
    file = tmp_path / "finetune.yaml"
    short = dataclasses.replace(lockstep, env_steps=4, eval_every=4, checkpoint_every=2)
    file.write_text(to_yaml(short))

    def finetune(folder: Path) -> int:
        begun = Run.open(folder).fine_tuned
        arguments = ["resume"] if begun else ["finetune", "--config", str(file)]
        return cli.main([*arguments, str(folder)])

    def finetune_until_full_at(call: int) -> tuple[Path, list[str], int]:
        folder = Path(shutil.copytree(pretrained, tmp_path / str(call) / "iql-s0"))
        with full_at(call, folder, monkeypatch) as calls:
            code = finetune(folder)
        return folder, calls, code

    _, undisturbed, code = finetune_until_full_at(0)
    assert code == 0
    for call in range(1, len(undisturbed) + 1):
        folder, calls, code = finetune_until_full_at(call)
        errors = capsys.readouterr().err
        # A batch that cannot be written to the journal now is written later.
        assert code == 0 or (code == 2 and os.strerror(errno.ENOSPC) in errors), calls[-1]
        checkpoint.load(folder / "checkpoints")
        run = Run.open(folder)
        if not (run.fine_tuned and run.finished):
            assert finetune(folder) == 0
        state = checkpoint.load(folder / "checkpoints").state
        assert (state["env_steps"], state["updates"]) == (4, OFFLINE + 2)


@pytest.mark.parametrize("name", ["episodes.csv", "curves.csv", "metrics.jsonl"])
def test_rows_for_which_there_is_no_room_end_the_run_in_a_sentence_and_it_can_be_finished(
    name: str,
    pretrained: Path,
    corner: str,
    lockstep: FinetuneConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert corner
    config = tmp_path / "finetune.yaml"
    short = dataclasses.replace(lockstep, env_steps=320, eval_every=320, checkpoint_every=100)
    config.write_text(to_yaml(short))
    folder = Path(shutil.copytree(pretrained, tmp_path / "iql-s0"))
    opened = Path.open

    def open_full(path: Path, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        full = path == folder / name and arguments == ("ab",)
        return opened(Path("/dev/full") if full else path, *arguments, **options)

    with monkeypatch.context() as context:
        context.setattr(Path, "open", open_full)
        assert cli.main(["finetune", "--config", str(config), str(folder)]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert os.strerror(errno.ENOSPC) in sentence
    assert name in sentence

    assert cli.main(["resume", str(folder)]) == 0
    state = checkpoint.load(folder / "checkpoints").state
    assert (state["env_steps"], state["updates"]) == (320, OFFLINE + 160)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("room", "reason"), [(0, os.strerror(errno.EFBIG)), (100, "only a part was written")]
)
def test_while_the_journal_cannot_be_written_the_workers_wait_and_then_go_on_without_loss(
    room: int,
    reason: str,
    serve: Serve,
    make_weights: MakeWeights,
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "journal")
    gateway, pool = serve(1, environment=COUNTING, journal=journal)
    gateway.publish(make_weights(4, 1))
    gateway.allow(100)
    assert gateway.wait_for(lambda: accepted(gateway) == 100, 20)
    taken = gateway.receive(0.0)

    with no_file_longer_than(journal.length + room):
        gateway.allow(1000)
        assert gateway.wait_for(lambda: gateway.journal_error() == reason, 20)
        time.sleep(1.5 * RETRY_SECONDS)
        assert gateway.journal_error() == reason
        assert gateway.receive(0.0) == []
        assert accepted(gateway) == 100
    assert gateway.wait_for(lambda: accepted(gateway) == 1000, 20)
    assert gateway.journal_error() == ""
    assert pool.watch() == []

    taken += gateway.receive(0.0)
    ((_, indices),) = synthetic_worker.indices_by_session(concatenate(taken)).items()
    np.testing.assert_array_equal(indices, np.arange(1000))
    sequences = [entry.batch.sequence for entry in journal.entries()]
    assert sequences == list(range(1, len(sequences) + 1))


@pytest.mark.usefixtures("importable")
def test_a_journal_that_is_waited_for_too_long_ends_the_run(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oversight, "JOURNAL_SECONDS", 0.3)
    journal = Journal(tmp_path / "journal")
    gateway, pool = serve(1, environment=COUNTING, journal=journal)
    watching = oversight.Oversight(gateway, pool, tmp_path)
    gateway.publish(make_weights(4, 1))
    with no_file_longer_than(0):
        gateway.allow(100)
        assert gateway.wait_for(lambda: gateway.journal_error() != "", 20)
        assert "the workers wait" in " ".join(watching.incidents([]))
        assert list(watching.incidents([])) == []
        time.sleep(0.4)
        with pytest.raises(JournalError, match=r"not be written for .* continue with `iqlft resum"):
            list(watching.incidents([]))


def accepted(gateway: Gateway) -> int:
    """Environment steps that the workers are known to have taken."""
    return sum(worker.env_steps for worker in gateway.worker_status())
