"""`iqlft doctor`: what this machine has, and what is missing for which command."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from iqlft.config.layers import task_names
from iqlft.datasets.catalogue import list_local
from iqlft.runs.surroundings import versions
from iqlft.training.build import processor_has_bf16, usable_cores
from iqlft.video.encode import find_ffmpeg
from iqlft.video.opengl import find_backend
from iqlft_workers.errors import UserError
from iqlft_workers.versions import robotics_misfit


def examine(runs: Path = Path("runs")) -> list[tuple[str, str]]:
    """The findings, as pairs of a name and a text; what is missing comes last."""
    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    rows += list(versions().items())
    rows.append(("cores", f"{os.cpu_count()}, of which {usable_cores()} may be used"))
    rows.append(("device", _device()))
    rows += [("bf16", _bf16()), _video()]
    if misfit := robotics_misfit():
        rows.append(("missing", f"the kitchen tasks: {misfit}"))
    datasets = list_local()
    rows += [
        ("damaged", f"{each.id}: {each.damage}")
        if each.damage
        else ("dataset", f"{each.id}: {each.transitions:,} transitions")
        for each in datasets
    ]
    if not datasets:
        rows.append(("missing", "datasets: make one with `iqlft data make antmaze-umaze`"))
    rows.append(("tasks", ", ".join(task_names())))
    found = [path.parent for path in sorted(runs.glob("*/*/meta.json"))]
    rows += [("run", str(path)) for path in found if not path.name.startswith(".")]
    if not found:
        rows.append(("missing", f"runs under {runs}/: make one with `iqlft pretrain`"))
    if not os.access(runs if runs.exists() else Path(), os.W_OK):
        rows.append(("missing", f"permission to write {runs}/: choose another place with --runs"))
    return sorted(rows, key=lambda row: row[0] == "missing")


def _device() -> str:
    if not torch.cuda.is_available():
        return "cpu (no CUDA device is visible to torch)"
    return f"cuda: {torch.cuda.get_device_name()}"


def _bf16() -> str:
    if torch.cuda.is_available():
        return "not measured on a GPU yet (--precision bf16)"
    return "fast here (--precision bf16)" if processor_has_bf16() else "not faster here"


def _video() -> tuple[str, str]:
    try:
        find_ffmpeg()
        return "video", f"MuJoCo draws by {find_backend()} (`iqlft video`)"
    except UserError as error:
        return "missing", f"video: {error}"
