"""`iqlft data ...`: list, make, download, import, check and draw datasets."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from iqlft.cli.arguments import (
    CheckData,
    DownloadData,
    ImportData,
    MakeData,
    Nothing,
    OneDataset,
    PlotData,
)
from iqlft.cli.console import EpisodeProgress
from iqlft.cli.outputs import console, writing
from iqlft.cli.parsing import no_arguments, parse
from iqlft.config.errors import ConfigError, nearest
from iqlft.config.layers import load_task, task_names
from iqlft_workers.files import write_output
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqlft.datasets.imported import ImportedDataset

Chosen = TypeVar("Chosen", bound=OneDataset)

_PUBLISHED = {
    True: "\nIt is the published dataset, bit by bit.",
    False: "\nIt is another dataset than the published one of this id, and labelled so.",
    None: "",
}
"""Sentence about a dataset just made, by whether it is the published one."""


def run(arguments: list[str]) -> str:
    """Runs an action.

    Args:
        arguments: the action's name and its own arguments.

    Returns:
        The text to print.

    Raises:
        UserError: there is no such action, or the action fails.
    """
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        lines = [f"  {each:10s}{action.__doc__}" for each, (action, _) in ACTIONS.items()]
        return "usage: iqlft data ACTION [...]\n\n" + "\n".join(lines)
    if name not in ACTIONS:
        near = nearest(name, list(ACTIONS))
        raise ConfigError(f"There is no action {name!r}.{near} See `iqlft data --help`.")
    action, _ = ACTIONS[name]
    return action(arguments[1:])


def _list(arguments: list[str]) -> str:
    """List the datasets on this machine."""
    no_arguments("data list", arguments)
    from iqlft.datasets.catalogue import list_local  # noqa: PLC0415

    return (
        "\n".join(
            f"{each.id:34s}  damaged: {each.damage}"
            if each.damage
            else f"{each.id:34s}{each.transitions:>12,} transitions{each.episodes:>8,} episodes"
            f"{each.size_bytes / 2**20:>8,.0f} MiB"
            for each in list_local()
        )
        or "No datasets yet; make one with `iqlft data make antmaze-umaze`."
    )


def _make(arguments: list[str]) -> str:
    """Generate an AntMaze dataset by D4RL's procedure."""
    chosen = parse("data make", MakeData, arguments)
    from iqlft.datasets.antmaze.generation import make_dataset  # noqa: PLC0415

    with EpisodeProgress(console()) as progress:
        made = make_dataset(
            chosen.task,
            transitions=chosen.transitions,
            noise=chosen.noise,
            processes=chosen.processes,
            seed=chosen.seed,
            gait=chosen.gait,
            policy=chosen.policy,
            force=chosen.force,
            progress=progress,
        )
    resumed = f" ({made.resumed_episodes} were there already)" if made.resumed_episodes else ""
    return (
        f"Made {made.id}: {made.transitions:,} transitions in {made.episodes:,} whole episodes"
        f"{resumed}, in {made.seconds:.0f} s.{_PUBLISHED[made.published]}"
    )


def _of_task(chosen: Chosen) -> Chosen:
    """The same arguments, with a task's name replaced by the id of its dataset."""
    if chosen.id not in task_names():
        return chosen
    return dataclasses.replace(chosen, id=load_task(chosen.id)["dataset"])


def _download(arguments: list[str]) -> str:
    """Download a dataset from Minari's server."""
    chosen = _of_task(parse("data download", DownloadData, arguments))
    from iqlft.datasets.catalogue import download  # noqa: PLC0415

    download(chosen.id, force=chosen.force)
    return f"Downloaded {chosen.id}."


def _import(arguments: list[str]) -> str:
    """Turn arrays (.npz, OGBench's too) or one of D4RL's HDF5 files into a dataset."""
    chosen = parse("data import", ImportData, arguments)
    from iqlft.datasets.npz import is_npz  # noqa: PLC0415

    arrays = is_npz(chosen.file)
    made = _import_npz(chosen) if arrays else _import_d4rl(chosen)
    lines = [
        f"  {name:46s}{f'{value:,}' if isinstance(value, int) else f'{value:.3g}':>12s}"
        for name, value in made.report.items()
    ]
    task = f" --task {chosen.task}" if chosen.task else ""
    blind = " --eval-episodes 0" if arrays and not chosen.environment else ""
    return "\n".join(
        (
            f"Imported {chosen.file} as {made.id} (neither an official nor a regenerated dataset).",
            *lines,
            *map(printable, made.notes),
            f"Pretrain on it: iqlft pretrain{task} --dataset {made.id}{blind}",
        )
    )


def _import_npz(chosen: ImportData) -> ImportedDataset:
    from iqlft.datasets.npz import import_npz  # noqa: PLC0415

    if chosen.task is not None or chosen.episode_steps is not None:
        raise ConfigError(
            "--task and --episode-steps are for D4RL's HDF5 files; name what an .npz file was "
            "recorded in with --environment, if anyone can make it."
        )
    return import_npz(
        chosen.file, environment=chosen.environment, dataset_id=chosen.id, force=chosen.force
    )


def _import_d4rl(chosen: ImportData) -> ImportedDataset:
    from iqlft.datasets.d4rl.importing import import_file  # noqa: PLC0415

    return import_file(
        chosen.file,
        task=chosen.task,
        environment=chosen.environment,
        dataset_id=chosen.id,
        episode_steps=chosen.episode_steps,
        force=chosen.force,
    )


def _check(arguments: list[str]) -> str:
    """Audit a dataset: its form, a replay, and comparison with D4RL's bands."""
    chosen = _of_task(parse("data check", CheckData, arguments))
    from iqlft.datasets.audit.audit import check  # noqa: PLC0415
    from iqlft.datasets.audit.findings import (  # noqa: PLC0415
        AuditFailedError,
        failures,
        format_findings,
    )

    findings = check(chosen.id, trust=chosen.trust)
    report = format_findings(findings, chosen.style)
    if chosen.style == "markdown":
        report = f"# {chosen.id}\n\n{report}"
    if chosen.out is not None:
        with writing(chosen.out):
            write_output(chosen.out, printable(report, keep="\n") + "\n")
        report = f"Wrote {chosen.out}"
    failed = [finding.name for finding in failures(findings)]
    if failed:
        raise AuditFailedError(f"{chosen.id} is not as it should be: {'; '.join(failed)}.", report)
    return report


def _plot(arguments: list[str]) -> str:
    """Draw a dataset: a maze's visits, starts, goals and rewards, or returns and lengths."""
    chosen = _of_task(parse("data plot", PlotData, arguments))
    from iqlft.figures.dataset import plot_dataset  # noqa: PLC0415
    from iqlft.figures.style import FORMATS, drawn_as  # noqa: PLC0415

    usual = chosen.id.replace("/", "-")
    out = chosen.out or Path(usual)
    if chosen.out is not None and out.is_dir():
        out /= usual
    _, name, kinds = drawn_as(out)
    kinds = FORMATS if set(kinds) <= set(FORMATS) else kinds
    with writing(out), tempfile.TemporaryDirectory() as folder:
        drawn = plot_dataset(chosen.id, Path(folder), name or out.name, kinds, trust=chosen.trust)
        out.parent.mkdir(parents=True, exist_ok=True)
        for path in drawn:
            write_output(out.parent / path.name, path.read_bytes())
    return "\n".join(f"Drew {out.parent / path.name}" for path in drawn)


ACTIONS: dict[str, tuple[Callable[[list[str]], str], Any]] = {
    "list": (_list, Nothing),
    "make": (_make, MakeData),
    "download": (_download, DownloadData),
    "import": (_import, ImportData),
    "check": (_check, CheckData),
    "plot": (_plot, PlotData),
}
"""The actions by name: the function, and the dataclass of its arguments."""
