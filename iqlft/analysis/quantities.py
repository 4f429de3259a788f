"""Durations, sizes and numbers as texts, for console, report, figures and films alike."""

from __future__ import annotations


def duration(seconds: float | None, unknown: str = "not recorded") -> str:
    """Seconds as `12 s`, `19 min` or `1 h 57 min`."""
    if seconds is None:
        return unknown
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def clock(seconds: float | None, unknown: str = "unknown time") -> str:
    """Seconds as `1:57:05`, which keeps its width while it counts."""
    if seconds is None:
        return unknown
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def with_minus(number: str) -> str:
    """A number's text with a true minus sign, as wide as a plus."""
    return number.replace("-", "\N{MINUS SIGN}")


def mebibytes(size: float) -> str:
    """Bytes as `4.03 MiB`."""
    return f"{size / 2**20:,.2f} MiB"
