"""Files and folders are there completely or not at all, and nothing is left of a failure."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iqlft_workers.files import (
    TEMPORARY,
    file_stats,
    new_folder,
    replacing,
    write_atomically,
    write_output,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    write_atomically(path, "one")
    with replacing(path) as temporary:
        temporary.write_bytes(b"two")
        assert path.read_bytes() == b"one"
        assert list(tmp_path.glob(TEMPORARY)) == [temporary]
    assert contents(tmp_path) == {"numbers": b"two"}
    write_atomically(path, b"\xff")
    assert contents(tmp_path) == {"numbers": b"\xff"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_old_file_stands_alone(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_atomically(tmp_path / "numbers", "one")

    def fail() -> None:
        with replacing(tmp_path / "numbers") as temporary:
            temporary.write_text("tw")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(tmp_path) == {"numbers": b"one"}


def test_a_folder_is_seen_when_it_is_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "runs") as temporary:
        (temporary / "numbers").write_text("one")
        assert not (tmp_path / "deep" / "runs").exists()
    assert contents(tmp_path / "deep" / "runs") == {"numbers": b"one"}
    with pytest.raises(OSError, match="not empty"), new_folder(tmp_path / "deep" / "runs"):
        pass
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["runs"]


def test_what_a_killed_process_of_this_number_left_is_not_in_a_new_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "runs") as temporary:
        pass
    (tmp_path / "runs").rename(temporary)
    (temporary / "half").touch()
    with new_folder(tmp_path / "runs"):
        pass
    assert contents(tmp_path / "runs") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_a_user_names_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    for text in ("one", "two"):
        write_output(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert contents(tmp_path) == {"link": text.encode(), "target": text.encode()}


def test_a_pipe_that_a_user_names_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        write_output(pipe, "table")
        assert read.result(10) == b"table"
    assert pipe.is_fifo()


def test_a_device_and_a_folder_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    write_output(tmp_path / "null", b"nothing")
    assert (tmp_path / "null").is_char_device()
    with pytest.raises(IsADirectoryError):
        write_output(tmp_path, "text")
    with pytest.raises(FileNotFoundError):
        write_output(tmp_path / "absent" / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


def test_a_folder_is_measured_without_what_is_gone_or_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, size in (("a", 3), ("deep/b", 4)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "gone").symlink_to(tmp_path / "was.here")
    os.mkfifo(tmp_path / "pipe")
    assert sorted(each.st_size for each in file_stats(tmp_path)) == [3, 4]
    assert [each.st_size for each in file_stats(tmp_path / "a")] == [3]
    assert file_stats(tmp_path / "absent") == []
