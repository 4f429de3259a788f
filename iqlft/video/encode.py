"""Pictures to an MP4 file, by the ffmpeg that the extra `video` brings."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

# What browsers play: H.264 with colour at half the resolution and the index first.
_CODING = ["-c:v", "libx264", "-crf", "23", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
# The same pictures give the same bytes.
_EXACT = ["-fflags", "+bitexact", "-flags:v", "+bitexact"]


class VideoError(UserError):
    """A video cannot be written."""


def find_ffmpeg() -> str:
    """The path of ffmpeg.

    Raises:
        VideoError: there is none; the message says how to install it.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe  # noqa: PLC0415  # an extra

        found: str = get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise VideoError(
            f"Videos are written by ffmpeg, which is not here ({error}); install it with "
            "`pip install imageio-ffmpeg`, the extra `video`."
        ) from error
    return found


def write_mp4(path: Path, pictures: Iterable[NDArray[np.uint8]], per_second: int) -> None:
    """Writes a video; nobody sees a part of it.

    Args:
        path: ends in `.mp4`; its folder is there.
        pictures: at least one; `(height, width, 3)`, height and width alike and even.
        per_second: pictures shown in a second.

    Raises:
        VideoError: there is no ffmpeg, or it cannot write the file.
    """
    pictures = iter(pictures)
    first = next(pictures)
    size = f"{first.shape[1]}x{first.shape[0]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(per_second), "-i", "-"]
    partial = path.with_name(f".{path.name}")
    command = [find_ffmpeg(), "-v", "error", "-y", *raw, *_CODING, *_EXACT, str(partial)]
    try:
        if complaint := _encode(command, itertools.chain([first], pictures)):
            raise VideoError(f"{path} cannot be written: {complaint}.")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(command: list[str], pictures: Iterable[NDArray[np.uint8]]) -> str:
    """Feeds ffmpeg; returns why it has failed, in its own words if it has any, else nothing."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as ffmpeg,
    ):
        assert ffmpeg.stdin is not None
        try:
            # A broken pipe means that it has failed, and the log says why.
            with suppress(BrokenPipeError), ffmpeg.stdin:
                for picture in pictures:
                    ffmpeg.stdin.write(picture.tobytes())
        except BaseException:
            ffmpeg.kill()
            raise
        code = ffmpeg.wait()
        log.seek(0)
        told = log.read().decode("utf-8", "replace").strip()
        # Killed, as where memory runs out, it says nothing.
        return (told or f"ffmpeg ended with {code}") if code else ""
