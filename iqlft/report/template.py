"""HTML in small: elements whose texts are escaped, pictures inside the page, the page itself."""

from __future__ import annotations

import base64
import html
import struct
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_VOID = {"img", "meta"}
_DOTS_PER_INCH, _CSS_PIXELS_PER_INCH = 300, 96
_ENLARGED = 1.2
"""Figures are drawn for paper, whose letters are small on a screen."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing but what stands in it."""


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Markup:
    """An HTML element.

    Args:
        name: such as `p`.
        children: texts, which are escaped, and `Markup`, which is not.
        attributes: by name; an underscore at its end is dropped (`class_`), others are hyphens.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    inside = "".join(
        each if isinstance(each, Markup) else html.escape(each, quote=False) for each in children
    )
    return Markup(f"<{name}{given}>{inside}</{name}>")


def picture(png: Path, description: str, caption: str) -> Markup:
    """A figure with its caption, the image inside the page.

    Args:
        png: the image, at 300 dots per inch.
        description: for those who do not see it.
        caption: below it.
    """
    data = png.read_bytes()
    width, height = (
        str(round(dots * _ENLARGED * _CSS_PIXELS_PER_INCH / _DOTS_PER_INCH))
        for dots in struct.unpack(">II", data[16:24])
    )
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    image = element("img", src=source, alt=description, width=width, height=height)
    return element("figure", image, element("figcaption", caption))


def table(head: Sequence[str], rows: Iterable[tuple[Iterable[str], bool]], caption: str) -> Markup:
    """A table in groups of rows that have the first cell in common; some rows are set off.

    Args:
        head: names of the columns, from the second on.
        rows: each row's cells, the group's name first, and whether it is set off.
        caption: above it.
    """
    groups: dict[str, list[Markup]] = {}
    for (group, first, *others), set_off in rows:
        row = (element("th", first, scope="row"), *(element("td", each) for each in others))
        line = element("tr", *row, **({"class_": "ours"} if set_off else {}))
        groups.setdefault(group, []).append(line)
    width, names = str(len(head)), (element("th", each, scope="col") for each in head)
    bodies = [
        element(
            "tbody",
            element("tr", element("th", name, scope="rowgroup", colspan=width), class_="group"),
            *lines,
        )
        for name, lines in groups.items()
    ]
    content = element("table", element("thead", element("tr", *names)), *bodies)
    # A wide table scrolls in itself on a small screen, with the keyboard too.
    scroller = element(
        "div", content, class_="wide", tabindex="0", role="region", aria_label=caption
    )
    return element("figure", element("figcaption", caption), scroller)


def definitions(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they are."""
    parts = (element("div", element("dt", name), element("dd", text)) for name, text in pairs)
    return element("dl", *parts)


def document(title: str, *content: Markup) -> str:
    """A whole page that needs nothing beside itself, no network and no scripts.

    Args:
        title: of the window, and the page's first heading.
        content: what follows it.
    """
    style = (resources.files(__package__) / "report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element("body", element("main", element("h1", title), *content))
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"
