"""Actions: which action spaces can be learned, and the map to [-1, 1] and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

UNBOUNDED = 1e9
"""Bounds of actions from here on, such as the greatest float, count as none."""


def actions_refusal(space: spaces.Space[Any], wrappers: Iterable[str] = ()) -> str:
    """Why actions of a space cannot be learned, and what to do; empty where they can.

    Args:
        space: of an environment, or of data.
        wrappers: names of the classes that were put around the environment.
    """
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return f"the action space {space}; real numbers with finite bounds are needed."
    if not unbounded_ends(space):
        return ""
    advice = (
        "ClipAction takes the bounds away, so record without it (actions are kept within the "
        "environment's own bounds anyhow)."
        if "ClipAction" in wrappers
        else "give the environment the bounds within which its actions make sense, and record "
        "again."
    )
    return f"the action space {space}; real numbers with finite bounds are needed: {advice}"


def unbounded_ends(space: spaces.Box) -> int:
    """How many lower and upper bounds are missing, over all values of an action."""
    # Negated, so that NaN counts as missing too.
    return int(np.count_nonzero(~(np.abs([space.low, space.high]) < UNBOUNDED)))


class ActionRange(NamedTuple):
    """The map of actions in an environment's units to [-1, 1] and back, for data and steps alike.

    If the bounds are +-1, centre and half range keep an action as it is, to the last bit.

    Attributes:
        low: `(A,)` float32.
        high: `(A,)` float32.
        centre: `(A,)` float32.
        half: `(A,)` float32, half of the range.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    centre: NDArray[np.float32]
    half: NDArray[np.float32]

    @classmethod
    def of(cls, low: Any, high: Any) -> ActionRange:  # noqa: ANN401
        """From bounds `(A,)` of any type of number, which float32 may not hold exactly."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        centre, half = (each.astype(np.float32) for each in ((high + low) / 2, (high - low) / 2))
        # Rounded inward: an environment of float64 may refuse what is beyond its bounds by a bit.
        inner = _at_least(low), -_at_least(-high)
        # Where float32 has no number within, the nearest one.
        lower, upper = (np.where(inner[0] > inner[1], centre, each) for each in inner)
        return cls(lower, upper, centre, half)

    def to_environment(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions `(..., A)` in [-1, 1] in the environment's units, within its bounds."""
        scaled = self.centre + actions * self.half
        # Rounding must not lead out of the bounds.
        inside: NDArray[np.float32] = np.minimum(np.maximum(scaled, self.low), self.high)
        return inside

    def to_unit(self, actions: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `to_environment`; 0 where lower and upper bound are the same."""
        half = np.where(self.half > 0, self.half, np.inf)
        scaled: NDArray[Any] = (actions - self.centre) / half
        return scaled

    def differs(self, other: ActionRange) -> bool:
        """Whether the other bounds differ, if they are of as many values; else False."""
        return self.low.shape == other.low.shape and not (
            np.allclose(self.low, other.low) and np.allclose(self.high, other.high)
        )

    def __str__(self) -> str:
        return f"[{_few(self.low)}, {_few(self.high)}]"


def _at_least(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The least numbers of float32 that are not below some values."""
    nearest = values.astype(np.float32)
    above: NDArray[np.float32] = np.nextafter(nearest, np.float32(np.inf))
    return np.where(nearest < values, above, nearest)


def _few(values: NDArray[Any]) -> str:
    """One number if all are the same; else the first ones."""
    if len(values) and (values == values[0]).all():
        return f"{values[0]:g}"
    shown = ", ".join(f"{each:g}" for each in values[:4])
    return f"({shown}{', ...' if len(values) > 4 else ''})"
