"""Commands on existing runs: `list`, `evaluate`, `plot`, `table`, `report`, `video` and others.

Each takes the command's arguments and returns the text to print.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqlft.cli.arguments import (
    CleanRuns,
    EvaluateRun,
    ExportRun,
    FilmRun,
    ListRuns,
    PlotRuns,
    ReportRuns,
    TableRuns,
)
from iqlft.cli.outputs import console, writing
from iqlft.cli.parsing import parse
from iqlft_workers.errors import UserError
from iqlft_workers.files import write_output
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.runs.folder import Run


def evaluate(arguments: list[str]) -> str:
    """Evaluate the newest policy of a run, or that of a checkpoint."""
    chosen = parse("evaluate", EvaluateRun, arguments)
    from iqlft.cli.console import EpisodeProgress  # noqa: PLC0415
    from iqlft.training.evaluate import evaluation  # noqa: PLC0415

    with contextlib.ExitStack() as shown:
        if chosen.json:  # Then nothing else may go to standard output, nor what environments print.
            shown.enter_context(contextlib.redirect_stdout(sys.stderr))
        progress = shown.enter_context(EpisodeProgress(console(stderr=chosen.json)))
        found = evaluation(
            chosen.run,
            chosen.episodes,
            chosen.workers,
            trust=chosen.trust,
            patience_seconds=chosen.patience,
            max_episode_steps=chosen.max_episode_steps,
            checkpoint=chosen.checkpoint,
            progress=progress,
        )
    return as_json(found.numbers()) if chosen.json else aligned(found.rows())


def list_(arguments: list[str]) -> str:
    """List runs: status, steps, last score, size and age."""
    chosen = parse("list", ListRuns, arguments)
    from iqlft.analysis.quantities import duration, mebibytes  # noqa: PLC0415
    from iqlft.cli.panel import score_text  # noqa: PLC0415
    from iqlft.runs.listing import list_runs  # noqa: PLC0415

    roots = chosen.run or (chosen.runs,)
    found = list_runs(*roots)
    if chosen.json:
        rows = [each._asdict() | {"folder": str(each.folder)} for each in found]
        for row, each in zip(rows, found, strict=True):
            row["last"] = each.last and each.last._asdict()
        return as_json(rows)
    if not found:
        places = ", ".join(f"{root}/" for root in roots)
        return f"No runs under {places} yet; make one with `iqlft pretrain`."
    heads = ("run", "status", "updates", "env steps", "last score", "size", "age")
    texts = [
        (
            str(each.folder),
            each.status,
            f"{each.updates:,}",
            f"{each.env_steps:,}",
            score_text(each.last) if each.last else "none yet",
            mebibytes(each.size_bytes),
            duration(each.age_seconds),
        )
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    lines = (
        "  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *texts)
    )
    return "\n".join(lines)


def as_json(value: Any) -> str:  # noqa: ANN401
    """Data as JSON; numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def plot(arguments: list[str]) -> str:
    """Draw the before/after score curve."""
    return draw(parse("plot", PlotRuns, arguments))


def table(arguments: list[str]) -> str:
    """Tabulate before -> after per task, beside published results."""
    chosen = parse("table", TableRuns, arguments)
    from iqlft.analysis.table import format_table  # noqa: PLC0415

    text = format_table(
        _curves(list(chosen.run), chosen.runs), chosen.style, published=chosen.published
    )
    if chosen.out is None:
        return text.rstrip("\n")
    with writing(chosen.out):
        write_output(chosen.out, printable(text, keep="\n"))
    return f"Wrote {chosen.out}"


def report(arguments: list[str]) -> str:
    """Write one HTML page with curves, table, diagnostics and maps of runs."""
    chosen = parse("report", ReportRuns, arguments)
    from iqlft.report.page import NAME, write_report  # noqa: PLC0415

    curves = _curves(list(chosen.run), chosen.runs)
    out = chosen.out or _plots_folder(curves, chosen.runs)
    folder, name = _folder_and_name(out, NAME)
    with console_reporter() as reporter, writing(out):
        page = write_report(curves, folder, reporter.event, name=name)
    return f"Wrote {page}"


def video(arguments: list[str]) -> str:
    """Film the best, median and worst evaluation episodes, before and after."""
    chosen = parse("video", FilmRun, arguments)
    from iqlft.video.video import NAME, film_run  # noqa: PLC0415

    out = chosen.out or chosen.run / "plots"
    folder, name = _folder_and_name(out, NAME)
    with console_reporter() as reporter, writing(out):
        filmed = film_run(
            chosen.run,
            folder,
            chosen.episodes,
            chosen.workers,
            reporter.event,
            trust=chosen.trust,
            patience_seconds=chosen.patience,
            name=name,
        )
    return "\n".join(f"Filmed {path}" for path in filmed)


def clean(arguments: list[str]) -> str:
    """Remove from finished runs what is needed only to resume them."""
    chosen = parse("clean", CleanRuns, arguments)
    from iqlft.analysis.quantities import mebibytes  # noqa: PLC0415
    from iqlft.runs.errors import RunError  # noqa: PLC0415
    from iqlft.runs.folder import Run  # noqa: PLC0415
    from iqlft.training.clean import clean as clean_run  # noqa: PLC0415
    from iqlft.training.clean import require_finished  # noqa: PLC0415

    if not chosen.run and chosen.drop_batches:
        raise RunError(
            "Name the run first, because everything after --drop-batches is read as a batch: "
            "`iqlft clean RUN --drop-batches WORKER:EPISODE:BATCH ...`."
        )
    if not chosen.run:
        raise RunError("Name the runs to clean: `iqlft clean RUN...`; `iqlft list` shows them.")
    runs, said = [Run.open(folder) for folder in chosen.run], []
    if chosen.drop_batches:
        return _drop(runs, chosen)
    for run in runs:
        require_finished(run)
    for run in runs:
        parts = clean_run(run, dry_run=chosen.dry_run)
        freed = f"{'Would free' if chosen.dry_run else 'Freed'} {mebibytes(sum(parts.values()))}"
        names = ", ".join(f"{name} {mebibytes(size)}" for name, size in parts.items())
        said.append(f"{run.folder}: {f'{freed}: {names}' if parts else 'nothing to free'}")
    return "\n".join(said)


def _drop(runs: Sequence[Run], chosen: CleanRuns) -> str:
    """Removes batches from a run's journal; returns the text to print."""
    from iqlft.runs.errors import RunError  # noqa: PLC0415
    from iqlft.training.clean import drop  # noqa: PLC0415

    if len(runs) > 1:
        raise RunError("Batches have names in one run alone; name one run with --drop-batches.")
    dropped = drop(runs[0], chosen.drop_batches, dry_run=chosen.dry_run)
    steps, folder = sum(each.steps for each in dropped), runs[0].folder
    return (
        f"{folder}: {'would drop' if chosen.dry_run else 'dropped'} {len(dropped):,} batches of "
        f"{steps:,} steps: {' '.join(map(str, dropped))}"
    )


def export(arguments: list[str]) -> str:
    """Write a run's policy for NumPy alone, or as an ONNX or PyTorch file."""
    chosen = parse("export", ExportRun, arguments)
    from iqlft.runs.policy import load_policy, save_policy  # noqa: PLC0415

    policy, name = load_policy(chosen.run), chosen.run.resolve()
    out = chosen.out or Path(f"{name.parent.name}-{name.name}{_SUFFIXES[chosen.to]}")
    if chosen.to == "numpy":
        about = {**policy.about, "exported_from": chosen.run.name}
        save_policy(out, policy.weights, policy.environment, about)
        return f"Wrote {out}: use it with iqlft.load_policy({str(out)!r})."
    from iqlft.runs.export import to_onnx, to_torch  # noqa: PLC0415

    data = to_onnx(policy) if chosen.to == "onnx" else to_torch(policy)
    with writing(out):
        write_output(out, data)
    return f"Wrote {out}: observations (N, O) go in; docs/export.md says how it is used."


_SUFFIXES = {"numpy": "", "onnx": ".onnx", "torch": ".pt2"}
"""Endings of the default names of what `export` writes."""


def draw(chosen: PlotRuns) -> str:
    """Draws the before/after curve, or a metric if one is asked for.

    Args:
        chosen: the arguments of `iqlft plot`.

    Returns:
        The text to print.
    """
    from iqlft.figures.before_after import plot_before_after  # noqa: PLC0415
    from iqlft.figures.metric_curves import plot_metric  # noqa: PLC0415
    from iqlft.figures.style import drawn_as  # noqa: PLC0415

    curves = _curves(list(chosen.run), chosen.runs)
    out = chosen.out or _plots_folder(curves, chosen.runs)
    folder, name, kinds = drawn_as(out)
    with writing(out):
        if chosen.metric or chosen.x:
            drawn = plot_metric(
                curves,
                folder,
                metric=chosen.metric,
                x=chosen.x or "updates",
                smoothing=chosen.smoothing,
                title=chosen.title,
                name=name,
                kinds=kinds,
            )
        else:
            drawn = plot_before_after(
                curves,
                folder,
                smoothing=chosen.smoothing,
                published=chosen.published,
                title=chosen.title,
                name=name or "before_after",
                kinds=kinds,
            )
    return "\n".join(f"Drew {path}" for path in drawn)


def outcome(folders: Sequence[Path], runs: Path) -> str:
    """Draws fine-tuned runs, and describes their scores before and after.

    Args:
        folders: run folders; those without an evaluation are skipped.
        runs: the folder of all runs.

    Returns:
        The text to print.
    """
    from iqlft.analysis.table import before_after_lines  # noqa: PLC0415
    from iqlft.runs.curves import find_runs  # noqa: PLC0415

    evaluated = [folder for folder in folders if find_runs(folder)]
    if not evaluated:
        return "Nothing was evaluated, so there is nothing to draw."
    try:
        drawn = draw(PlotRuns(tuple(evaluated), runs))
        return "\n".join([drawn, *before_after_lines(_curves(evaluated, runs))])
    except UserError as error:  # What was trained is there all the same.
        return f"Nothing is drawn: {error}"


def _folder_and_name(out: Path, name: str) -> tuple[Path, str]:
    """Folder and name of an output file: `page.html` is a file, `pages` a folder for `name`."""
    return (out.parent, out.name) if out.suffix == Path(name).suffix else (out, name)


def _plots_folder(curves: list[Any], runs: Path) -> Path:
    """`plots` in a single run, else beside the runs or their task folders, or in `runs`."""
    folders: list[Path] = [each.folder for each in curves]
    if len(folders) == 1:
        return folders[0] / "plots"
    # A run may have been moved out of the folder of its task.
    above = [
        folder.parents[1] if folder.parent.name == each.task else folder.parent
        for each in curves
        for folder in [each.folder.resolve()]
    ]
    shared = Path(os.path.commonpath(above))
    return (runs if shared in (runs.resolve(), Path(shared.anchor)) else shared) / "plots"


def _curves(folders: list[Path], runs: Path) -> list[Any]:
    from iqlft.runs.curves import find_runs, read_run  # noqa: PLC0415
    from iqlft.runs.errors import RunError  # noqa: PLC0415

    found: dict[Path, Path] = {}
    for folder in folders or [runs]:
        inside = find_runs(folder)
        if not inside and (folder / "meta.json").exists():
            read_run(folder)  # raises, and says what is missing
        if not inside:
            raise RunError(
                f"There is no run in {folder} with an evaluation; check the path, or make one "
                "with `iqlft pretrain`."
            )
        found |= {each.resolve(): each for each in inside}
    return [read_run(each) for each in found.values()]


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Formats names and texts as two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}s}  {value}" for name, value in rows)


def console_reporter() -> Any:  # noqa: ANN401
    """A context manager that shows the progress of a command."""
    from iqlft.cli.console import ConsoleReporter  # noqa: PLC0415

    return ConsoleReporter(console())
