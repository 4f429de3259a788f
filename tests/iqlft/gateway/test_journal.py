"""What is in the journal stays, and a record that was cut short never was."""

import errno
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from iqlft.gateway import journal as journals
from iqlft.gateway.journal import Journal, JournalError, read_entries, read_rows
from iqlft_workers import messages, wire
from iqlft_workers.transition import RowLayout
from iqlft_workers.wire import encode

LAYOUT = RowLayout(3, 2)
OLD_RUNS = Path(__file__).parents[2] / "old_runs" / "iqlft-0.1.tar.gz"
OLD_JOURNAL = "runs/antmaze-corner/online/replay/journal"


def batch(sequence: int, count: int = 4) -> messages.Batch:
    """Observations and rewards say which batch they are of."""
    return messages.Batch(
        session="session",
        sequence=sequence,
        episode=0,
        finished=None,
        stepping_seconds=0.25,
        observations=np.full((count, 3), sequence, np.float32),
        actions=np.zeros((count, 2), np.float32),
        rewards=np.arange(count, dtype=np.float32),
        next_observations=np.full((count, 3), sequence + 0.5, np.float32),
        terminated=np.zeros(count, np.bool_),
        truncated=np.ones(count, np.bool_),
        versions=np.full(count, 7, np.uint32),
    )


@contextmanager
def opened(path: Path, position: int = 0) -> Iterator[Journal]:
    journal = Journal(path, position)
    try:
        yield journal
    finally:
        journal.close()


def sequences(journal: Journal) -> list[int]:
    return [entry.batch.sequence for entry in journal.entries()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three batches."""
    with opened(tmp_path / "journal") as journal:
        ends = [journal.append(5, encode(batch(sequence))) for sequence in (1, 2, 3)]
        assert ends == [entry.end for entry in journal.entries()]
    return tmp_path / "journal"


def test_what_was_written_is_read_as_it_was(path: Path) -> None:
    with opened(path) as journal:
        first, second, _ = journal.entries()
        assert journal.length == path.stat().st_size
    assert (first.worker_id, first.batch.session, first.batch.stepping_seconds) == (
        5, "session", 0.25,
    )  # fmt: skip
    for name, kind in zip(second.batch.transitions._fields, batch(2).transitions, strict=True):
        read = getattr(second.batch, name)
        np.testing.assert_array_equal(read, kind)
        assert read.dtype == kind.dtype


def test_a_record_cut_short_anywhere_is_removed_and_the_journal_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    with opened(path) as journal:
        end = [entry.end for entry in journal.entries()][1]
    for size in range(end, len(whole)):
        path.write_bytes(whole[:size])
        with opened(path) as journal:
            assert journal.length == end
            journal.append(5, encode(batch(9, 1)))
            assert sequences(journal) == [1, 2, 9]


def test_pages_that_a_power_failure_emptied_are_no_records(path: Path) -> None:
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(4096))
    with opened(path) as journal:
        assert journal.length == size
        journal.append(5, encode(batch(4)))
        assert sequences(journal) == [1, 2, 3, 4]


def test_damage_before_the_checkpoint_is_told_and_nothing_is_cut(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 1
    path.write_bytes(damaged)
    told = r"batch 1 of worker 5 in its episode 0, 4 steps \(learned from already.*Restore it"
    with pytest.raises(JournalError, match=told):
        Journal(path, len(damaged))
    assert path.read_bytes() == damaged


def test_rows_up_to_the_checkpoint_come_in_order_and_in_chunks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "CHUNK_ROWS", 5)
    with opened(path) as journal:
        for sequence in (4, 5):
            journal.append(5, encode(batch(sequence)))
        position = [entry.end for entry in journal.entries()][3]
    with opened(path, position) as journal:
        chunks = list(journal.rows(LAYOUT))
    assert [len(chunk) for chunk in chunks] == [8, 8]
    transitions = LAYOUT.transitions(np.concatenate(chunks))
    np.testing.assert_array_equal(transitions.observations[:, 0], np.repeat([1, 2, 3, 4], 4))
    np.testing.assert_array_equal(transitions.rewards, np.tile(np.arange(4), 4))


def test_a_write_that_fails_half_way_leaves_the_journal_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def half(descriptor: int, record: bytes, offset: int) -> int:
        return pwrite(descriptor, record[: len(record) // 2], offset)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(path) as journal:
        for failing in (half, full):
            monkeypatch.setattr(os, "pwrite", failing)
            with pytest.raises(OSError, match=r"only a part|No space"):
                journal.append(5, encode(batch(4)))
            monkeypatch.setattr(os, "pwrite", pwrite)
            assert sequences(journal) == [1, 2, 3]
        journal.append(5, encode(batch(4, 1)))
        assert sequences(journal) == [1, 2, 3, 4]


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="Is a directory"):
        Journal(tmp_path)


def test_a_journal_is_read_without_being_opened_for_writing(path: Path) -> None:
    path.chmod(0o400)
    assert [entry.batch.sequence for entry in read_entries(path)] == [1, 2, 3]
    (rows,) = read_rows(path, LAYOUT)
    np.testing.assert_array_equal(LAYOUT.unpack(rows)[0][:, 0], np.repeat([1, 2, 3], 4))
    path.chmod(0o600)
    with path.open("ab") as file:
        file.write(b"half a record")
    assert [entry.batch.sequence for entry in read_entries(path)] == [1, 2, 3]
    assert path.read_bytes().endswith(b"half a record")


def test_the_frames_of_a_batch_are_kept_as_they_came(tmp_path: Path) -> None:
    frames = [bytes(frame) for frame in encode(batch(1))]
    with opened(tmp_path / "journal") as journal:
        journal.append(5, frames)
    record = (tmp_path / "journal").read_bytes()
    ends = [record.index(frame) + len(frame) for frame in frames[:4]]
    assert ends == sorted(ends)


def test_a_journal_of_an_earlier_protocol_is_read_but_a_later_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(OLD_RUNS) as archive:
        archive.extract(OLD_JOURNAL, tmp_path, filter="data")
    monkeypatch.setattr(wire, "PROTOCOL", 7)
    old = [entry.batch for entry in read_entries(tmp_path / OLD_JOURNAL)]
    assert [each.sequence for each in old if each.session == old[0].session][:3] == [1, 2, 3]
    with pytest.raises(wire.ProtocolVersionError):
        wire.decode(_frames_of_protocol_1())
    with opened(tmp_path / "later") as journal:
        journal.append(5, encode(batch(1)))
    monkeypatch.setattr(wire, "PROTOCOL", 6)
    with pytest.raises(wire.ProtocolVersionError):
        list(read_entries(tmp_path / "later"))


def _frames_of_protocol_1() -> list[wire.Frame]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "PROTOCOL", 1)
        return encode(batch(1))
