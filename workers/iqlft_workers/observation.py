"""From the observation that an environment or a dataset gives to one vector of numbers.

The rule: the leaves of a Dict in the space's own order (Gymnasium sorts the keys), depth first, or
the chosen ones, in the order chosen. A Box of any shape becomes its values, row by row; a
MultiBinary its zeros and ones; a Discrete a one-hot vector; a MultiDiscrete several in a row.
Images and texts are refused.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium import spaces

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MOST_CATEGORIES = 1000
"""The most values of a Discrete; a small network does not learn from longer one-hot vectors."""
_IMAGE_SIDE, _MOST_CHANNELS = 16, 4
"""Least height and width, and most channels, of a block of numbers that counts as an image."""


class EnvironmentMismatchError(UserError):
    """An environment cannot be made from its spec, or does not fit the data or the actor."""


class Leaf(NamedTuple):
    """One part of an observation.

    Attributes:
        key: in a Dict, with a slash between the keys of nested ones; empty: the whole observation.
        shape: of its values.
        categories: if discrete, how many values each of its numbers can take; else empty.
        first: if discrete, the least value of each of its numbers; else empty.
    """

    key: str
    shape: tuple[int, ...]
    categories: tuple[int, ...] = ()
    first: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Leaf:
        """From JSON data; another form raises `TypeError`."""
        key, *lists = data["key"], *(data[name] for name in cls._fields[1:])
        numbers = (each for part in lists for each in part)
        if not isinstance(key, str) or not all(type(each) is int for each in numbers):
            raise TypeError(f"A part of an observation cannot be {dict(data)!r:.99}.")
        return cls(key, *map(tuple, lists))

    @property
    def width(self) -> int:
        """How many numbers it takes in a flat observation."""
        return sum(self.categories) if self.categories else math.prod(self.shape)

    @property
    def is_vector(self) -> bool:
        """Whether it is a vector of numbers as it stands."""
        return len(self.shape) == 1 and not self.categories

    def flat(self, values: Any) -> NDArray[Any]:  # noqa: ANN401
        """Values `(..., *shape)` as `(..., width)`.

        Raises:
            EnvironmentMismatchError: a value is in none of its categories.
        """
        array = np.asarray(values)
        if self.is_vector:
            return array
        lead = array.shape[: array.ndim - len(self.shape)]
        if not self.categories:
            return array.reshape((*lead, self.width))
        numbers = array.reshape((*lead, len(self.categories)))
        hot = np.concatenate(
            [
                numbers[..., index, None] == np.arange(first, first + count)
                for index, (count, first) in enumerate(
                    zip(self.categories, self.first, strict=True)
                )
            ],
            axis=-1,
        )
        if np.count_nonzero(hot) != numbers.size:
            raise EnvironmentMismatchError(
                f"The observation {self.key or 'itself'} has the value {array.max()} or "
                f"{array.min()}, but counts from {self.first} and has {self.categories} values."
            )
        return hot


def flatten(observation: Any, leaves: Sequence[Leaf]) -> NDArray[np.float32]:  # noqa: ANN401
    """One observation, or a batch of them, as float32 along the last axis, `(..., O)`."""
    parts = [leaf.flat(pick(observation, leaf.key)) for leaf in leaves]
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def pick(tree: Any, key: str) -> Any:  # noqa: ANN401
    """The part under a key of a mapping or a Dict space; the whole under the empty key."""
    for name in key.split("/") if key else ():
        tree = tree[name]
    return tree


def leaf_spaces(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """The leaves of an observation space by their keys; a space that is no Dict is under ''.

    Raises:
        EnvironmentMismatchError: a key has a slash of its own.
    """
    if not isinstance(space, spaces.Dict):
        return {"": space}
    if slashed := next((name for name in space.spaces if "/" in name), None):
        raise EnvironmentMismatchError(
            f"it observes {slashed!r}, but a slash stands between the keys of nested observations; "
            "give this one another name"
        )
    return {
        f"{name}/{key}" if key else name: leaf
        for name, inner in space.spaces.items()
        for key, leaf in leaf_spaces(inner).items()
    }


def observed_leaves(space: spaces.Space[Any], keys: Sequence[str] = ()) -> tuple[Leaf, ...]:
    """The leaves that make up an observation.

    Args:
        space: an observation space.
        keys: of leaves, or of Dicts of leaves, to take in this order; empty: all.

    Raises:
        EnvironmentMismatchError: there is no such key, or a leaf is an image, a text or of another
            kind that no vector can hold.
    """
    found = leaf_spaces(space)
    if "" in found and keys:
        raise EnvironmentMismatchError(
            f"it has one observation array, so observation_keys must be empty, not {list(keys)}"
        )
    chosen = [each for key in keys for each in _under(found, key)] or list(found)
    if twice := next((key for key in chosen if chosen.count(key) > 1), None):
        raise EnvironmentMismatchError(f"observation_keys names {twice!r} twice")
    for key in chosen:
        if reason := _obstacle(found[key]):
            usable = " ".join(usable_keys(space))
            advice = f"choose others: --observation-keys {usable}"
            if not usable:
                advice = "wrap the environment so that it observes numbers"
            name = f"the observation {key!r}" if key else "the observation"
            raise EnvironmentMismatchError(
                f"{name} is {reason}, which cannot be learned from; {advice}"
            )
    return tuple(_leaf(key, found[key]) for key in chosen)


def usable_keys(space: spaces.Space[Any]) -> list[str]:
    """The keys of the leaves that a vector can hold."""
    return [key for key, leaf in leaf_spaces(space).items() if not _obstacle(leaf)]


def _under(found: Mapping[str, Any], key: str) -> list[str]:
    """The leaf of this key, or the leaves of the Dict of this key."""
    chosen = [each for each in found if each == key or each.startswith(f"{key}/")]
    if not chosen:
        near = difflib.get_close_matches(key, found, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise EnvironmentMismatchError(f"it observes {', '.join(found)}, not {key!r}{hint}")
    return chosen


def _obstacle(space: spaces.Space[Any]) -> str:
    """What keeps a leaf from being a vector; empty if nothing does."""
    if isinstance(space, spaces.Text):
        return "a text"
    if isinstance(space, spaces.Box):
        return f"an image of the shape {space.shape}" if _is_image(space) else ""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        most = int(np.max(space.n if isinstance(space, spaces.Discrete) else space.nvec))
        return f"one of {most:,} values" if most > MOST_CATEGORIES else ""
    return "" if isinstance(space, spaces.MultiBinary) else f"of the kind {space}"


def _is_image(space: spaces.Box) -> bool:
    """Whether a Box is an image: rows of bytes, or a block with few channels first or last."""
    if space.dtype == np.uint8 and len(space.shape) > 1:
        return True
    if len(space.shape) != 3:
        return False
    first, *middle, last = space.shape
    sides = [first, *middle] if last <= _MOST_CHANNELS else [*middle, last]
    return min(first, last) <= _MOST_CHANNELS and min(sides) >= _IMAGE_SIDE


def _leaf(key: str, space: spaces.Space[Any]) -> Leaf:
    shape = tuple(space.shape or ())
    if isinstance(space, spaces.Discrete):
        return Leaf(key, shape, (int(space.n),), (int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(getattr(space, "start", 0), space.nvec.shape)
        return Leaf(key, shape, tuple(space.nvec.ravel().tolist()), tuple(start.ravel().tolist()))
    return Leaf(key, shape)


def observation_bounds(
    space: spaces.Space[Any], leaves: Sequence[Leaf]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower and upper bounds of a flat observation, `(O,)` each."""
    ends: list[list[NDArray[Any]]] = [[], []]
    for leaf in leaves:
        part = pick(space, leaf.key)
        is_box = isinstance(part, spaces.Box)
        ends[0].append(part.low.ravel() if is_box else np.zeros(leaf.width))
        ends[1].append(part.high.ravel() if is_box else np.ones(leaf.width))
    low, high = (np.concatenate(each).astype(np.float32) for each in ends)
    return low, high
