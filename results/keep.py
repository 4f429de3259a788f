"""Keeps what figures and tables need of runs: `python results/keep.py FOLDER RUN[=NAME]...`.

Of each run `FOLDER/<task>/<run>` holds config.yaml, curves.csv and meta.json afterwards, without
the names and paths of the machine that it ran on. `=NAME` tells apart what was run under one name:
it is kept as `NAME-s<seed>`, of the variant NAME.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

PRIVATE = ("host", "keys", "port")
"""Settings and flags that say where a learner could be reached."""
PATH = re.compile(r"(?<![\w.:/])(?:/|~|\.\./)[\w.~/-]+|file:\S+")


def keep(folder: Path, run: Path, name: str = "") -> Path:
    """Copies a run's small files, and returns where they are.

    Raises:
        ValueError: a path of the machine would be copied; then nothing is.
    """
    run = run.resolve()
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    for settings in config.values():
        settings["runs"] = "runs"
        for private in PRIVATE:
            settings.pop(private, None)
    meta = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    meta.pop("digest", None)  # It is another file from here on.
    if name:
        meta["variant"] = name
    texts = {
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
        "curves.csv": (run / "curves.csv").read_text(encoding="utf-8"),
        "meta.json": json.dumps(_cleared(meta), indent=2) + "\n",
    }
    for file, text in texts.items():
        texts[file] = text.replace(str(run.parents[1]), "runs")
        if found := PATH.search(texts[file]):
            raise ValueError(f"{run / file} holds a path of this machine, {found[0]}.")
    kept = folder / run.parent.name / (f"{name}-s{meta['seed']}" if name else run.name)
    kept.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (kept / file).write_text(text, encoding="utf-8")
    return kept


def _cleared(meta: dict[str, Any]) -> dict[str, Any]:
    """The same without the names of machines, and the program by its name alone."""
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
