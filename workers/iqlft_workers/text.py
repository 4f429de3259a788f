"""Text from others, such as names, made safe to show: a terminal obeys nothing in it."""

from __future__ import annotations

import logging
import unicodedata

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: controls, invisible format marks, lone surrogates, line separators."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with its control characters as escapes, such as `\x1b`.

    Args:
        text: from any source.
        keep: control characters that stay, such as line feeds.
    """
    if text.isprintable():
        return text
    return "".join(
        each
        if each in keep or unicodedata.category(each) not in _OBEYED
        else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


class PlainFormatter(logging.Formatter):
    """Formats log records without control characters, but with their line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return printable(super().format(record), keep="\n\t")
