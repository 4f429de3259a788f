"""What an audit finds, how it is judged, and how it is written down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from iqlft.datasets.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Verdict = Literal["ok", "outside", "known", "broken", "-"]
"""`outside` its band, `known` to be that of the published dataset, `broken` where the form of the
data is wrong, `-` where nothing is asked.
"""
Style = Literal["text", "markdown"]
"""How findings are written."""
_HEADINGS = ("check", "value", "band", "verdict", "note")
"""Of the columns of a written report."""


class AuditFailedError(DatasetError):
    """A dataset was audited and something is broken or outside its band.

    Args:
        sentence: which findings.
        report: all findings, for the reader.
    """

    exit_code = 1

    def __init__(self, sentence: str, report: str) -> None:
        super().__init__(sentence)
        self.report = report


class Band(NamedTuple):
    """The values that are expected.

    Attributes:
        least: lower end; minus infinity where there is none.
        greatest: upper end; infinity where there is none.
        strict: whether the ends themselves lie outside.
    """

    least: float = -math.inf
    greatest: float = math.inf
    strict: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies within; one that is no number does not."""
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
        value: the measurement; None where it was not possible.
        band: what is expected, or None where nothing is.
        verdict: see `Verdict`.
        note: what else there is to know, or empty.
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
    """A finding about what the data hold, which is `ok` or `outside` where there is a band."""
    if band is None or value is None:
        return Finding(name, value, band, note=note)
    return Finding(name, value, band, "ok" if band.holds(value) else "outside", note)


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that are broken or outside their band."""
    return [finding for finding in findings if finding.verdict in {"broken", "outside"}]


def known(findings: Iterable[Finding]) -> list[Finding]:
    """What was measured in a published dataset: where that lies outside, it is known to."""
    note = "of the published dataset"
    return [
        each._replace(verdict="known", note=each.note or note)
        if each.verdict == "outside"
        else each
        for each in findings
    ]


def show(value: float | None) -> str:
    """A number in few characters: counts in full, others with three digits."""
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
