"""The evaluations of a run, read from `meta.json` and two CSV files of its folder, and checked."""

from __future__ import annotations

import csv
import functools
import math
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from iqlft.config.algorithms import SWITCH
from iqlft.config.layers import config_fields
from iqlft.config.settings import MachineConfig, OutputConfig, SourceConfig
from iqlft.runs.errors import RunError, command
from iqlft.runs.finding import run_folders
from iqlft.runs.folder import Run, status_of
from iqlft.runs.growing_files import CURVES, EVALUATIONS, require_whole
from iqlft.runs.meta import read_meta
from iqlft.runs.scores import CURVE_COLUMNS, EVALUATION_COLUMNS, EpisodeScore, Metric, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Row = TypeVar("Row")
Place = tuple[str, int, int]
"""What identifies an evaluation of a run: phase, updates and environment steps."""
_APART = {
    *config_fields(MachineConfig), *config_fields(OutputConfig),
    *config_fields(SourceConfig).keys() - {"max_episode_steps"},
    "dataset", "seed", "seeds", "name", "num_updates", "env_steps", "slack", "lockstep",
    "remote_workers", "engine", "host", "keys", "insecure", "publish_every", "value_bounds",
}  # fmt: skip
"""Settings that do not shape what is learned, or that a table shows on its own."""


@dataclass(frozen=True)
class RunCurve:
    """The evaluations of one run.

    Attributes:
        folder: the run folder.
        task: such as `antmaze-medium-play`.
        algorithm: such as `iql`; `iql->rlpd` where it was fine-tuned with another one; `10%BC`
            where papers have a name for its settings.
        seed: of the run.
        label: where the data come from, such as `regenerated with the D4RL procedure`.
        rows: evaluations in order, offline before online; never empty.
        variant: its name by `--name` or `--into`, without the seed; empty without either.
        evaluations: the episodes of evaluations; runs of older versions have none on record.
        fine_tuned: whether fine-tuning has begun.
        keeps_policy: whether it began with the policy of pretraining.
    """

    folder: Path
    task: str
    algorithm: str
    seed: int
    label: str
    rows: tuple[Score, ...]
    variant: str = ""
    evaluations: Mapping[Place, Sequence[EpisodeScore]] = field(default_factory=dict, repr=False)
    fine_tuned: bool = False
    keeps_policy: bool = True

    @functools.cached_property
    def settings(self) -> dict[str, str]:
        """What shaped its learning, seed and length apart; empty where it is not on record."""
        found: dict[str, str] = {}
        with suppress(RunError):
            sections = Run(self.folder).configuration()
            for section in ("pretrain", "finetune"):
                own = {k: v for k, v in (sections.get(section) or {}).items() if k not in _APART}
                found |= {f"online {k}" if k in found else k: str(v) for k, v in own.items()}
        return found

    @property
    def offline(self) -> tuple[Score, ...]:
        """Evaluations of the offline phase."""
        return tuple(row for row in self.rows if row.phase == "offline")

    @property
    def online(self) -> tuple[Score, ...]:
        """Evaluations of the online phase; the first may stand before any environment step."""
        return tuple(row for row in self.rows if row.phase == "online")

    @property
    def at_switch(self) -> Score | None:
        """The online evaluation before any environment step, after all offline updates."""
        first = next((row for row in self.rows if row.phase == "online"), None)
        return first if first and first.env_steps == 0 else None

    @property
    def offline_updates(self) -> int:
        """Offline updates up to the switch, or else up to the last offline evaluation."""
        last = self.at_switch or (self.offline[-1] if self.offline else None)
        return last.updates if last else 0

    @property
    def before(self) -> Score | None:
        """The pretrained policy's score: online at 0 steps, else the last offline one."""
        offline, first = self.offline, self.at_switch
        if first and (self.keeps_policy or not offline):
            return first
        return offline[-1] if offline else None

    @property
    def after(self) -> Score | None:
        """The last evaluation after environment steps (never the best); None without any."""
        last = self.rows[-1]
        return last if last.phase == "online" and last.env_steps > 0 else None

    def episodes(self, score: Score) -> Sequence[EpisodeScore]:
        """The episodes of one of its evaluations; empty where they are not known."""
        own = self.evaluations.get((score.phase, score.updates, score.env_steps))
        # The first online score is the last offline one where the policy is the same.
        return own or self.evaluations.get(("offline", score.updates, score.env_steps)) or ()

    def paired_successes(self, before: Score, after: Score) -> list[tuple[bool, bool]]:
        """Whether the episode of each seed succeeded in each of two evaluations of the run.

        Empty where episodes are not known, or where the two differ in their seeds.
        """
        first, second = self.episodes(before), self.episodes(after)
        if [each.seed for each in first] != [each.seed for each in second]:
            return []
        return [(bool(a.success), bool(b.success)) for a, b in zip(first, second, strict=True)]


def read_run(folder: Path | str) -> RunCurve:
    """Reads one run folder.

    Args:
        folder: holds `meta.json`, `curves.csv`, and possibly `evaluations.csv`.

    Returns:
        The run's evaluations.

    Raises:
        RunError: not a run folder, no evaluation yet, or a malformed row (with its line number).
    """
    folder = Path(folder)
    meta = _read_meta(folder)
    rows = _read_rows(folder / CURVES)
    if not rows:
        raise RunError(f"{folder / CURVES} has no rows yet: {_way_to_rows(folder, meta)}.")
    require_whole(folder, CURVES)
    evaluations = _read_evaluations(folder / EVALUATIONS)
    dataset = meta.get("dataset")
    dataset_id = dataset.get("id") if isinstance(dataset, dict) else None
    try:
        return RunCurve(
            folder=folder,
            task=str(meta["task"]),
            algorithm=_algorithm(meta),
            seed=int(meta["seed"]),
            label=str(meta.get("dataset_label") or dataset_id or "unlabelled data"),
            rows=rows,
            variant=str(meta.get("variant", "")),
            evaluations=evaluations,
            fine_tuned=isinstance(meta.get("finetune"), dict),
            keeps_policy=keeps_policy(meta),
        )
    except KeyError as error:
        raise RunError(
            f"{folder / 'meta.json'} has no {error}; a run's task, algorithm and seed are needed."
        ) from error


def keeps_policy(meta: Mapping[str, Any]) -> bool:
    """Whether the first policy online is the pretrained one; once that was not recorded."""
    finetuned = meta.get("finetune")
    recorded = finetuned.get("keeps_policy") if isinstance(finetuned, dict) else None
    return SWITCH not in _algorithm(meta) if recorded is None else bool(recorded)


def _algorithm(meta: Mapping[str, Any]) -> str:
    """The algorithm that a run was pretrained with, and that of fine-tuning if it is another."""
    before, finetuned = str(meta["algorithm"]), meta.get("finetune")
    after = finetuned.get("algorithm", before) if isinstance(finetuned, dict) else before
    known = str(meta.get("known_as") or before)
    return known if before == after else f"{known}{SWITCH}{after}"


def find_runs(root: Path | str) -> list[Path]:
    """All run folders under a folder (or that folder itself) that have at least one evaluation.

    Hidden folders, such as those still being written, are passed over.

    Args:
        root: where to look.

    Returns:
        Sorted paths; empty if there are none.
    """
    return sorted(filter(_evaluated, run_folders(Path(root))))


def _evaluated(folder: Path) -> bool:
    if not (folder / CURVES).exists():
        return False
    with (folder / CURVES).open(encoding="utf-8", errors="replace") as lines:
        return sum(1 for line in lines if line.strip()) > 1


def common_metric(runs: Iterable[RunCurve]) -> Metric:
    """The first metric, in the order of `Metric`, that every evaluation of every run reports.

    Evaluations in which an episode ended at a value that is not finite are left out.
    """
    rows = [row for run in runs for row in run.rows if math.isfinite(row.mean_return)]
    for metric in cast("tuple[Metric, ...]", get_args(Metric)):
        if rows and not any(math.isnan(row.score(metric)) for row in rows):
            return metric
    return "return"  # No evaluation has a finite return.


def _read_meta(folder: Path) -> dict[str, Any]:
    if not (folder / "meta.json").is_file():
        raise RunError(
            f"{folder} is not a run folder (meta.json cannot be read); name a folder such as "
            "runs/antmaze-umaze/iql-s0."
        )
    return read_meta(folder)


def _way_to_rows(folder: Path, meta: Mapping[str, Any]) -> str:
    """How a run without an evaluation can come to a score."""
    run = Run(folder)
    own = f"{command('evaluate', folder)} evaluates its newest policy in an environment"
    with suppress(RunError):
        if run.latest_settings.get("eval_episodes") == 0:
            return f"it was trained without evaluations (--eval-episodes 0); {own}"
    status = status_of(folder, meta)
    if status == "finished":
        return f"it has finished without an evaluation; {own}"
    if status in {"interrupted", "failed", "killed"}:
        return f"it was stopped before its first evaluation; go on with {command('resume', folder)}"
    return "wait for the run's first evaluation"


def _read_rows(path: Path) -> tuple[Score, ...]:
    try:
        rows = _parsed(path, CURVE_COLUMNS, Score.from_row)
    except FileNotFoundError as error:
        raise RunError(f"{path.parent} has no curves.csv: nothing has been evaluated.") from error
    phases = [row.phase for row in rows]
    if phases != sorted(phases):
        raise RunError(f"{path} has an offline evaluation after an online one; rows are in order.")
    return tuple(rows)


def _read_evaluations(path: Path) -> dict[Place, list[EpisodeScore]]:
    """The episodes of each evaluation in order; empty without the file."""

    def placed(row: Mapping[str, str | None]) -> tuple[Place, EpisodeScore]:
        episode = EpisodeScore.from_row(row)
        return (str(row["phase"]), int(row["updates"] or ""), int(row["env_steps"] or "")), episode

    try:
        rows = _parsed(path, EVALUATION_COLUMNS, placed)
    except FileNotFoundError:
        return {}
    require_whole(path.parent, path.name)
    found: dict[Place, list[EpisodeScore]] = {}
    for place, episode in rows:
        found.setdefault(place, []).append(episode)
    return found


def _parsed(
    path: Path, columns: Sequence[str], parse: Callable[[Mapping[str, str | None]], Row]
) -> list[Row]:
    """The rows of a CSV file, each parsed.

    Raises:
        FileNotFoundError: there is no such file.
        RunError: it cannot be read, lacks a column, or a row is malformed (with its line number).
    """
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing and reader.fieldnames:
                raise RunError(f"{path} lacks the columns {', '.join(missing)}.")
            for record in reader:
                try:
                    rows.append(parse(record))
                except (ValueError, TypeError) as error:
                    raise RunError(f"{path}, line {reader.line_num}: {error}") from error
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}); restore it from a copy.") from error
    return rows
