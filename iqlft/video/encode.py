"""Encodes pictures as an MP4 file, by the ffmpeg that the extra `video` installs."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING

from iqlft_workers.errors import UserError
from iqlft_workers.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_CODING = [
    "-f",
    "mp4",
    "-crf",
    "23",
    "-movflags",
    "+faststart",
    "-fflags",
    "+bitexact",
    "-flags:v",
    "+bitexact",
]
"""Quality; the index first, as browsers prefer; bit-exact: equal pictures give equal bytes."""


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
    """Writes a video, atomically.

    Args:
        path: ends in `.mp4`; its folder exists.
        pictures: at least one; `(height, width, 3)`, all of one size, height and width even.
        per_second: pictures per second.

    Raises:
        VideoError: there is no ffmpeg, or it has failed and said why on standard error.
    """
    find_ffmpeg()
    with replacing(path) as temporary:
        if not _encode(temporary, iter(pictures), per_second):
            raise VideoError(f"{path} cannot be written: ffmpeg has failed; see what it said.")


def _encode(path: Path, pictures: Iterator[NDArray[np.uint8]], per_second: int) -> bool:
    """Feeds ffmpeg; returns whether the file holds every picture."""
    from imageio_ffmpeg import count_frames_and_secs, write_frames  # noqa: PLC0415  # an extra

    first = next(pictures)
    ffmpeg = write_frames(
        path, first.shape[1::-1], fps=per_second, codec="libx264", quality=None,
        macro_block_size=1, ffmpeg_log_level="error", output_params=_CODING,
    )  # fmt: skip
    sent = 0
    with closing(ffmpeg):
        ffmpeg.send(None)
        for picture in itertools.chain([first], pictures):
            try:
                ffmpeg.send(picture.tobytes())
            except OSError:
                return False
            sent += 1
    # ffmpeg's exit code is not passed on, but if it has failed, the video is incomplete.
    try:
        return bool(count_frames_and_secs(path)[0] == sent)
    except RuntimeError:
        return False
