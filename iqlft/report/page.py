"""`iqlft report`: one HTML page with everything about some runs."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from iqlft.analysis.names import series_name, without_after
from iqlft.analysis.quantities import with_minus
from iqlft.analysis.summary import count_range, group_runs, series_of, summarise
from iqlft.analysis.table import (
    COLUMNS,
    caption,
    named_rows,
    of_all_seeds,
    show_estimate,
    show_row,
    table_rows,
)
from iqlft.figures.before_after import plot_before_after
from iqlft.figures.diagnostics import Advantages, diagnostics_figure, losses_of
from iqlft.figures.maze_map import maze_figure
from iqlft.figures.panels import Timeline
from iqlft.figures.style import NARROW, WIDE, save_figure, style
from iqlft.figures.value_map import POSTURES, place_values, value_figure
from iqlft.report.caveats import caveats, unfinished
from iqlft.report.provenance import commands, facts
from iqlft.report.run_data import RunData
from iqlft.report.template import Picture, Section, render
from iqlft.runs.folder import Run
from iqlft.runs.scores import METRIC_NAMES
from iqlft.training.evaluation import FIRST_SEED
from iqlft_workers.actor import ACTORS
from iqlft_workers.errors import UserError
from iqlft_workers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from iqlft.analysis.summary import Group
    from iqlft.analysis.survey import Survey
    from iqlft.runs.curves import RunCurve
    from iqlft.runs.metrics_log import History

NAME = "report.html"
"""Default name of the page's file."""


def write_report(
    runs: Sequence[RunCurve],
    out_folder: Path,
    say: Callable[[str], None] = lambda _: None,
    *,
    name: str = NAME,
) -> Path:
    """Writes the page, and its figures as PNG and as PDF beside it.

    Args:
        runs: at least one.
        out_folder: where the files go; made if missing. With several runs, the figures of each
            are in a folder `<task>/<run>` of their own, below that of their root if the runs
            have several roots.
        say: called with a sentence of progress for each run.
        name: of the page's file.

    Returns:
        The page.

    Raises:
        RunError: no runs, or two of the same task, algorithm, variant, data and seed.
        OSError: a file cannot be written.
    """
    groups = group_runs(runs)
    ordered = [run for group in groups for run in group.runs]
    names, rows = _names(groups), named_rows(table_rows(ordered))
    overview = _overview(groups, names, of_all_seeds(rows), out_folder)
    tasks = list(dict.fromkeys(group.task for group in groups))
    title = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    page = render(
        title=f"{title}: before and after fine-tuning",
        overview=overview,
        columns=COLUMNS[1:],
        rows=[(row.ours, [with_minus(cell) for cell in show_row(row)]) for row in rows],
        caption=caption(rows),
        caveats=_caveats(groups, names),
        articles=_articles(ordered, out_folder, say),
    )
    write_atomically(out_folder / name, page)
    return out_folder / name


# -- all runs -----------------------------------------------------------------------------------


def _names(groups: Sequence[Group]) -> list[str]:
    """Each group's task, with the series if the task has several; empty for a single group."""
    if len(groups) == 1:
        return [""]
    counts = Counter(group.task for group in groups)
    series = list(dict.fromkeys(group.series for group in groups))
    return [
        group.task
        if counts[group.task] == 1
        else f"{group.task}, {series_name(group.series, series)}"
        for group in groups
    ]


def _caveats(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """Each sentence once, naming the groups that it is about unless it is about all."""
    about: dict[str, list[str]] = {}
    for group, name in zip(groups, names, strict=True):
        for sentence in caveats(group, summarise(group)):
            about.setdefault(sentence, []).append(name)
    sentences = [
        sentence if len(mine) == len(groups) else f"{'; '.join(mine)}: {sentence}"
        for sentence, mine in about.items()
    ]
    runs = (run for group in groups for run in group.runs)
    return sentences + [each for run in runs for each in unfinished(Run.open(run.folder))]


def _headline(group: Group, name: str) -> str:
    """`Success rate (%): 53.0 [43, 62] before, 97.0 [92, 99] after 1M steps, change +44.0`."""
    summary = summarise(group)
    metric = METRIC_NAMES[summary.metric]
    text = f"{metric[0].upper()}{metric[1:]}: {show_estimate(summary.before)} before"
    if summary.after is None:
        text += f"; {without_after(fine_tuned=summary.fine_tuned)}"
    else:
        change = show_estimate(summary.change, signed=True)
        steps = count_range(summary.env_steps)
        text += f", {show_estimate(summary.after)} after {steps} steps, change {change}"
    return with_minus(f"{name}. {text}" if name else text)


def _overview(groups: Sequence[Group], names: Sequence[str], shared: str, folder: Path) -> Section:
    png, _ = plot_before_after([run for group in groups for run in group.runs], folder)
    headlines = [_headline(*each) for each in zip(groups, names, strict=True)]
    picture = Picture(
        png,
        "Curves of every task over offline updates and online environment steps, and the change "
        f"from before to after. {' '.join(f'{each}.' for each in headlines)}",
        "Evaluations over offline updates, left of 0, and environment steps, right of it, with "
        "intervals of 95 % as the legend names them. Before and after are the last evaluations"
        f"{shared}, never the best. Published results are marked where their protocol "
        "ends; where that is far beyond the runs, the axis is cut between.",
    )
    return Section(headlines, picture)


# -- one run ------------------------------------------------------------------------------------


def _articles(
    runs: Sequence[RunCurve], out_folder: Path, say: Callable[[str], None]
) -> list[tuple[str, dict[str, Section]]]:
    """Each run's title and its sections by heading; a single run's overview is the page's."""
    datasets: dict[str, Survey] = {}
    root = os.path.commonpath([run.folder.resolve().parent.parent for run in runs])
    articles = []
    for run in runs:
        say(f"Looking at {run.folder}.")
        folder, sections = out_folder, {}
        if len(runs) > 1:
            folder /= run.folder.resolve().relative_to(root)
            sections = {"": _overview(group_runs([run]), [""], "", folder)}
        sections |= _sections(run, folder, datasets)
        articles.append((f"{run.task}, {series_of(run).name}, seed {run.seed}", sections))
    return articles


_ONLY_NUMBERS = (
    "Left out, and maps with them: of this run only its configuration, its evaluations and how it "
    "was made are here, neither metrics nor a policy."
)


def _sections(run: RunCurve, folder: Path, datasets: dict[str, Survey]) -> dict[str, Section]:
    """The sections beyond evaluations; what cannot be shown is left out, with the reason."""
    opened = Run.open(run.folder)
    data = RunData(opened, datasets)
    if data.only_numbers:
        return {
            "Diagnostics": Section(left_out=_ONLY_NUMBERS),
            "How it was made": _section(lambda: _provenance(opened)),
        }
    return {
        "Diagnostics": _section(lambda: _diagnostics(run, data, folder)),
        "Where it goes": _section(lambda: _maze_map(data, folder)),
        "What places are worth": _section(lambda: _value_map(data, folder)),
        "How it was made": _section(lambda: _provenance(opened)),
    }


def _section(make: Callable[[], Section]) -> Section:
    """The section that `make` returns, or one that says why it cannot be made."""
    try:
        return make()
    except UserError as error:
        return Section(left_out=f"Left out: {error}")


def _diagnostics(run: RunCurve, data: RunData, folder: Path) -> Section:
    history, advantages, left_out = data.history, None, ""
    shown, words = _logged(history)
    try:
        advantages, left_out = _advantages(data)
    except UserError as error:
        left_out = f"The advantages are left out: {error}"
    if advantages:
        sizes = " and ".join(f"{len(s):,} {name}" for name, s in advantages.samples.items())
        words += (
            f" Advantages that the newest checkpoint ({data.critics.updates:,} updates) gives "
            f"to {sizes} transitions drawn at random: right of the dotted line the weight "
            "exp(inverse temperature \N{MULTIPLICATION SIGN} advantage) is clipped at 100; the "
            "outermost bars hold what lies beyond."
        )
    with mpl.rc_context(style(WIDE)):
        figure = diagnostics_figure(history, timeline(run, history), advantages)
        png, _ = save_figure(figure, folder, "diagnostics")
    return Section(picture=Picture(png, _alt(shown, history), words), left_out=left_out)


_SEEN = {
    "dataset/q": "mean Q on the dataset",
    "dataset/value": "mean V on the dataset",
    "actor/log_std": "log standard deviation",
    "policy_lag": "policy lag",
    "training_success": "training success",
}
"""Metrics whose first and last values the alternative text gives, and their names there."""


def _alt(shown: str, history: History) -> str:
    """Alternative text of lines over training: where they begin and where they end."""
    seen = []
    for key, name in _SEEN.items():
        values = [each for phase in ("offline", "online") for each in history.column(key, phase)[1]]
        if values:
            seen.append(f"{name} from {values[0]:.3g} to {values[-1]:.3g}")
    return with_minus(f"{shown} over training" + (f": {', '.join(seen)}." if seen else "."))


def _logged(history: History) -> tuple[str, str]:
    """What the diagnostics of an algorithm show over training, in short and as sentences."""
    shown, words = [], []
    if history.has("dataset/q"):
        of_value, gap = "", ""
        if history.has("dataset/value"):
            of_value, gap = " and mean V", "; their difference, with its running mean"
        shown += ["Q", "V"] if of_value else ["Q"]
        words.append(
            f"Mean Q of the target critics{of_value} on 1,024 transitions, of the dataset always "
            f"the same, of new ones others each time{gap}."
        )
    if history.has("actor/log_std"):
        shown.append("log standard deviation")
        words.append("Mean log standard deviation of the policy.")
    if history.has("policy_lag"):
        shown.append("policy lag")
        words.append(
            "Policy lag: updates by which the actor of new transitions was behind the learner."
        )
    for key, name in (("updates_per_second", "speeds"), ("training_success", "training success")):
        shown += [name] * history.has(key)
    shown += ["losses"] * bool(losses_of(history))
    return ", ".join(shown), " ".join(words)


def timeline(run: RunCurve, history: History) -> Timeline:
    """The axis up to the last evaluation, or to the last row of metrics if that is later."""
    return Timeline(
        max(history.length("offline"), run.offline_updates),
        max(history.length("online"), run.rows[-1].env_steps),
    )


def _advantages(data: RunData) -> tuple[Advantages | None, str]:
    """Advantages of the transitions at hand; and which are left out, and why."""
    critics = data.critics
    surveys, left_out = _surveys(data, "The advantages")
    samples = {
        name: critics.advantages(each.observations, each.actions) for name, each in surveys.items()
    }
    return Advantages(samples, critics.clipped_from) if samples else None, left_out


def _maze_map(data: RunData, folder: Path) -> Section:
    task = data.task
    if task is None:
        return _no_maze(data)
    paths = data.paths
    surveys, left_out = _surveys(data, "The visits")
    surveys = {f"{name} transitions": each for name, each in surveys.items()}
    with mpl.rc_context(style(WIDE)):
        png, _ = save_figure(maze_figure(task.maze, surveys, paths), folder, "maze")
    reported = [path.success for path in paths if path.success is not None]
    successes = f"{sum(reported)}" if reported else "not reported"
    seen = f"Where the agent was in {' and '.join(surveys)}, on one scale of colours, and its paths"
    words = (
        f"{seen if surveys else 'The paths of the agent'} in the first {len(paths)} evaluation "
        "episodes (seeds from "
        f"{FIRST_SEED:,} on), which the newest policy ({data.policy.weights.version:,} updates)"
        f" has run for this page with its {ACTORS[data.policy.weights.kind].evaluated}; "
        f"successes: {successes}. An episode's goal may lie around the star."
    )
    return Section(
        picture=Picture(
            png,
            f"The maze from above, with visits and {len(paths)} paths, of which {successes} reach "
            "the goal.",
            words,
        ),
        left_out=left_out,
    )


def _surveys(data: RunData, what: str) -> tuple[dict[str, Survey], str]:
    """Surveys of the `dataset` and the `new` transitions; and what is left out, and why.

    Args:
        data: of the run.
        what: what is drawn of them, as the beginning of a sentence.
    """
    surveys: dict[str, Survey] = {}
    left_out = []
    parts: dict[str, Callable[[], Survey | None]] = {
        "dataset": lambda: data.dataset,
        "new": lambda: data.new,
    }
    for name, look in parts.items():
        try:
            found = look()
        except UserError as error:
            left_out.append(f"{what} of the {name} transitions are left out: {error}")
        else:
            surveys |= {name: found} if found else {}
    there = surveys["new"].num_transitions if "new" in surveys else data.env_steps
    if there < data.env_steps:
        left_out.append(
            f"Of the {data.env_steps:,} new transitions {there:,} are here: the others are left "
            "out, for they are lost, or were dropped on purpose."
        )
    return surveys, " ".join(left_out)


def _value_map(data: RunData, folder: Path) -> Section:
    task = data.task
    if task is None:
        return _no_maze(data)
    critics, dataset = data.critics, data.dataset
    surveys, left_out = _surveys(data, "The visits")
    values = place_values(critics.values, task, dataset.observations[:POSTURES])
    visits = [each.visits for each in surveys.values() if each.visits is not None]
    with mpl.rc_context(style(NARROW)):
        figure = value_figure(task.maze, values, np.sum(visits, axis=0))
        png, _ = save_figure(figure, folder, "value")
    words = (
        f"V of the newest checkpoint ({critics.updates:,} updates) at every place that a transition"
        f" has visited: the mean over {POSTURES} transitions of the dataset drawn at random, of "
        "whose observations only x and y are replaced"
        + (" and the goal is the evaluation goal." if task.goal is not None else ".")
    )
    shown = values[(np.sum(visits, axis=0) > 0) & np.isfinite(values)]
    low, high = shown.min(initial=np.inf), shown.max(initial=-np.inf)
    seen = f"The maze from above, coloured by V, which goes from {low:.3g} to {high:.3g}."
    return Section(picture=Picture(png, with_minus(seen), words), left_out=left_out)


def _no_maze(data: RunData) -> Section:
    reason = (
        f"Left out: {data.policy.environment.id} has no maze whose places are observed, "
        "so there is no map to draw."
    )
    return Section(left_out=reason)


def _provenance(run: Run) -> Section:
    told = facts(run)
    try:
        return Section(facts=told, commands=commands(run), settings=run.config_text)
    except UserError as error:
        return Section(facts=told, left_out=f"Commands and settings are left out: {error}")
