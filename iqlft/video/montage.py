"""The page of a video: rows of pictures, each row under a heading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from iqlft.figures.style import BLUE, ORANGE
from iqlft.video.captions import font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GAP, TOP, HEADING = 12, 36, 36
"""Pixels between pictures, and heights of the page's title and of a row's heading."""
LOOKS = (("circle", ORANGE), ("square", BLUE))
"""Mark and colour of each row: those of before and after in the project's figures."""


class Montage:
    """Lays pictures out on a page.

    Args:
        title: top left, in bold.
        note: top right.
        headings: one per row, at most one per look: a name, in bold, and the text after it.
        columns: pictures in a row.
        size: width and height of a picture; both even, so that the page's are even too.
    """

    def __init__(
        self,
        title: str,
        note: str,
        headings: Sequence[tuple[str, str]],
        columns: int,
        size: tuple[int, int],
    ) -> None:
        self._columns, self._size = columns, size
        width = GAP + columns * (size[0] + GAP)
        height = TOP + len(headings) * self._row_height
        page = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(page)
        draw.text((GAP, TOP / 2 + 4), title, "black", font(18, bold=True), anchor="lm")
        draw.text((width - GAP, TOP / 2 + 4), note, "black", font(13), anchor="rm")
        for index, (heading, look) in enumerate(zip(headings, LOOKS, strict=False)):
            _draw_heading(draw, TOP + index * self._row_height + HEADING / 2, heading, look)
        self._blank = np.asarray(page)

    @property
    def _row_height(self) -> int:
        return HEADING + self._size[1] + GAP

    def page(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """A page.

        Args:
            pictures: `(height, width, 3)` each, row by row.

        Returns:
            `(page height, page width, 3)`.
        """
        page = self._blank.copy()
        width, height = self._size
        for index, picture in enumerate(pictures):
            row, column = divmod(index, self._columns)
            top = TOP + row * self._row_height + HEADING
            left = GAP + column * (width + GAP)
            page[top : top + height, left : left + width] = picture
        return page


def _draw_heading(
    draw: ImageDraw.ImageDraw, middle: float, heading: tuple[str, str], look: tuple[str, str]
) -> None:
    (mark, colour), (name, rest) = look, heading
    box = (GAP, middle - 7, GAP + 14, middle + 7)
    (draw.ellipse if mark == "circle" else draw.rectangle)(box, fill=colour)
    bold, left = font(15, bold=True), GAP + 22
    draw.text((left, middle), name, "black", bold, anchor="lm")
    left += round(bold.getlength(name))
    draw.text((left, middle), f": {rest}", "black", font(15), anchor="lm")
