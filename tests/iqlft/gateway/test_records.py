"""Whatever happens to the bytes of a journal, what they did not touch is read as it was written."""

import itertools
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iqlft.gateway.journal import Journal, JournalError, drop_batches
from iqlft.gateway.records import (
    Entry,
    Lost,
    pack_given_up,
    pack_record,
)
from iqlft.gateway.walk import read_records
from iqlft_workers import messages
from iqlft_workers.transition import Transitions
from iqlft_workers.wire import Frame, encode

OLD_RUNS = Path(__file__).parents[2] / "old_runs" / "iqlft-0.1.tar.gz"
OLD_JOURNAL = "runs/antmaze-corner/online/replay/journal"
SALT = b"by lot.."
FLIPS: tuple[Callable[[int], int], ...] = (
    lambda byte: byte ^ 1,
    lambda byte: byte ^ 0x80,
    lambda byte: byte ^ 0xFF,
    lambda byte: 0 if byte else 1,
)
"""What is done to a byte; each changes it."""
Pack = Callable[[int, Sequence[Frame]], bytes]


def batch(session: str, sequence: int, count: int = 2, value: float = 0.0) -> messages.Batch:
    return messages.Batch(
        session=session,
        sequence=sequence,
        episode=sequence // 2,
        finished=None,
        stepping_seconds=0.25,
        observations=np.full((count, 2), sequence + value, np.float32),
        actions=np.zeros((count, 1), np.float32),
        rewards=np.arange(count, dtype=np.float32),
        next_observations=np.full((count, 2), sequence + 0.5, np.float32),
        terminated=np.zeros(count, np.bool_),
        truncated=np.ones(count, np.bool_),
        versions=np.full(count, 7, np.uint32),
    )


def new(worker_id: int, frames: Sequence[Frame]) -> bytes:
    """A record of today."""
    return pack_record(SALT, worker_id, frames)


def old(worker_id: int, frames: Sequence[Frame]) -> bytes:
    """A record of format 1, as version 0.1 wrote it."""
    content: bytes = msgpack.packb([worker_id, *frames])
    return struct.pack("<II", len(content), zlib.crc32(content)) + content


def made(pack: Pack) -> list[bytes]:
    """Records of two sessions in turn, of different sizes."""
    batches = [(0, batch("a", 1)), (1, batch("b", 1, 3)), (0, batch("a", 2)), (0, batch("a", 3, 1))]
    return [pack(worker_id, encode(each)) for worker_id, each in batches]


def read(path: Path, content: bytes) -> list[Entry | Lost]:
    # A file system may take its time to empty a file that is written anew.
    path.touch()
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
    return list(read_records(path))


def plain(record: Entry | Lost) -> object:
    """A record as something that can be compared."""
    assert isinstance(record, Entry)
    arrays = [each.tobytes() for each in record.batch.transitions]
    return record.name, record.begin, record.end, arrays


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.mark.parametrize("pack", [new, old])
def test_a_flipped_byte_costs_its_own_batch_at_most_and_says_which_it_was(
    path: Path, pack: Pack
) -> None:
    records = made(pack)
    whole, ends = b"".join(records), list(itertools.accumulate(map(len, records)))
    expected = read(path, whole)
    unnamed = 0
    for at, flip in itertools.product(range(len(whole)), FLIPS):
        damaged = bytearray(whole)
        damaged[at] = flip(damaged[at])
        found = read(path, bytes(damaged))
        assert [each.end for each in found] == ends, at
        place = next(index for index, end in enumerate(ends) if at < end)
        for index, (record, before) in enumerate(zip(found, expected, strict=True)):
            if isinstance(record, Lost):
                assert (index, record.begin, record.given_up) == (place, before.begin, False), at
                # Format 1 has names in the content alone: the number is checked, the episode not.
                if pack is new:
                    assert record.name == before.name, at
                elif record.name is not None and before.name is not None:
                    assert record.name == before.name._replace(episode=record.name.episode), at
                unnamed += record.name is None
            else:
                assert plain(record) == plain(before), at
    assert (unnamed > 0) == (pack is old)


def test_in_front_of_its_content_nothing_of_a_record_is_needed(path: Path) -> None:
    records = made(new)
    begin = len(records[0])
    content = records[1].index(msgpack.packb([1, *encode(batch("b", 1, 3))]))
    for at in range(begin, begin + content):
        damaged = bytearray(b"".join(records))
        damaged[at] ^= 0x55
        assert not any(isinstance(each, Lost) for each in read(path, bytes(damaged))), at


@pytest.mark.parametrize("pack", [new, old])
def test_a_flipped_byte_stops_the_opening_and_accepted_it_costs_no_other_batch(
    path: Path, pack: Pack
) -> None:
    records = made(pack)
    whole = b"".join(records)
    begin = len(records[0]) + len(records[1])
    for at in range(begin, begin + len(records[2]), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        lost = [each for each in read(path, bytes(damaged)) if isinstance(each, Lost)]
        for position in (0, begin, len(whole)):
            if lost:
                told = "learned from already" if position else "not learned from yet"
                told = "not learned from yet" if position == begin else told
                with pytest.raises(JournalError, match=rf"1 place .*{told}.*--accept-loss"):
                    Journal(path, position)
                assert path.read_bytes() == damaged
        journal = Journal(path, begin, accept_loss=True)
        assert bool(journal.loss) == bool(lost)
        journal.append(1, encode(batch("b", 2)))
        journal.close()
        again = Journal(path, len(whole))
        assert not again.loss
        names = [str(each.name) for each in again.entries()]
        assert names == ["0:0:1", "1:0:1", *([] if lost else ["0:1:2"]), "0:1:3", "1:1:2"]
        again.close()


@pytest.mark.parametrize("pack", [new, old])
def test_a_record_cut_short_anywhere_never_was(path: Path, pack: Pack) -> None:
    *first, last = made(pack)
    expected = [plain(each) for each in read(path, b"".join(first))]
    for size in range(len(last)):
        assert [plain(each) for each in read(path, b"".join(first) + last[:size])] == expected


def test_a_record_whose_last_pages_a_power_failure_emptied_never_was(path: Path) -> None:
    first, big = new(0, encode(batch("a", 1))), new(0, encode(batch("a", 2, 700)))
    for kept in range(0, len(big), 1000):
        # What is kept ends with a page of the file.
        kept = -(-(len(first) + kept) // 4096) * 4096 - len(first)  # noqa: PLW2901
        if kept < len(big):
            content = first + big[:kept] + bytes(len(big) - kept)
            assert [each.name for each in read(path, content)] == [
                each.name for each in read(path, first)
            ]


def test_the_first_record_of_a_resumed_run_of_version_0_1_is_lost_alone(path: Path) -> None:
    whole = b"".join([*made(old)[:2], *made(new)[2:]])
    expected = read(path, whole)
    found = read(path, bytes(5) + whole[5:])
    assert [plain(each) for each in found[1:] if isinstance(each, Entry)] == [
        plain(each) for each in expected[1:] if isinstance(each, Entry)
    ]


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data(), mixed=st.booleans())
def test_whatever_is_overwritten_what_it_did_not_touch_stays(
    data: st.DataObject, mixed: bool, path: Path
) -> None:
    records = made(new)
    if mixed:  # As of a run of version 0.1 that was resumed.
        records = [*made(old)[:2], *records[2:]]
    whole, ends = b"".join(records), list(itertools.accumulate(map(len, records)))
    begin = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(begin + 1, min(len(whole), begin + 900)))
    junk = data.draw(st.binary(min_size=end - begin, max_size=end - begin) | st.just(bytes(9999)))
    expected = read(path, whole)
    found = read(path, whole[:begin] + junk[: end - begin] + whole[end:])
    touched = {each.begin for each in expected if each.begin < end and begin < each.end}
    entries = {each.begin: plain(each) for each in found if isinstance(each, Entry)}
    for each in expected:
        if each.begin in touched:
            assert entries.pop(each.begin, plain(each)) == plain(each)
        else:
            assert entries.pop(each.begin) == plain(each)
    assert not entries
    # Nobody is kept from going on, and what was in front of the checkpoint's position counts so.
    journal = Journal(path, data.draw(st.sampled_from([0, *ends])), accept_loss=True)
    journal.append(0, encode(batch("a", 4)))
    assert [each.name for each in journal.entries()][-1] == (0, "a", 4, 2, 2)
    journal.close()
    Journal(path, journal.position).close()


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_that_are_missing_or_too_many_cost_what_they_touch(
    data: st.DataObject, path: Path
) -> None:
    records = made(new)
    whole = b"".join(records)
    expected = {each.begin: each.name for each in read(path, whole)}
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(0, 60) | st.integers(60, 500))
    found = read(path, whole[:at] + data.draw(st.binary(max_size=60)) + whole[at + cut :])
    names = [each.name for each in found if isinstance(each, Entry)]
    place = 0
    for record in records:
        untouched = place + len(record) <= at or place >= at + cut
        assert not untouched or expected[place] in names
        place += len(record)
    assert len(names) == len(set(names))
    Journal(path, accept_loss=True).close()
    Journal(path).close()


@pytest.mark.parametrize("before", [[], [old(0, encode(batch("c", 1)))]])
def test_a_record_in_what_a_peer_sends_is_not_taken_for_one(
    before: list[bytes], path: Path
) -> None:
    forged = b"".join(pack(0, encode(batch("a", 2, value=1e30))) for pack in (old, new))
    forged = forged.replace(SALT, b"guessed!") + pack_given_up(b"guessed!", 500, None)
    forged += bytes(-len(forged) % 8)
    frames = encode(batch("a", 1, len(forged) // 8))
    frames[1] = forged  # Just as it is, whatever admission would say.
    records = [new(0, frames), new(0, encode(batch("a", 2))), new(0, encode(batch("a", 3)))]
    whole, begin = b"".join([*before, *records]), sum(map(len, before))
    honest = [each.name for each in read(path, whole) if each.begin != begin]
    # Behind old records nothing tells that the first one whose marker is gone is none of them.
    for at in (40, 120, 250) if before else (0, 3, 40, 120, 250):
        damaged = bytearray(whole)
        damaged[begin + at : begin + at + 100] = bytes(100)
        found = read(path, bytes(damaged))
        assert [each.name for each in found if isinstance(each, Entry)] == honest
    for cut in range(begin, begin + len(records[0])):
        assert [each.name for each in read(path, whole[:cut])] == honest[: len(before)]


def test_a_journal_of_version_0_1_is_read_dropped_from_and_continued(path: Path) -> None:
    with tarfile.open(OLD_RUNS) as archive:
        content = archive.extractfile(OLD_JOURNAL)
        assert content is not None
        whole = content.read()
    before = read(path, whole)
    assert not any(isinstance(each, Lost) for each in before)
    third = before[2]
    assert third.name is not None
    damaged = bytearray(whole)
    damaged[third.end - 100] ^= 4
    found = read(path, bytes(damaged))
    assert [each.name for each in found] == [each.name for each in before]
    assert [index for index, each in enumerate(found) if isinstance(each, Lost)] == [2]
    path.write_bytes(whole)
    assert drop_batches(path, lambda name: name == third.name) == [third.name]
    journal = Journal(path, len(whole))
    journal.append(0, encode(batch("new", 1)))
    names = [each.name for each in before if each is not third]
    assert [each.name for each in journal.entries()] == [*names, (0, "new", 1, 0, 2)]
    journal.close()


def test_what_is_dropped_is_gone_at_once_and_all_else_stays_where_it_was(path: Path) -> None:
    journal = Journal(path)
    for number in range(1, 6):
        journal.append(number % 2, encode(batch("ab"[number % 2], (number + 1) // 2)))
    journal.close()
    before, content = list(read_records(path)), path.read_bytes()
    assert drop_batches(path, lambda name: name.worker_id == 7) == []
    chosen = drop_batches(path, lambda name: name.worker_id == 1, dry_run=True)
    assert path.read_bytes() == content
    assert chosen == drop_batches(path, lambda name: name.worker_id == 1)
    assert [str(each) for each in chosen] == ["1:0:1", "1:1:2", "1:1:3"]
    after = list(read_records(path))
    assert [(each.name, each.begin, each.end) for each in after] == [
        (each.name, each.begin, each.end) for each in before
    ]
    assert [isinstance(each, Lost) and each.given_up for each in after] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert path.stat().st_size == len(content)
    assert [each.name for each in path.parent.iterdir()] == ["journal"]


def test_another_run_s_journal_and_one_that_is_too_short_are_refused(path: Path) -> None:
    records = made(new)
    whole = b"".join(records)
    path.write_bytes(whole)
    with pytest.raises(JournalError, match="not the one that the checkpoint was written with"):
        Journal(path, len(whole) - 9, accept_loss=True)
    path.write_bytes(whole[: -len(records[-1]) - 20])
    with pytest.raises(JournalError, match=r"1 place.*do not say which.*learned from already"):
        Journal(path, len(whole))
    journal = Journal(path, len(whole), accept_loss=True)
    assert [str(each.name) for each in journal.entries()] == ["0:0:1", "1:0:1"]
    assert journal.length == path.stat().st_size == len(whole)
    journal.close()


def test_what_damage_does_not_name_is_named_by_the_numbers_around_it(path: Path) -> None:
    records = [new(0, encode(batch("a", number))) for number in range(1, 7)]
    size = len(records[0])
    content = bytearray(b"".join(records))
    content[2 * size + 5 : 4 * size + 5] = b"x" * 2 * size
    path.write_bytes(content)
    with pytest.raises(JournalError, match="missing: batches 3 to 5 of a session of worker 0"):
        Journal(path)


def test_bytes_between_records_are_given_up_however_few_they_are(path: Path) -> None:
    first, *_, last = made(new)
    for count in range(1, 120):
        path.write_bytes(first + b"x" * count + last)
        with pytest.raises(JournalError, match="1 place"):
            Journal(path, len(first))
        Journal(path, len(first) + count, accept_loss=True).close()
        journal = Journal(path, len(first) + count + len(last))
        assert [str(each.name) for each in journal.entries()] == ["0:0:1", "0:1:3"]
        journal.close()


def test_transitions_are_all_of_a_batch() -> None:
    # `plain` compares them by these.
    assert set(Transitions._fields) < {*messages.Batch.__annotations__}
