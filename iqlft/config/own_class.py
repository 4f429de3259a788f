"""Classes of a user's own, which are named as `package.module:Class`."""

from __future__ import annotations

import importlib
import traceback
from typing import TYPE_CHECKING, Any

from iqlft.config.errors import ConfigError, nearest
from iqlft_workers.failures import RAISED, described
from iqlft_workers.search_path import advice

if TYPE_CHECKING:
    from collections.abc import Collection


def imported(kind: str, name: str, known: Collection[str]) -> Any:  # noqa: ANN401
    """The object that `package.module:Class` names.

    Args:
        kind: what it should be, for error messages, such as `algorithm`.
        name: of the object.
        known: the names of those that are here, which `name` is none of.

    Raises:
        ConfigError: there is no such module or class, or the name is not of that form.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"There is no {kind} {name!r}.{nearest(name, known)} Known {kind}s: "
            f"{', '.join(known)}; one of your own is named as package.module:Class."
        )
    try:
        found = importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"The {kind} {name} cannot be imported ({error}); check the name, and that its folder "
            f"is on PYTHONPATH.{advice(module)}"
        ) from error
    except RAISED as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        # A syntax error says itself where it is, and its last line is one of Python's own.
        at = "" if isinstance(error, SyntaxError) else f" at {place.filename}:{place.lineno}"
        raise ConfigError(
            f"The {kind} {name} cannot be imported, because its module fails ({described(error)}"
            f"{at}); mend the module."
        ) from error
    if not hasattr(found, attribute):
        raise ConfigError(f"The module {module} has no class {attribute!r}.")
    return getattr(found, attribute)
