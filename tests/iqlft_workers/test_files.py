"""Files and folders are there completely or not at all, and nothing is left of a failure."""

from pathlib import Path

import pytest

from iqlft_workers.files import TEMPORARY, new_folder, replacing, write_atomically


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
