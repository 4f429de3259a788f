"""The example script runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import iqlft

ROOT = Path(__file__).parents[2]


def test_the_quick_start_script_trains_acts_and_saves(corner: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-W", "error", "-W", "ignore:Package iqlft is not installed",
        str(ROOT / "docs" / "quickstart.py"), "--dataset", corner, "--num-updates", "10",
        "--hidden-size", "8", "--batch-size", "8",
    ]  # fmt: skip
    result = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert "iqlft/antmaze/corner-v1: 903 transitions" in result.stdout
    assert "after 10 updates: value loss " in result.stdout
    assert re.search(r"an episode of \d+ steps, return [01]\.0", result.stdout)
    policy = iqlft.load_policy(tmp_path / "my-policy")
    assert policy.weights.version == 10
    assert policy(np.zeros(29)).shape == (8,)
