"""The surroundings in which a run is made: machine, versions, source revision, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("iqlft", "torch", "gymnasium", "gymnasium-robotics", "mujoco", "minari", "numpy")
"""The packages that a result depends on."""


def surroundings() -> dict[str, Any]:
    """Command, versions, host, time and source revision, for `meta.json`."""
    return {
        "argv": sys.argv,
        "versions": versions() | {"python": platform.python_version()},
        "host": platform.node(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "created": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "git": _git_hash(),
    }


def _processor() -> str:
    """The processor's name where Linux reports it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def versions() -> dict[str, str]:
    """Installed versions of the packages that a result depends on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _git_hash() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
