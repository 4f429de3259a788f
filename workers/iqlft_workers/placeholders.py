"""`{worker}` in an environment's arguments, for simulators that each need a port of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\{worker(?: *\+ *(\d+))?\}")


def filled(value: Any, worker_id: int = 0) -> Any:  # noqa: ANN401
    """An argument with the worker's id in place of `{worker}`, and id + N for `{worker+N}`.

    Args:
        value: of any type; in lists and mappings every text is filled.
        worker_id: of the worker that builds the environment; 0 in the learner, which builds one to
            inspect it, and closes it before its workers start.

    Returns:
        The filled value; a text that is nothing but the placeholder becomes a number.
    """
    if isinstance(value, Mapping):
        return {key: filled(each, worker_id) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(each, worker_id) for each in value)
    if not isinstance(value, str):
        return value

    def number(match: re.Match[str]) -> int:
        return worker_id + int(match[1] or 0)

    if (alone := _PLACEHOLDER.fullmatch(value)) is not None:
        return number(alone)
    return _PLACEHOLDER.sub(lambda match: str(number(match)), value)
