"""The template of the page, `page.html.jinja`, and what it shows of a run.

The template escapes every text; a name without a value is an error.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_DOTS_PER_INCH, _CSS_PIXELS_PER_INCH = 300, 96
"""Resolutions of saved figures and of a browser."""
_ENLARGED = 1.2
"""Factor on the size of figures, which are drawn for paper: their letters are small on a screen."""


class Picture(NamedTuple):
    """A figure with its caption; the image is inside the page.

    Attributes:
        png: the image, at 300 dots per inch; read when the page is rendered.
        alt: alternative text, for those who do not see it.
        caption: below it.
    """

    png: Path
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """The parts under a heading, in this order; empty ones are not shown.

    Attributes:
        headlines: results in a sentence each.
        picture: a figure.
        facts: names and texts.
        commands: lines as they would be typed.
        settings: the text of `config.yaml`, folded up; shown with commands only.
        left_out: what is not shown, and why.
    """

    headlines: Sequence[str] = ()
    picture: Picture | None = None
    facts: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()
    settings: str = ""
    left_out: str = ""


def render(**content: object) -> str:
    """The whole page, which is self-contained: it needs no network and no scripts.

    Args:
        content: `title`; `overview`, a `Section`; the table's `columns`, `rows` (whether a row is
            ours, and its cells, the task first) and `caption`; `caveats`; `articles`, each a title
            and sections by heading.

    Raises:
        UndefinedError: one of them is missing.
        OSError: an image cannot be read.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"source": _source, "size": _size}
    return environment.get_template("page.html.jinja").render(content)


def _shown(value: object) -> object:
    """A value as the page shows it: text without control characters but line feeds and tabs."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(str(value), keep="\n\t") if plain else value


def _source(png: Path) -> str:
    """An image as a `data:` address."""
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def _size(png: Path) -> tuple[int, int]:
    """Width and height of an image in CSS pixels."""
    with Image.open(png) as image:
        width, height = image.size
    scale = _ENLARGED * _CSS_PIXELS_PER_INCH / _DOTS_PER_INCH
    return round(width * scale), round(height * scale)
