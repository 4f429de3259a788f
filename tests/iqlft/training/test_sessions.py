"""A session leaves no process and no open log behind, whatever fails while it opens or closes."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from iqlft.config.settings import PretrainConfig
from iqlft.gateway.gateway import Gateway
from iqlft.runs.folder import Run
from iqlft.training.pretrain import pretrain
from iqlft_workers.launchers.local import WorkerPool


@pytest.mark.usefixtures("corner")
def test_workers_end_also_where_the_gateway_cannot_be_closed(
    pretraining: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start, close = WorkerPool.start, Gateway.close

    def starting(pool: WorkerPool) -> None:
        start(pool)
        started.extend(pool.process_ids)

    def closing(gateway: Gateway, *, over: bool = True) -> None:
        close(gateway, over=over)
        raise OSError("the journal is gone")

    monkeypatch.setattr(WorkerPool, "start", starting)
    monkeypatch.setattr(Gateway, "close", closing)
    with pytest.raises(OSError, match="the journal is gone"):
        pretrain(dataclasses.replace(pretraining, runs=tmp_path, num_updates=1))
    assert len(started) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


@pytest.mark.usefixtures("corner")
def test_the_log_is_closed_also_where_the_session_cannot_begin(
    pretraining: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_meta, before = Run.write_meta, list(logging.getLogger("iqlft").handlers)

    def writing(run: Run, changes: Mapping[str, Any]) -> None:
        if changes.get("status") == "running":
            raise OSError("the disk is gone")
        write_meta(run, changes)

    monkeypatch.setattr(Run, "write_meta", writing)
    with pytest.raises(OSError, match="the disk is gone"):
        pretrain(dataclasses.replace(pretraining, runs=tmp_path))
    assert logging.getLogger("iqlft").handlers == before
    [folder] = (tmp_path / pretraining.task).iterdir()
    assert Run.open(folder).meta["status"] == "failed"
