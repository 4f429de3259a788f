"""Durations, sizes and numbers as texts, for console, report, figures and videos."""

from __future__ import annotations

import math
import re
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iqlft.analysis.statistics import Estimate

_NOTHING = 1e-9
"""Numbers smaller than this are 0 but for rounding errors."""
_WHOLE = 1e9
"""Larger numbers have no decimals that matter."""
_MOST_DIGITS = 6
"""Most decimals of a number."""


def duration(seconds: float | None) -> str:
    """Seconds as `12 s`, `19 min` or `1 h 57 min`."""
    if seconds is None:
        return "not recorded"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def clock(seconds: float | None, unknown: str = "unknown time") -> str:
    """Seconds as `1:57:05`, whose width stays the same while it counts."""
    if seconds is None:
        return unknown
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def with_minus(text: str) -> str:
    """The text with true minus signs, as wide as a plus, instead of hyphens before numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text)


def rounded(value: float, digits: int = 0) -> float:
    """The value rounded, halves away from 0, and never to -0, which would show its sign.

    Args:
        value: of any size.
        digits: decimals to keep.
    """
    if not abs(value) < _WHOLE:
        return value
    # A computed 0.285 may lie slightly below 0.285.
    size = math.floor(abs(value) * 10**digits + 0.5 + _NOTHING) / 10**digits
    return math.copysign(size, value) + 0.0


def estimate_text(
    estimate: Estimate, *, digits: int = 1, bound_digits: int = 0, signed: bool = False
) -> str:
    """`55.0 [42, 68]`, or `55.0` without an interval.

    Decimals are added where rounding would turn a nonzero number into 0, make different bounds
    equal, or put the value outside its bounds.

    Args:
        estimate: what to show.
        digits: fewest decimals of the value.
        bound_digits: fewest decimals of the bounds.
        signed: whether 0 and positive values have a plus sign.
    """
    for more in count():
        # The bounds first get as many decimals as the value.
        bound = max(bound_digits, digits + more - 1) if more else bound_digits
        places = max(digits, bound), bound, bound
        shown = [rounded(*each) for each in zip(estimate, places, strict=True)]
        if bound >= _MOST_DIGITS or _is_honest(estimate, shown):
            break
    value, *ends = (f"{number:.{place}f}" for number, place in zip(shown, places, strict=True))
    sign = "+" if signed and shown[0] >= 0 else ""
    return f"{sign}{value}" + f" [{', '.join(ends)}]" * estimate.has_interval


def _is_honest(estimate: Estimate, shown: list[float]) -> bool:
    """Whether the rounded numbers do not mislead about the exact ones, see `estimate_text`."""
    value, lower, upper = shown
    if any(
        not short and abs(exact) > _NOTHING for short, exact in zip(shown, estimate, strict=True)
    ):
        return False
    return not estimate.has_interval or (
        lower <= value <= upper and (lower < upper or estimate.upper - estimate.lower < _NOTHING)
    )


def mebibytes(size: float) -> str:
    """Bytes as `4.03 MiB`."""
    return f"{size / 2**20:,.2f} MiB"
