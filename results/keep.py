"""Keeps what figures and tables need of runs: `python results/keep.py FOLDER RUN...`.

Of each run `FOLDER/<task>/<run>` holds config.yaml, curves.csv and meta.json afterwards, without
the names and paths of the machine that it ran on.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

FILES = ("config.yaml", "curves.csv", "meta.json")
RUNS = re.compile(r"^( +runs: ).*$", re.MULTILINE)
ABSOLUTE = re.compile(r"(?:^|[\s\"'=])(/[\w.-]+/\S*)")


def keep(folder: Path, run: Path) -> Path:
    """Copies a run's small files, and returns where they are.

    Raises:
        ValueError: a path of the machine would be copied.
    """
    run = run.resolve()
    kept = folder / run.parent.name / run.name
    kept.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = (run / name).read_text(encoding="utf-8").replace(str(run.parents[1]), "runs")
        if name == "meta.json":
            text = json.dumps(_cleared(json.loads(text)), indent=2) + "\n"
        text = RUNS.sub(r"\1runs", text)  # It may have been trained in another folder.
        if found := ABSOLUTE.search(text):
            raise ValueError(f"{run / name} holds a path of this machine, {found[1]}.")
        (kept / name).write_text(text, encoding="utf-8")
    return kept


def _cleared(meta: dict[str, Any]) -> dict[str, Any]:
    """The same without the names of machines, and the program by its name alone."""
    cleared = {
        key: _cleared(each) if isinstance(each, dict) else each
        for key, each in meta.items()
        if key != "host"
    }
    if "argv" in cleared:
        cleared["argv"] = ["iqlft", *cleared["argv"][1:]]
    return cleared


if __name__ == "__main__":
    for argument in sys.argv[2:]:
        print(keep(Path(sys.argv[1]), Path(argument)))
