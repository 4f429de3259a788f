"""Which versions of MuJoCo and Gymnasium-Robotics go together."""

from __future__ import annotations

import contextlib
import re
from importlib import metadata

NEWEST_MUJOCO = (3, 5)
"""The newest MuJoCo under which Gymnasium-Robotics builds FrankaKitchen, Fetch and Hand."""


def robotics_misfit() -> str:
    """What of Gymnasium-Robotics cannot be built here, and what to do; empty if all can be."""
    try:
        mujoco, robotics = map(metadata.version, ("mujoco", "gymnasium-robotics"))
    except metadata.PackageNotFoundError:
        return ""
    if tuple(map(int, re.findall(r"\d+", mujoco)[:2])) <= NEWEST_MUJOCO:
        return ""
    return (
        f"Gymnasium-Robotics {robotics} cannot build FrankaKitchen, Fetch and Hand under MuJoCo "
        f"{mujoco}, but under {'.'.join(map(str, NEWEST_MUJOCO))}: pip install 'mujoco<3.6'"
    )


def silence_notices() -> None:
    """Keeps Gymnasium-Robotics from printing its notice of Adroit's rewards at every import.

    docs/datasets.md says what it is about.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from farama_notifications import notifications  # noqa: PLC0415 -- not every version has it

        notifications.pop("gymnasium_robotics", None)
