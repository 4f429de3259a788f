"""A disk that fills up stops what is being written, and nothing that was written before."""

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import synthetic_worker
import torch

from iqlft import checkpoint
from iqlft.checkpoint import Checkpoint, CheckpointError
from iqlft.gateway import Gateway
from iqlft.intake import RETRY_SECONDS
from iqlft.journal import Journal
from workers.actor import ActorWeights
from workers.environment import EnvironmentSpec
from workers.pool import WorkerPool
from workers.transition import concatenate

MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]
WRITES = (
    (safetensors.torch, "save_file"), (Path, "mkdir"), (Path, "write_text"), (os, "fsync"),
    (Path, "rename"), (Path, "replace"),
)  # fmt: skip
"""All that a checkpoint asks of the disk."""
COUNTING = EnvironmentSpec(synthetic_worker.ID, {"observation_dim": 4, "action_dim": 1})


def content(number: int) -> Checkpoint:
    return Checkpoint({"number": torch.tensor(number)}, {"updates": number})


@contextlib.contextmanager
def full_at(call: int, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The disk is full at one of the calls that write, sync or rename; yields their names."""
    calls: list[str] = []

    def failing(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
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
    with full_at(0, monkeypatch) as calls:
        checkpoint.save(tmp_path, 20, content(20))
    # Both files, the manifest, the folder's entries and the name in `last` are synced.
    assert calls.count("fsync") == 5
    for call in range(1, len(calls) + 1):
        folder = tmp_path / str(call)
        checkpoint.save(folder, 10, content(10))
        with (
            full_at(call, monkeypatch),
            pytest.raises(CheckpointError, match=r"No space left on device.*previous one is"),
        ):
            checkpoint.save(folder, 20, content(20))
        assert checkpoint.load(folder).tensors["number"] == 10, calls[call - 1]
        assert not list(folder.glob(".*.tmp/")), calls[call - 1]
        saved = checkpoint.save(folder, 20, content(20))
        assert checkpoint.load(folder, saved.name).tensors["number"] == 20
        assert (folder / "last").read_text() == saved.name


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The kernel refuses this process to write beyond; a write across it is cut short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("room", "reason"), [(0, os.strerror(errno.EFBIG)), (100, "only a part was written")]
)
def test_while_the_journal_cannot_be_written_the_workers_wait_and_then_go_on_without_loss(
    room: int,
    reason: str,
    serve: Serve,
    make_weights: MakeWeights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(synthetic_worker.__file__).parent))
    journal = Journal(tmp_path / "journal")
    gateway, pool = serve(1, environment=COUNTING, journal=journal)
    gateway.publish(make_weights(4, 1))
    gateway.allow(100)
    assert gateway.wait_for(lambda: accepted(gateway) == 100, 20)
    taken = gateway.receive(0.0)

    with no_file_longer_than(journal.length + room):
        gateway.allow(1000)
        assert gateway.wait_for(lambda: gateway.obstacle() == reason, 20)
        time.sleep(1.5 * RETRY_SECONDS)
        assert gateway.obstacle() == reason
        assert gateway.receive(0.0) == []
        assert accepted(gateway) == 100
    assert gateway.wait_for(lambda: accepted(gateway) == 1000, 20)
    assert gateway.obstacle() == ""
    assert pool.watch() == []

    taken += gateway.receive(0.0)
    ((_, indices),) = synthetic_worker.indices_by_session(concatenate(taken)).items()
    np.testing.assert_array_equal(indices, np.arange(1000))
    sequences = [entry.batch.sequence for entry in journal.entries()]
    assert sequences == list(range(1, len(sequences) + 1))


def accepted(gateway: Gateway) -> int:
    """Environment steps that the workers are known to have taken."""
    return sum(worker.env_steps for worker in gateway.worker_status())
