"""How a run was made, in words: its commands, data, machine, versions and time."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqlft.analysis.quantities import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iqlft.runs.folder import Run

UNKNOWN = "not recorded"
"""Text for what `meta.json` does not record."""


def facts(run: Run) -> list[tuple[str, str]]:
    """The facts in `meta.json`, as names and texts.

    Args:
        run: an existing run; facts that it does not record have the text `UNKNOWN`.

    Raises:
        RunError: `meta.json` cannot be read.
    """
    meta = run.meta
    dataset, environment = meta.get("dataset") or {}, meta.get("environment") or {}
    data = [dataset.get("id", UNKNOWN), meta.get("dataset_label", "of unknown origin")]
    rows = [
        ("seed", str(meta.get("seed", UNKNOWN))),
        ("data", ", ".join(dict.fromkeys(map(str, data)))),
        ("data's hash", str(dataset.get("hash", UNKNOWN))),
        ("environment", str(environment.get("id", UNKNOWN))),
        ("status", f"{meta.get('status', UNKNOWN)}, {meta.get('phase', UNKNOWN)} phase"),
        ("training time", duration(meta.get("seconds"))),
        *_surroundings(meta),
    ]
    if isinstance(meta.get("finetune"), dict):
        rows += [(f"fine-tuning: {name}", text) for name, text in _surroundings(meta["finetune"])]
    return rows


def commands(run: Run) -> list[str]:
    """The commands that made a run.

    Commands that are not recorded are replaced by ones that repeat it, and marked so: they make a
    second run beside it, which is then the newest pretrained one, and fine-tune that.

    Raises:
        RunError: `meta.json` or `config.yaml` cannot be read.
    """
    meta, config = run.meta, ["--config", str(run.folder / "config.yaml")]
    again = ["--name", f"{run.folder.resolve().name}-again"]
    lines = [command_line(meta.get("argv")) or _repetition("pretrain", *config, *again)]
    if run.fine_tuned:
        tuned = command_line((meta.get("finetune") or {}).get("argv"))
        lines.append(tuned or _repetition("finetune", *config))
    return list(dict.fromkeys(lines))  # `iqlft run` did both.


def _repetition(*arguments: str) -> str:
    return f"{shlex.join(['iqlft', *arguments])}  # not recorded; this repeats it"


def command_line(argv: list[str] | None) -> str:
    """A recorded command as it would be typed; empty for None."""
    if not argv:
        return ""
    program, *arguments = argv
    path = Path(program)
    module = path.name == "__main__.py"  # `python -m` records the path of this file.
    return shlex.join([path.parent.name if module else path.name, *arguments])


def _surroundings(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine = [str(meta[key]) for key in ("host", "machine", "gpu", "device") if meta.get(key)]
    if threads := meta.get("threads"):
        machine.append(f"{threads} torch thread{'s' * (threads > 1)}")
    versions = meta.get("versions") or {}
    return [
        ("begun", str(meta.get("created", UNKNOWN))),
        ("machine", ", ".join(machine) or UNKNOWN),
        ("versions", ", ".join(f"{k} {v}" for k, v in versions.items()) or UNKNOWN),
        ("source revision", str(meta.get("git") or UNKNOWN)),
    ]
