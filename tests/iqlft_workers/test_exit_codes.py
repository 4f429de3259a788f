"""A worker's exit code tells whoever started it whether to start it again."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from iqlft_workers import worker
from iqlft_workers.client import Client, KeyRefusedError
from iqlft_workers.discovery import Discovery, LearnerLostError, RunFinishedError
from iqlft_workers.errors import FAILED, HUNG, LOST, REJECTED, SENTENCE, UNFIT, UserError
from iqlft_workers.failures import EnvironmentFailedError
from iqlft_workers.launchers.local import ClusterError
from iqlft_workers.loop import RejectedError, Worker
from iqlft_workers.messages import Reject, RejectCode
from iqlft_workers.session import WorkerSession

REJECTIONS = {code: (REJECTED, UNFIT) for code in RejectCode if code != RejectCode.LATER} | {
    RejectCode.VERSION: (UNFIT, UNFIT),
    RejectCode.ENVIRONMENT: (UNFIT, UNFIT),
    RejectCode.BATCH: (FAILED, UNFIT),
    RejectCode.EVALUATION: (FAILED, UNFIT),
    RejectCode.STUCK: (HUNG, HUNG),
}
"""Exit codes under a launcher and by hand, by the code of the REJECT."""
ERRORS = [
    (RejectedError("No."), (UNFIT, UNFIT)),
    (KeyRefusedError("No."), (UNFIT, UNFIT)),
    (LearnerLostError("No."), (LOST, LOST)),
    (EnvironmentFailedError("No."), (FAILED, UNFIT)),
    (ClusterError("No."), (REJECTED, UNFIT)),
    *((RejectedError("No.", code), codes) for code, codes in REJECTIONS.items()),
]
"""The same by the error."""

Abandon = Callable[..., int]


class ExitedError(Exception):
    """In place of the end of the process."""


@pytest.fixture
def abandon(monkeypatch: pytest.MonkeyPatch) -> Abandon:
    """Has a worker end though a call of its environment lasts, and returns its exit code."""

    def leave(code: int) -> NoReturn:
        raise ExitedError(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)

    def abandoned(session: WorkerSession, error: Exception | None, *, launched: bool) -> int:
        client = Client("tcp://127.0.0.1:9")
        discovery = Discovery(lambda: None)
        with (
            Worker(client, session, lambda: True, discovery, launched=launched) as one,
            pytest.raises(ExitedError) as exited,
        ):
            one._abandon(error)
        return int(exited.value.args[0])

    return abandoned


@pytest.mark.parametrize(("error", "codes"), ERRORS)
def test_an_error_has_an_exit_code_under_a_launcher_and_one_by_hand(
    error: UserError,
    codes: tuple[int, int],
    abandon: Abandon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def work(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(worker, "work", work)
    monkeypatch.setattr(worker, "_leave_on_signals", lambda **_: [])
    by_hand = ["--connect", str(tmp_path / "endpoint")]
    launched = [*by_hand, "--parent", str(os.getppid())]
    assert (worker.main(launched), worker.main(by_hand)) == codes
    # And where the heartbeat meets it, while the environment is busy for too long.
    found = [abandon(WorkerSession(None), error, launched=each) for each in (True, False)]
    assert tuple(found) == codes
    assert capsys.readouterr().err.count(f"{SENTENCE}No.\n") == 4


@pytest.mark.parametrize(("code", "codes"), REJECTIONS.items())
def test_a_rejected_worker_whose_environment_is_not_waited_for_has_the_same_exit_code(
    code: RejectCode,
    codes: tuple[int, int],
    abandon: Abandon,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = WorkerSession(None)
    session.receive(Reject(code, "No."), 0.0)
    assert tuple(abandon(session, None, launched=each) for each in (True, False)) == codes
    assert capsys.readouterr().err.count(f"{SENTENCE}No.\n") == 2


def test_a_worker_that_does_not_wait_for_its_environment_has_worked_to_the_end_or_comes_back(
    abandon: Abandon,
) -> None:
    session = WorkerSession(None)
    assert abandon(session, RunFinishedError(), launched=True) == 0
    assert abandon(session, OSError("a fault of the program"), launched=True) == 1
    session.outcome = "drained"
    assert abandon(session, None, launched=True) == 1
    session.outcome = "stopped"
    assert abandon(session, None, launched=True) == 0
