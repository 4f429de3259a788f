"""The table of figures at the end of the chaos suite, and how long its disturbances last.

The durations of the protocol are multiplied by the environment variable IQLFT_CHAOS_SECONDS_SCALE
(1.0 where it is not set), so that the suite can be tried quickly. IQLFT_FIGURES may name a file to
which the table is written as Markdown.
"""

from __future__ import annotations

import os
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEADING = ("demonstration", "what", "figure", "bound")
ROWS = pytest.StashKey[list[tuple[str, str, str, str]]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`figure(demonstration, what, value, bound="")` adds a row to the table."""

    def add(demonstration: str, what: str, value: str, bound: str = "") -> None:
        request.config.stash.setdefault(ROWS, []).append((demonstration, what, value, bound))

    return add


@pytest.fixture(scope="session")
def scaled() -> Callable[[float], float]:
    """`scaled(seconds)`: how long a disturbance of so many seconds lasts this time."""
    scale = float(os.environ.get("IQLFT_CHAOS_SECONDS_SCALE", "1"))
    return lambda seconds: seconds * scale


@pytest.fixture(autouse=True)
def _path(importable: None) -> None:
    """Worker processes import the modules that register their environments."""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Shows the table, and writes it where that is wanted."""
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    rows.sort(key=itemgetter(0))
    widths = [max(map(len, column)) for column in zip(HEADING, *rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    lines = [_line(row, widths) for row in (HEADING, rule, *rows)]
    terminalreporter.section("figures of the chaos suite")
    for line in lines:
        terminalreporter.write_line(line)
    if path := os.environ.get("IQLFT_FIGURES"):
        Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(map(str.ljust, cells, widths))} |"
