"""`iqlft completion SHELL`: what completes commands, actions, flags and choices; tyro writes it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Annotated, Any, Literal, Union

import tyro

from iqlft.cli import arguments
from iqlft.cli.parsing import groups_of
from iqlft.config import settings as configs
from iqlft.config.values import TYPES

_DATA: dict[str, Any] = {
    "list": arguments.Nothing,
    "make": arguments.MakeData,
    "download": arguments.DownloadData,
    "import": arguments.ImportData,
    "check": arguments.CheckData,
    "plot": arguments.PlotData,
}
"""Actions of `iqlft data`, and what they take."""
_COMMANDS: dict[str, Any] = {
    "sweep": arguments.SweepRuns,
    "resume": arguments.ResumeRun,
    "list": arguments.ListRuns,
    "evaluate": arguments.EvaluateRun,
    "plot": arguments.PlotRuns,
    "table": arguments.TableRuns,
    "report": arguments.ReportRuns,
    "video": arguments.FilmRun,
    "clean": arguments.CleanRuns,
    "export": arguments.ExportRun,
    "worker": arguments.JoinLearner,
    "workers": arguments.LaunchWorkers,
    "doctor": arguments.Nothing,
    "completion": arguments.Complete,
}
"""Commands but those of training and those with actions, and what they take."""


@dataclasses.dataclass(frozen=True)
class _Keys:
    """Make keys for a learner and its workers."""

    action: Annotated[Literal["new"], tyro.conf.Positional]
    """What to do."""
    rest: arguments.NewKeys
    """Its arguments."""


def completion(shell: str) -> str:
    """The script that completes `iqlft` in a shell.

    Args:
        shell: `bash`, `zsh` or `fish`.
    """
    training: dict[str, configs.PretrainConfig | configs.FinetuneConfig] = {
        "pretrain": configs.PretrainConfig(),
        "finetune": configs.FinetuneConfig(),
        "run": configs.RunConfig(),
        "demo": configs.RunConfig(),
    }
    branches = [_branch(name, groups_of(config)) for name, config in training.items()]
    branches += [_branch(name, kind) for name, kind in _COMMANDS.items()]
    branches += [_actions("data", _DATA), _branch("keys", _Keys)]
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
    # Shells show a description on one line; within the script's strings a new one is `\n`.
    return "\n".join(
        each.replace(r"\n", " ") if each.startswith("COMPLETION_SPEC") else each
        for each in written.getvalue().splitlines()
    )


def _branch(name: str, what: Any) -> Any:  # noqa: ANN401
    """A command by its name, and a dataclass of its arguments or one with their defaults."""
    kind = what if isinstance(what, type) else type(what)
    default = {} if kind is what else {"default": what}
    return Annotated[kind, tyro.conf.subcommand(name, prefix_name=False, **default)]


def _actions(name: str, actions: dict[str, Any]) -> Any:  # noqa: ANN401
    """A command whose first argument is the name of an action."""
    chosen: Any = Union[tuple(_branch(*each) for each in actions.items())]  # noqa: UP007 -- of a list
    return _branch(name, dataclasses.make_dataclass(name, [("action", chosen)]))
