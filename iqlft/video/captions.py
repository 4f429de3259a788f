"""Text on pictures: the state of an episode, and its title."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from iqlft.analysis.quantities import with_minus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqlft.config.settings import Judge
    from iqlft_workers.episode import EpisodeResult

STRIP, TEXT = 22, 14
"""Height of a caption's strip and of its letters, in pixels."""


def progress(steps: int, distance: float | None) -> str:
    """`step 312, 4.2 m to the goal`."""
    return f"step {steps:,}" + ("" if distance is None else f", {distance:.1f} m to the goal")


def outcome(result: EpisodeResult, judged_by: Judge, *, finished: bool) -> str:
    """The outcome of an episode so far, in words; empty while success is still possible."""
    if judged_by == "return":
        return f"return {number(result.episode_return)}"
    if result.success:
        return f"\N{CHECK MARK} success at step {result.first_hit:,}"
    return "\N{BALLOT X} no success" if finished else ""


def number(value: float) -> str:
    """A whole number, with a true minus sign."""
    return with_minus(f"{value:,.0f}")


def caption(picture: NDArray[np.uint8], title: str, left: str, right: str) -> NDArray[np.uint8]:
    """Writes a title over the top of a picture and two texts over its foot.

    Args:
        picture: `(height, width, 3)`.
        title: in bold.
        left: at the foot.
        right: at the foot, right-aligned.

    Returns:
        A new picture of the same size.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image, "RGBA")
    top, foot, end = STRIP / 2, image.height - STRIP / 2, image.width - 8
    for y in (0, image.height - STRIP):
        draw.rectangle((0, y, image.width, y + STRIP - 1), fill=(0, 0, 0, 150))
    draw.text((8, top), title, "white", font(TEXT, bold=True), anchor="lm")
    draw.text((8, foot), left, "white", font(TEXT), anchor="lm")
    draw.text((end, foot), right, "white", font(TEXT, bold=True), anchor="rm")
    return np.asarray(image)


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of the project's figures, which comes with Matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size)
