"""What all of the project's figures share: widths, fonts, colours and how they are saved.

Files are the same bytes each time: no dates, no versions, fonts that come with Matplotlib.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.axis import Tick
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.text import Text

from iqlft.config.errors import ConfigError
from iqlft_workers.files import replacing
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

WIDE, NARROW = 7.2, 3.4
"""Widths in inches of a page of text and of one of its two columns."""
BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
"""Colours of Okabe and Ito's palette, which the colour-blind can tell apart."""
FORMATS = ("png", "pdf")
"""Default endings of the files that a figure is saved as."""
_UNCHANGING: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
"""Metadata to leave out, by ending, so that the same figure is the same file."""
LETTERS = 15
"""Approximate number of a legend's letters per inch."""
DARK, GREY, FAINT, SHADE = "0.25", "0.6", "0.8", "0.95"
"""Greys of thin lines, single seeds, series in the background, and the offline phase's shading."""


def style(width: float) -> Any:  # noqa: ANN401  (of some 300 literal keys)
    """Matplotlib settings of the project's figures, with a font size to suit the width.

    Args:
        width: of the figure, in inches.
    """
    size = 8 if width > 5 else 7
    return {
        "font.family": "DejaVu Sans",
        "font.size": size,
        "axes.titlesize": size,
        "axes.labelsize": size,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
        "legend.fontsize": size - 1,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.hashsalt": "iqlft",
    }


def wrapped(text: str, letters: float) -> str:
    """A text in lines of at most about `letters` letters, broken only between words."""
    return textwrap.fill(text, int(letters), break_long_words=False, break_on_hyphens=False)


def headline(text: str) -> tuple[str, float]:
    """A title above a figure of width `WIDE`, broken into lines, and its height in inches."""
    lines = wrapped(text, 0.7 * WIDE * LETTERS)
    return lines, 0.25 + 0.16 * lines.count("\n")


def label(text: str) -> str:
    r"""A name escaped for Matplotlib, which would take `$\frac{` for a formula."""
    return printable(text, keep="\n").replace("$", r"\$")


def _show_plainly(artist: Artist) -> None:
    """Turns formulas off in all text but tick labels, where Matplotlib itself writes them."""
    if isinstance(artist, Text):
        artist.set_parse_math(False)
        artist.set_text(printable(artist.get_text(), keep="\n"))
    if not isinstance(artist, Tick):
        for child in artist.get_children():
            _show_plainly(child)


def marker_of(num_points: int) -> str:
    """A line's marker: only lines of one or two points, which are hard to see, have one."""
    return "o" if num_points < 3 else ""


def columns_of(num_panels: int) -> int:
    """The number of columns for `num_panels` panels in width `WIDE`, at most four."""
    if num_panels in {7, 8} or num_panels > 9:
        return 4
    return 2 if num_panels == 4 else min(num_panels, 3)


def drawn_as(out: Path) -> tuple[Path, str, tuple[str, ...]]:
    """Folder, name and endings that a path stands for: `fig.svg` is a file, `figures` a folder.

    Returns:
        The folder; the name without an ending, empty for a folder; the endings.
    """
    ending = out.suffix.removeprefix(".").lower()
    if ending in FigureCanvasBase.get_supported_filetypes():
        return out.parent, out.stem, (ending,)
    return out, "", FORMATS


def save_figure(
    figure: Figure, out_folder: Path, name: str, kinds: Sequence[str] = FORMATS
) -> list[Path]:
    """Saves a figure; the same figure gives the same bytes.

    Args:
        figure: what to save.
        out_folder: made if missing.
        name: of the files, without their ending.
        kinds: endings, of those that Matplotlib knows.

    Returns:
        The files, in the order of `kinds`; pictures have 300 dots per inch.

    Raises:
        ConfigError: a program that a kind needs is not here.
    """
    _show_plainly(figure)
    out_folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in kinds:
        path = out_folder / f"{name}.{kind}"
        with replacing(path) as temporary:
            # Not every backend knows metadata.
            options: dict[str, Any] = {"metadata": _UNCHANGING[kind]} if kind in _UNCHANGING else {}
            try:
                figure.savefig(temporary, format=kind, dpi=300, **options)
            except RuntimeError as error:  # of a program that draws, such as LaTeX
                raise ConfigError(
                    f"{path} cannot be drawn ({error}); choose another ending, such as .pdf."
                ) from error
        paths.append(path)
    return paths
