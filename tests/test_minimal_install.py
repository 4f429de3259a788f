"""A worker's machine needs what docs/protocol.md says, and no torch."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from gateways import open_gateway
from iqlft_workers.actor import ActorWeights
from iqlft_workers.discovery import write_endpoint
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.transition import RowLayout

ROOT = Path(__file__).parent.parent
SPEC = EnvironmentSpec(
    "iqlft/AntMaze-Medium-v0", observation_keys=("achieved_goal", "observation"), reward_shift=-1
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_installed_as_documented_works_without_torch(
    tmp_path: Path, make_weights: Callable[..., ActorWeights]
) -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    documented = re.findall(r"^pip (install .*)$", text, re.MULTILINE)
    assert documented == ["install ./workers                    # in a checkout of this repository"]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    for line in documented:
        words = shlex.split(line, comments=True)
        arguments = [str(ROOT / each) if each.startswith("./") else each for each in words]
        subprocess.run([python, "-m", "pip", *arguments], check=True, cwd=tmp_path)
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for module in ("torch", "iqlft"):
        absent = subprocess.run(
            [python, "-c", f"import {module}"],
            check=False, cwd=tmp_path, env=variables, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert absent.returncode == 1
    for command in ([python, "-m", "iqlft_workers"], [python.parent / "iqlft-worker"]):
        work(command, tmp_path, variables, make_weights)


def work(
    program: Sequence[str | Path],
    folder: Path,
    variables: Mapping[str, str],
    make_weights: Callable[..., ActorWeights],
) -> None:
    """Lets the program step for a learner until it is told to stop."""
    gateway = open_gateway(SPEC, RowLayout(29, 8))
    write_endpoint(folder / "endpoint", gateway.endpoint, gateway.own_keys)
    command = [*program, "--connect", "endpoint"]
    with (
        gateway,
        subprocess.Popen(command, cwd=folder, env=variables) as process,
    ):
        gateway.publish(make_weights(29, 8))
        gateway.allow(500)
        count = 0
        while count < 500 and process.poll() is None:
            count += sum(part.num_transitions for part in gateway.receive(1.0))
        assert count == 500
        gateway.close()
        assert process.wait(30) == 0
