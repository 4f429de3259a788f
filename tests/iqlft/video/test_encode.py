"""A video holds the pictures it was given, or is not there."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from iqlft.video.encode import VideoError, find_ffmpeg, write_mp4
from video_reading import description_of, frames_of

Picture = NDArray[np.uint8]
# The library leaves its pipe open to an ffmpeg that is dead already.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning"
)
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


@pytest.fixture(autouse=True)
def _ffmpeg(request: pytest.FixtureRequest) -> None:
    if "missing" not in request.node.name:
        pytest.importorskip("imageio_ffmpeg")


def pictures() -> Iterator[Picture]:
    for colour in COLOURS:
        yield np.full((48, 64, 3), colour, np.uint8)


def test_the_pictures_come_back_from_the_video(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", pictures(), per_second=10)

    means = frames_of(tmp_path / "a.mp4", 64, 48).mean((1, 2))
    np.testing.assert_allclose(means, COLOURS, atol=8)
    for part in ("h264", "yuv420p", "64x48", "10 fps"):
        assert part in description_of(tmp_path / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, pictures(), per_second=10)

    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_video_that_was_there_stays_when_the_pictures_fail(tmp_path: Path) -> None:
    def failing() -> Iterator[Picture]:
        yield from pictures()
        raise ZeroDivisionError

    (tmp_path / "a.mp4").write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        write_mp4(tmp_path / "a.mp4", failing(), per_second=10)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.mp4": b"before"}


def test_what_ffmpeg_complains_of_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = [np.zeros((47, 63, 3), np.uint8)] * 50
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be written: ffmpeg has failed"):
        write_mp4(tmp_path / "a.mp4", odd, per_second=10)
    assert "not divisible by 2" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be written: ffmpeg has failed"):
        write_mp4(tmp_path / "none" / "a.mp4", pictures(), per_second=10)
    assert "No such file or directory" in capfd.readouterr().err


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_a_video_that_was_there_stays_when_ffmpeg_is_killed_without_a_word(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, ffmpeg = tmp_path / "whole.mp4", tmp_path / "ffmpeg"
    write_mp4(whole, pictures(), per_second=10)
    ffmpeg.write_text(
        f"""#!/bin/sh
case "$*" in *rawvideo*) ;; *) exec {find_ffmpeg()} "$@" ;; esac
for path; do :; done
head -c {int(share * whole.stat().st_size)} {whole} > "$path"
kill -9 $$
"""
    )
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(ffmpeg))
    (tmp_path / "a.mp4").write_bytes(b"before")
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be written: ffmpeg has failed"):
        write_mp4(tmp_path / "a.mp4", pictures(), per_second=10)
    assert (tmp_path / "a.mp4").read_bytes() == b"before"
    assert not (tmp_path / ".a.mp4").exists()


def test_errors_among_the_pictures_stay_what_they_are(tmp_path: Path) -> None:
    def failing() -> Iterator[Picture]:
        yield from pictures()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_mp4(tmp_path / "a.mp4", failing(), per_second=10)


def test_missing_ffmpeg_is_answered_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(VideoError, match="install it with `pip install imageio-ffmpeg`"):
        find_ffmpeg()
