"""`iqlft completion SHELL`: tyro's script that completes commands, actions, flags and choices."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from iqlft.cli.parsing import groups_of
from iqlft.config import settings as configs
from iqlft.config.values import TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping


def completion(shell: str, takes: Mapping[str, Any]) -> str:
    """The script that completes `iqlft` in a shell.

    Args:
        shell: `bash`, `zsh` or `fish`.
        takes: the arguments of each command by its name: a dataclass, a training command's config
            with its defaults, or a mapping of those by the names of actions.
    """
    branches = [_branch(*each) for each in takes.items()]
    commands: Any = Union[tuple(branches)]  # noqa: UP007 -- of a list
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        tyro.cli(
            commands,
            args=["--tyro-print-completion", shell],
            prog="iqlft",
            config=(tyro.conf.OmitArgPrefixes,),
            registry=TYPES,
        )
    # Shells show a description on one line; the script spells line breaks in it as `\n`.
    return "\n".join(
        each.replace(r"\n", " ") if each.startswith("COMPLETION_SPEC") else each
        for each in written.getvalue().splitlines()
    )


def _branch(name: str, what: Any) -> Any:  # noqa: ANN401
    """The type of a command or action for tyro, from its name and its arguments."""
    if isinstance(what, dict):
        # The first argument is the name of an action.
        action: Any = Union[tuple(_branch(*each) for each in what.items())]  # noqa: UP007 -- of a list
        what = dataclasses.make_dataclass(name, [("action", action)])
    if isinstance(what, configs.PretrainConfig | configs.FinetuneConfig):
        what = groups_of(what)
    kind = what if isinstance(what, type) else type(what)
    default = {} if kind is what else {"default": what}
    return Annotated[kind, tyro.conf.subcommand(name, prefix_name=False, **default)]
