"""Reads values of YAML files as tyro reads the command line, so that there is one set of rules."""

from __future__ import annotations

import types
import typing
from contextlib import suppress
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from iqlft.config.errors import ConfigError

TYPES = ConstructorRegistry()
"""tyro's rules, plus whole numbers written as `1e6`, for the command line and files alike."""


@TYPES.primitive_rule
def _whole_number(about: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    if about.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


@TYPES.primitive_rule
def _or_none(about: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A single value or None, shown with the value's metavar alone; the help text explains None."""
    kinds = typing.get_args(about.type)
    union = typing.get_origin(about.type) in (types.UnionType, typing.Union)
    if not union or types.NoneType not in kinds:
        return None
    (kind, *others) = (each for each in kinds if each is not types.NoneType)
    rest: Any = typing.Union[kind, *others]  # A union of one type is that type.
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(rest, set()))
    if not isinstance(spec, PrimitiveConstructorSpec) or spec.nargs != 1:
        return None

    def from_str(words: list[str]) -> Any:  # noqa: ANN401
        if words == ["None"]:
            return None
        try:
            return spec.instance_from_str(words)
        except ValueError:
            # Where it could be no value: a folder, say, may be called `none`.
            if words[0].lower() == "none":
                return None
            raise

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=spec.metavar,
        instance_from_str=from_str,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: (
            ["None"] if value is None else spec.str_from_instance(value)
        ),
        choices=None if spec.choices is None else (*spec.choices, "None"),
    )


def whole_number(text: str) -> int:
    """The number of `3`, `50_000`, `1e6` or `2.0`.

    Raises:
        ValueError: it is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        with suppress(ValueError):
            if (number := float(text)).is_integer():
                return int(number)
        raise ValueError(f"{text!r} is not a whole number") from None


def read(value: Any, kind: Any, key: str, source: str) -> Any:  # noqa: ANN401
    """A YAML value as the type of its field.

    Args:
        value: from the file; a single string may stand for a list of one.
        kind: type of the field.
        key: name of the field.
        source: where the value comes from, for the message.

    Raises:
        ConfigError: the value is of another type.
    """
    with TYPES:
        spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    if not isinstance(spec, PrimitiveConstructorSpec):
        raise TypeError(f"tyro cannot read {kind}, the type of {key}")
    words = [str(each) for each in (value if isinstance(value, list | tuple) else [value])]
    wrong = ConfigError(f"{source}: {key} is {value!r}, but must be {spec.metavar}.")
    fits = not isinstance(spec.nargs, int) or spec.nargs == len(words)
    if not fits or not (spec.choices is None or set(words) <= set(spec.choices)):
        raise wrong
    try:
        result = spec.instance_from_str(words)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if not _same(value, result):
        raise wrong
    return result


def _same(value: Any, result: Any) -> bool:  # noqa: ANN401
    """Whether a value kept its type in reading: `null` and 3 must not become strings."""
    if isinstance(value, str):
        return True
    if isinstance(value, list | tuple):
        return isinstance(result, tuple) and all(map(_same, value, result))
    return bool(result == value)
