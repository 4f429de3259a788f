"""Findings of an audit, their verdicts, and how they are printed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from iqlft.datasets.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Verdict = Literal["ok", "outside", "known", "broken", "-"]
"""`outside`: not in its band; `known`: outside, but so is the published dataset; `broken`: the form
of the data is wrong; `-`: not judged.
"""
Style = Literal["text", "markdown"]
"""Format of the table of findings."""
_HEADINGS = ("check", "value", "band", "verdict", "note")
"""Column headings of the table."""


class AuditFailedError(DatasetError):
    """A dataset was audited and something is broken or outside its band.

    Args:
        sentence: names the failed findings.
        report: all findings, as a table.
    """

    exit_code = 1

    def __init__(self, sentence: str, report: str) -> None:
        super().__init__(sentence)
        self.report = report


class Band(NamedTuple):
    """A range of expected values.

    Attributes:
        least: lower end; minus infinity for none.
        greatest: upper end; infinity for none.
        strict: whether the ends themselves are excluded.
    """

    least: float = -math.inf
    greatest: float = math.inf
    strict: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies in the band; NaN does not."""
        if self.strict:
            return self.least < value < self.greatest
        return self.least <= value <= self.greatest

    def __str__(self) -> str:
        equals = "" if self.strict else "="
        if self.least == self.greatest:
            return show(self.least)
        if math.isinf(self.greatest):
            return f">{equals} {show(self.least)}"
        if math.isinf(self.least):
            return f"<{equals} {show(self.greatest)}"
        return f"{show(self.least)} to {show(self.greatest)}"


class Finding(NamedTuple):
    """One line of an audit.

    Attributes:
        name: what was measured.
        value: the measurement; None if it was not possible.
        band: the expected values; None if there are no expectations.
        verdict: see `Verdict`.
        note: further information, or empty.
    """

    name: str
    value: float | None
    band: Band | None = None
    verdict: Verdict = "-"
    note: str = ""


def form(name: str, value: int, expected: int = 0, note: str = "") -> Finding:
    """A finding about the form of the data, which is `ok` or `broken`."""
    verdict: Verdict = "ok" if value == expected else "broken"
    return Finding(name, value, Band(expected, expected), verdict, note)


def measurement(
    name: str, value: float | None, band: Band | None = None, note: str = ""
) -> Finding:
    """A finding about the content of the data, which is `ok` or `outside` if it has a band."""
    if band is None or value is None:
        return Finding(name, value, band, note=note)
    return Finding(name, value, band, "ok" if band.holds(value) else "outside", note)


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that are broken or outside their band."""
    return [finding for finding in findings if finding.verdict in {"broken", "outside"}]


def known(findings: Iterable[Finding]) -> list[Finding]:
    """Findings about a published dataset, with `outside` replaced by `known`."""
    note = "of the published dataset"
    return [
        each._replace(verdict="known", note=each.note or note)
        if each.verdict == "outside"
        else each
        for each in findings
    ]


def show(value: float | None) -> str:
    """A number as short text: whole numbers in full, others with three significant digits."""
    if value is None:
        return ""
    if math.isfinite(value) and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def format_findings(findings: Sequence[Finding], style: Style = "text") -> str:
    """The findings as a table.

    Args:
        findings: at least one.
        style: `text` for a terminal, or `markdown`.
    """
    cells = [(f.name, show(f.value), str(f.band or ""), f.verdict, f.note) for f in findings]
    if style == "markdown":
        rows = [_HEADINGS, ("---", "---:", "---", "---", "---"), *cells]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    rows = [_HEADINGS, *cells]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{'>' if column == 1 else '<'}{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
