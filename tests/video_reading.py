"""Looks into a video, by the ffmpeg that wrote it."""

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqlft.video.encode import find_ffmpeg


def frames_of(video: Path, width: int, height: int) -> NDArray[np.uint8]:
    """All frames, `(N, height, width, 3)`."""
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = [find_ffmpeg(), "-v", "error", "-i", str(video), *raw]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def description_of(video: Path) -> str:
    """What ffmpeg says of it: codec, size, rate."""
    command = [find_ffmpeg(), "-i", str(video)]
    text = subprocess.run(command, check=False, capture_output=True, text=True).stderr
    return next(line for line in text.splitlines() if "Video:" in line)
