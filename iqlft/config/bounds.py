"""Types of settings that carry the bounds of their values, and the check of those bounds."""

from __future__ import annotations

import math
import typing
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

Count = Annotated[int, Ge(1)]
"""A number of at least one."""
Size = Annotated[int, Ge(0)]
"""A number from 0, where 0 may stand for none or for a default."""
LAST_PORT = 65534
"""The last TCP port that is followed by another one."""
Port = Annotated[int, Interval(ge=0, le=LAST_PORT)]
"""A TCP port that is used together with the next one, or 0 for any two free ports."""
Share = Annotated[float, Interval(ge=0, le=1)]
"""A share or a probability."""
Positive = Annotated[float, Interval(ge=1e-6, lt=math.inf)]
"""A finite rate or ratio that is large enough to have an effect."""
NonNegative = Annotated[float, Interval(ge=0, lt=math.inf)]
"""A standard deviation, or another finite number of at least 0."""
Real = Annotated[float, Interval(gt=-math.inf, lt=math.inf)]
"""Any finite number."""


def violated(kind: Any, value: Any) -> str:  # noqa: ANN401
    """The requirement of a type that a value violates, such as `be at least 1`; empty if none.

    Args:
        kind: a field's type with its annotations; in a union, the bounds apply to numbers, and
            strings must be one of the literals.
        value: the field's value; NaN violates every bound.
    """
    choices = _choices(kind)
    chosen = isinstance(value, str) or typing.get_origin(kind) is Literal
    if choices and chosen and value not in choices:
        return f"be one of {', '.join(map(str, choices))}"
    if not isinstance(value, int | float):
        return ""
    for bound in _bounds(kind):
        if not _within(bound, value):
            return _sentence(bound)
    return ""


def _choices(kind: Any) -> list[Any]:  # noqa: ANN401
    if typing.get_origin(kind) is Literal:
        return list(typing.get_args(kind))
    if str in typing.get_args(kind):
        return []
    return [choice for part in typing.get_args(kind) for choice in _choices(part)]


def _bounds(kind: Any) -> list[Interval]:  # noqa: ANN401
    found = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Ge | Interval)]
    intervals = [Interval(ge=each.ge) if isinstance(each, Ge) else each for each in found]
    return intervals + [bound for part in typing.get_args(kind) for bound in _bounds(part)]


def _within(bound: Interval, value: Any) -> bool:  # noqa: ANN401
    return (
        (bound.ge is None or value >= bound.ge)
        and (bound.gt is None or value > bound.gt)
        and (bound.le is None or value <= bound.le)
        and (bound.lt is None or value < bound.lt)
    )


def _sentence(bound: Interval) -> str:
    low = bound.gt if bound.ge is None else bound.ge
    high = bound.lt if bound.le is None else bound.le
    if high is None:
        return f"be at least {low}"
    if high == math.inf:
        return "be finite" if low == -math.inf else f"be a finite number from {low}"
    opening, closing = "(["[bound.ge is not None], ")]"[bound.le is not None]
    return f"lie in {opening}{low}, {high}{closing}"
