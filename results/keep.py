"""Keeps what figures and tables need of runs: `python results/keep.py FOLDER RUN[=NAME]...`.

Each run's config.yaml, curves.csv, evaluations.csv and meta.json are copied to
`FOLDER/<task>/<run>`, with what `iqlft report` draws diagnostics from: thinned metrics.jsonl and
episodes.csv, the newest policy, and where in a maze its new transitions were; under 1 MB, and
without the names and paths of the machine that it ran on. `=NAME` distinguishes runs of the same
name: such a run is kept as `NAME-s<seed>`, with NAME as its variant.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from iqlft.analysis.survey import maze_task, write_survey
from iqlft.runs.folder import JOURNAL
from iqlft.runs.growing_files import EPISODES, EVALUATIONS, METRICS
from iqlft.runs.metrics_log import read_history
from iqlft.runs.policy import load_policy
from iqlft.training.new_transitions import SURVEY, survey_new

Row = TypeVar("Row")
MAX_BYTES = 1_000_000
"""Most bytes kept of a run, visits aside."""
ROWS = 200
"""Rows kept of each phase's metrics; five times as many are kept of the training episodes."""
DIGITS = 5
"""Significant digits of a number in the metrics."""
PRIVATE = ("host", "keys", "port")
"""Settings and flags that say where a learner could be reached."""
PATH = re.compile(r"(?<![\w.:/])(?:/|~|\.\./)[\w.~/-]+|file:\S+")


def keep(folder: Path, run: Path, name: str = "") -> Path:
    """Copies a run's small files, and returns where they are.

    Raises:
        ValueError: a path of the machine, or too much, would be copied; then nothing is.
    """
    run = run.resolve()
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    for settings in config.values():
        settings["runs"] = "runs"
        for private in PRIVATE:
            settings.pop(private, None)
    meta = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    for seal in ("digest", "files", "port"):  # The copies differ, and have no learner.
        meta.pop(seal, None)
    if name:
        meta["variant"] = name
    texts = {
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
        "curves.csv": (run / "curves.csv").read_text(encoding="utf-8"),
        "meta.json": json.dumps(_cleared(meta), indent=2) + "\n",
    }
    texts |= _history(run)
    policy = sorted((run / "policy").glob("*"))
    texts |= {f"policy/{each.name}": each.read_text() for each in policy if each.suffix == ".json"}
    for file, text in texts.items():
        texts[file] = text.replace(str(run.parents[1]), "runs")
        if found := PATH.search(texts[file]):
            raise ValueError(f"{run / file} holds a path of this machine, {found[0]}.")
    size = sum(map(len, texts.values())) + sum(each.stat().st_size for each in policy)
    if size > MAX_BYTES:
        raise ValueError(f"{run} has {size:,} bytes to keep, of {MAX_BYTES:,} that are allowed.")
    kept = folder / run.parent.name / (f"{name}-s{meta['seed']}" if name else run.name)
    shutil.rmtree(kept / "policy", ignore_errors=True)
    for file, text in texts.items():
        (kept / file).parent.mkdir(parents=True, exist_ok=True)
        (kept / file).write_text(text, encoding="utf-8")
    for weights in (each for each in policy if f"policy/{each.name}" not in texts):
        shutil.copyfile(weights, kept / "policy" / weights.name)
    _keep_visits(run, kept)
    return kept


def _history(run: Path) -> dict[str, str]:
    """Evaluation episodes, and thinned metrics and training episodes, by file.

    Incidents, whose sentences name machines, are left out.
    """
    texts = {}
    if (run / METRICS).is_file():
        rows = read_history(run).rows
        phases = dict.fromkeys(row["phase"] for row in rows)
        kept = [_thinned([row for row in rows if row["phase"] == each], ROWS) for each in phases]
        texts[METRICS] = "".join(json.dumps(_rounded(row)) + "\n" for part in kept for row in part)
    if (run / EPISODES).is_file():
        header, *lines = (run / EPISODES).read_text(encoding="utf-8").splitlines(keepends=True)
        texts[EPISODES] = "".join([header, *_thinned(lines, 5 * ROWS)])
    if (run / EVALUATIONS).is_file():
        texts[EVALUATIONS] = (run / EVALUATIONS).read_text(encoding="utf-8")
    return texts


def _thinned(rows: Sequence[Row], count: int) -> Iterator[Row]:
    """At most `count` of the rows, evenly spaced, with the first and the last."""
    spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return (rows[index] for index in np.unique(spread))


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{each:.{DIGITS}g}") if isinstance(each, float) else each
        for key, each in row.items()
        if key != "incidents"
    }


def _keep_visits(run: Path, kept: Path) -> None:
    """Keeps the survey of the new transitions without its sample, which is too large."""
    if not ((run / JOURNAL).is_file() or (run / SURVEY).is_file()):
        return
    policy = load_policy(run)
    task = maze_task(policy.environment)
    found = survey_new(run, policy, task) if task is not None else None
    if found is not None:
        (kept / SURVEY).parent.mkdir(exist_ok=True)
        none = found._replace(observations=found.observations[:0], actions=found.actions[:0])
        write_survey(kept / SURVEY, none)


def _cleared(meta: dict[str, Any]) -> dict[str, Any]:
    """`meta` without names of machines and private flags, and with the program as `iqlft`."""
    cleared = {
        key: _cleared(each) if isinstance(each, dict) else each
        for key, each in meta.items()
        if key != "host"
    }
    if "argv" in cleared:
        rest = iter(cleared["argv"][1:])
        cleared["argv"] = ["iqlft"]
        for argument in rest:
            flag, _, value = argument.removeprefix("--").partition("=")
            if argument.startswith("--") and flag in PRIVATE:
                _ = value or next(rest, None)
            else:
                cleared["argv"].append(argument)
    return cleared


if __name__ == "__main__":
    for argument in sys.argv[2:]:
        path, _, name = argument.partition("=")
        print(keep(Path(sys.argv[1]), Path(path), name))
