"""From what YAML reads to the types of a config's fields."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any, Literal

from iqlft_workers.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be read or makes no sense."""


def nearest(name: str, names: list[str]) -> str:
    """` Did you mean ...?` for a mistyped name, or nothing."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def cast(value: Any, hint: Any, where: str) -> Any:  # noqa: ANN401
    """Casts a YAML value to a field's type: YAML reads `3e-4` and `1e6` as strings."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _cast_union(value, arguments, where)
    if origin is Annotated:
        return cast(value, arguments[0], where)
    if origin is tuple:
        return _cast_tuple(value, arguments, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r}, but must be a mapping.")
        return value
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r}, but must be one of {', '.join(arguments)}.")
        return value
    return _cast_scalar(value, hint, where)


def _cast_union(value: Any, hints: tuple[Any, ...], where: str) -> Any:  # noqa: ANN401
    """Casts to the first of the types that the value fits."""
    if value is None and type(None) in hints:
        return None
    errors = []
    for hint in hints:
        if hint is not type(None):
            try:
                return cast(value, hint, where)
            except ConfigError as error:
                errors.append(error)
    raise errors[0]


def _cast_tuple(value: Any, hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:  # noqa: ANN401
    """Casts a list, or a single text where any number of texts may stand."""
    if hints == (str, ...) and isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} is {value!r}, but must be a list.")
    if hints[-1] is ...:
        return tuple(cast(each, hints[0], where) for each in value)
    if len(value) != len(hints):
        raise ConfigError(f"{where} is {value!r}, but must hold {len(hints)} values.")
    return tuple(cast(each, hint, where) for each, hint in zip(value, hints, strict=True))


def _cast_scalar(value: Any, kind: type, where: str) -> Any:  # noqa: ANN401
    wrong = ConfigError(f"{where} is {value!r}, but must be {_article(kind)}.")
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise wrong
        return value
    try:
        if kind is int:
            number = float(value)
            if isinstance(value, bool) or number != int(number):
                raise wrong
            return int(value) if isinstance(value, int) else int(number)
        if isinstance(value, bool):
            raise wrong
        return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error


def _article(kind: type) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, f"a {kind.__name__.lower()}")
