"""Signals that ask to stop: which of them, how often, and what stays ignored."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.runs import checkpoint
from iqlft.runs.folder import Run
from iqlft.training.interruption import IMPATIENT, STOPPING, StopSignal
from run_fixtures import Start
from waiting import wait_until

PATIENT = [each for each in STOPPING if each not in IMPATIENT]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    # As in a terminal: under `nohup`, or in the background of a script, some are ignored.
    usual = dict.fromkeys(STOPPING, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {each: signal.signal(each, handler) for each, handler in usual.items()}
    yield
    after = {each: signal.signal(each, handler) for each, handler in before.items()}
    assert after == usual


def test_a_stop_can_be_asked_for_by_a_user_a_terminal_and_a_scheduler() -> None:
    expected = {"SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"}
    assert {each.name for each in STOPPING} == expected


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    stop = StopSignal()
    with stop.listening():
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested


@pytest.mark.parametrize("number", PATIENT)
def test_a_signal_that_is_sent_twice_by_a_terminal_or_a_scheduler_asks_no_more(
    number: signal.Signals,
) -> None:
    stop = StopSignal()
    with stop.listening():
        for each in (number, number, signal.SIGTERM, number):
            os.kill(os.getpid(), each)
        assert stop.requested


@pytest.mark.parametrize("number", IMPATIENT)
def test_a_second_interrupt_stops_at_once(number: signal.Signals) -> None:
    with StopSignal().listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopSignal()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_under_nohup_outlives_its_terminal_and_leaves_its_time_in_order(
    pretraining: PretrainConfig, start: Start, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does, for what it starts.
    try:
        process = start("pretrain", pretraining)
    finally:
        signal.signal(signal.SIGHUP, before)
    folder = tmp_path / "runs" / "antmaze-corner" / "iql-s0"
    wait_until((folder / "checkpoints" / "last").exists)
    process.send_signal(signal.SIGHUP)
    first = updates(folder)
    wait_until(lambda: updates(folder) > first)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"Interrupted; continue with `iqlft resume {folder.relative_to(tmp_path)}`.\n"
    assert Run.open(folder).meta["status"] == "interrupted"


def test_a_command_that_is_ended_before_it_trains_leaves_no_keys_behind(
    fresh: Path,
    lockstep: FinetuneConfig,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    process = start("finetune", lockstep, str(fresh))
    wait_until(lambda: any(place.iterdir()))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(place.iterdir()) == []


def updates(folder: Path) -> int:
    return int(checkpoint.load(folder / "checkpoints").state["updates"])
