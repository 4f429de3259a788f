"""The page about one's own data works as it is written, command by command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-own-data.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_file_and_command_of_the_page_works(tmp_path: Path) -> None:
    commands = ["set -e"]
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, text
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
        else:
            # The code of this checkout, whatever is installed.
            commands.append(text.replace("PYTHONPATH=$PWD", "PYTHONPATH=$PWD:$CODE"))
    variables = {
        "MINARI_DATASETS_PATH": str(tmp_path / "minari"),
        "CODE": f"{ROOT}:{ROOT / 'workers'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["/bin/sh", "-c", "\n".join(commands)],
        cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (tmp_path / "output").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = done.stdout.partition("Before and after fine-tuning")[2]
    assert "mine-reach-v0" in table
    assert "antmaze" not in done.stdout
    assert (tmp_path / "robot-policy" / "policy.json").is_file()
