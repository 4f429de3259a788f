"""A worker looks for its learner, says so, and gives up in the end."""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iqlft_workers import discovery, worker
from iqlft_workers.discovery import Address, Discovery, LearnerLostError
from iqlft_workers.errors import LOST
from iqlft_workers.keys import WorkerKeys, temporary_keys

HERE, THERE = Address("tcp://127.0.0.1:5555"), Address("tcp://127.0.0.1:6666")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setattr(discovery, "ASK_SECONDS", 0.01)
    with caplog.at_level(logging.INFO):
        yield


def ago(seconds: float) -> float:
    return time.monotonic() - seconds


def test_a_learner_that_comes_later_is_found(caplog: pytest.LogCaptureFixture) -> None:
    addresses = iter([None, None, HERE])
    assert Discovery(lambda: next(addresses)).wait_for_address(lambda: True) == HERE
    assert caplog.messages == [f"Looking for the learner at {HERE.endpoint}."]


def test_a_worker_that_is_not_wanted_looks_no_longer() -> None:
    wanted = iter([True, True, False])
    assert Discovery(lambda: None).wait_for_address(lambda: next(wanted)) is None


def test_a_silence_is_reported_once_and_the_next_one_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    learner = Discovery(lambda: HERE)
    assert learner.moved_address(HERE, ago(5)) is None
    assert caplog.messages == []
    for silent_since in (ago(30), ago(20)):
        for _ in range(3):
            assert learner.moved_address(HERE, silent_since) is None
    report = f"No learner answers at {HERE.endpoint}; looking on for 60 minutes."
    assert caplog.messages == [report, report]


def test_a_learner_that_has_moved_is_found_and_named(caplog: pytest.LogCaptureFixture) -> None:
    assert Discovery(lambda: THERE).moved_address(HERE, ago(4)) == THERE
    assert caplog.messages == [f"The learner is at {THERE.endpoint} now."]


def test_nobody_looks_for_longer_than_an_hour() -> None:
    with pytest.raises(LearnerLostError, match="away for 60 minutes; start the worker again"):
        Discovery(lambda: HERE).moved_address(HERE, ago(3601))


def test_a_worker_that_lost_its_learner_leaves_as_one_to_be_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A pool gives up on exit code 2 alone; launchers on other machines do on this one, too.
    monkeypatch.setattr(discovery, "AWAY_SECONDS", 0.1)
    monkeypatch.setattr(worker, "_leave_on_signals", lambda **_: [])
    assert worker.main(["--connect", str(tmp_path / "endpoint")]) == LOST
    assert "start the worker again" in capsys.readouterr().err


def test_an_endpoint_file_is_found_from_another_working_directory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery.write_endpoint(tmp_path / "endpoint", HERE.endpoint, None)
    monkeypatch.chdir(tmp_path)
    address = worker._address("endpoint", None, None)
    monkeypatch.chdir("/")
    assert address() == HERE


@pytest.mark.parametrize("name", ["a b", "ü", "two\nlines"])
def test_keys_are_found_whatever_their_folder_is_called_until_they_go_in_one_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place, file = tmp_path / name, tmp_path / "endpoint"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    found: list[Address | None] = []
    clean_up = tempfile.TemporaryDirectory.cleanup

    def cleanup(made: tempfile.TemporaryDirectory[str]) -> None:
        for each in (place / made.name).rglob("learner.public"):
            each.unlink()  # The first of many that are removed one by one.
        found.append(discovery.read_endpoint(file, None, None))
        clean_up(made)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", cleanup)
    with temporary_keys(1) as keys:
        discovery.write_endpoint(file, HERE.endpoint, keys.folder)
        address = discovery.read_endpoint(file, None, None)
        assert address == Address(HERE.endpoint, WorkerKeys.load(keys.folder))
    assert found == [None]
    assert list(place.iterdir()) == []
