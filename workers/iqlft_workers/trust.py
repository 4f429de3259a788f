"""May code that data name be run? The one rule for datasets, runs, policies and workers.

What a dataset or a policy records of its environment (entry point, wrappers, arguments) is data. It
is imported or called only if an installed package registers it with Gymnasium, or the user allows
it: by `--trust`, or by naming the environment. A package is imported to see what it registers only
if it mentions Gymnasium itself, and never one of its submodules.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from iqlft_workers.errors import UserError
from iqlft_workers.failures import RAISED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w./-]*")
"""What names code: `module:attribute`, or `module:id` as `gymnasium.make` reads it."""
WRAPPERS = "gymnasium.wrappers."
"""Where Gymnasium's own wrappers are."""


class UntrustedError(UserError):
    """Data name code that nobody has vouched for."""


def require_trust(
    what: str, names: Iterable[str], kwargs: Mapping[str, Any] | None = None, *, trust: bool = False
) -> None:
    """Refuses code that data name, unless it is registered or the user trusts it.

    Args:
        what: whose code it is, for the message.
        names: entry points, or ids with their module.
        kwargs: what the code would be called with; code that they name follows the same rule.
        trust: whether the user trusts the code.

    Raises:
        UntrustedError: it is neither registered nor trusted.
    """
    if trust:
        return
    inner = filter(_CODE.fullmatch, _texts(kwargs or {}))
    for name in (*names, *inner):
        if _is_here(name) and not is_registered(name):
            arguments = f" with {dict(kwargs)!r:.200}" if kwargs else ""
            raise UntrustedError(
                f"{what!r:.99} would run {name!r:.99}{arguments}, which the data name and no "
                "installed package registers with Gymnasium, so nothing is run; install the "
                "package that registers it, name an environment (--environment ID), or say "
                "--trust if you trust where the data come from."
            )


def is_registered(name: str) -> bool:
    """Whether an installed package registers this code with Gymnasium.

    Args:
        name: an entry point of an environment or of a wrapper that a registered one has, a wrapper
            of Gymnasium's own, or an id with the package that registers it.
    """
    module, _, attribute = name.partition(":")
    if name in _registered():
        return True
    if name.startswith(WRAPPERS):
        return _is_wrapper(module, attribute)
    package = module.partition(".")[0]
    if not _registers_environments(package):
        return False
    with contextlib.suppress(*RAISED):  # a package that cannot be imported registers nothing
        importlib.import_module(package)
    return name in _registered() or (module == package and attribute in gymnasium.registry)


def _registered() -> set[object]:
    """The entry points of all environments that are registered now, and of their wrappers."""
    specs = gymnasium.registry.values()
    wrappers = {wrapper.entry_point for spec in specs for wrapper in spec.additional_wrappers}
    return {spec.entry_point for spec in specs if isinstance(spec.entry_point, str)} | wrappers


def _is_wrapper(module: str, attribute: str) -> bool:
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return False
    return isinstance(found, type) and issubclass(found, gymnasium.Wrapper)


def _registers_environments(package: str) -> bool:
    """Whether a package mentions Gymnasium in its source or its requirements, without an import."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if found is None or found.origin is None or not found.has_location:
        return False
    if package in {"gymnasium", "iqlft_workers"}:
        return True
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if "gymnasium" in Path(found.origin).read_text(encoding="utf-8"):
            return True
    return any("gymnasium" in line for line in _requirements(package))


def _requirements(package: str) -> Iterator[str]:
    """The requirements of the distributions that provide a package."""
    for distribution in metadata.packages_distributions().get(package, ()):
        yield from metadata.requires(distribution) or ()


def _is_here(name: str) -> bool:
    """Whether there is a module to import for this name; without one nothing can be run."""
    if name.partition(":")[0].partition(".")[0] in sys.modules:
        return True  # Even without a spec, as for a script.
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(name.partition(":")[0].partition(".")[0]) is not None
    return False


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401
    """All texts within arguments, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
