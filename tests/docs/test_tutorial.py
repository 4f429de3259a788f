"""The tutorial runs from its first cell to its last, and what it shows came of its code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CELLS = [
    cell
    for cell in json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]
SMALL = {"EPISODES": "2", "NUM_UPDATES": "20", "ENV_STEPS": "60"}


def test_the_tutorials_cells_run_in_their_order(tmp_path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in CELLS)
    for name, number in SMALL.items():
        text, found = re.subn(rf"^{name} = \S+$", f"{name} = {number}", text, flags=re.MULTILINE)
        assert found == 1
    # A notebook shows the figure; a script has it as a file.
    text = text.replace("from IPython.display import Image", "").replace('Image("curve.png")', "")
    (tmp_path / "tutorial.py").write_text(text)
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "workers")]),
        "MINARI_DATASETS_PATH": str(tmp_path / "datasets"),
    }
    result = subprocess.run(
        [sys.executable, "tutorial.py"], cwd=tmp_path, env=variables, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "100 transitions, " in result.stdout
    assert re.search(r"^return -\d+\.\d$", result.stdout, re.MULTILINE)
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_the_tutorial_is_shown_as_it_ran_in_one_go() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    shown = json.dumps([cell["outputs"] for cell in CELLS])
    assert "image/png" in shown
    assert "Traceback" not in shown
