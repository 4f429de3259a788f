"""Finds a backend with which MuJoCo can draw on this machine without a display."""

from __future__ import annotations

import os
import subprocess
import sys

from iqlft_workers.errors import UserError

BACKENDS = ("cgl",) if sys.platform == "darwin" else ("egl", "osmesa")
"""Values of MUJOCO_GL that need no display, the fastest first."""
TRIAL_SECONDS = 60.0
"""How long a trial may take; a driver that hangs has failed."""
_TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""
"""A program that succeeds where MuJoCo can draw."""


class RenderingError(UserError):
    """Nothing can be drawn here, or not of this environment."""


def find_backend() -> str:
    """The value of MUJOCO_GL that a process which draws must start with.

    If the variable is already set, only its value is tried. MuJoCo reads it on import, and OpenGL's
    libraries cannot be changed afterwards, so each value is tried in a process of its own, which a
    bad driver may also crash.

    Raises:
        RenderingError: nothing works; the message names what to install.
    """
    asked = os.environ.get("MUJOCO_GL")
    reasons = {}
    for backend in (asked,) if asked else BACKENDS:
        reasons[backend] = _failure(backend)
        if not reasons[backend]:
            return backend
    told = "; ".join(f"{backend}: {reason}" for backend, reason in reasons.items())
    unset = f"unset MUJOCO_GL ({asked}), or " if asked else ""
    raise RenderingError(
        f"MuJoCo cannot draw without a display here ({told}); {unset}install EGL, on Debian and "
        "Ubuntu `apt-get install libegl1 libgl1-mesa-dri`, or OSMesa, `apt-get install libosmesa6`."
    )


def _failure(backend: str) -> str:
    """Why MuJoCo cannot draw with this backend; empty if it can."""
    try:
        trial = subprocess.run(
            [sys.executable, "-P", "-c", _TRIAL], capture_output=True, text=True, check=False,
            env={**os.environ, "MUJOCO_GL": backend}, timeout=TRIAL_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer within {TRIAL_SECONDS:.0f} s"
    if trial.returncode == 0:
        return ""
    lines = trial.stderr.strip().splitlines()
    return lines[-1].split(". ")[0] if lines else f"exit code {trial.returncode}"
