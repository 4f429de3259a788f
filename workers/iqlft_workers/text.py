"""Text of others, such as names, shown as it is and never obeyed by a terminal."""

from __future__ import annotations

import logging
import unicodedata

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's controls, invisible marks of format, lone surrogates and separators of lines."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with its control characters as escapes, such as `\x1b`.

    Args:
        text: of whomever.
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
    """Formats records of a log without control characters, but with their lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return printable(super().format(record), keep="\n\t")
