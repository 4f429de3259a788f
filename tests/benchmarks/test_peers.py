"""A peer that cannot be measured has a row that says why, and the others are measured."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SERVING = f"""\
import sys
sys.path.insert(0, {str(BENCHMARKS / "peers")!r})
import peer
peer.serve_steps(lambda seconds: 7 / %s, "numpy")
"""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("peers")


def test_peers_that_fail_are_rows(peers: ModuleType, tmp_path: Path) -> None:
    scripts = {
        "works": SERVING % "seconds",
        "does not start": "raise SystemExit('It has no update.')",
        "dies": SERVING % "0",
        "not there": "",
    }
    contenders = []
    for name, script in scripts.items():
        (tmp_path / f"{name}.py").write_text(script)
        contenders.append(peers.Peer(name, name, (str(tmp_path / f"{name}.py"),)))

    def python(environment: str) -> Path:
        if environment == "not there":
            raise peers.PeerError("not installed: there is none")
        return peers.install("iqlft", tmp_path)

    found = peers.measure(contenders, python, 1, threads=1, seconds=0.5, blocks=2)
    rows = {row[0]: row[1:] for row in peers.rows(found, 1, ["works"])}
    assert rows.keys() == scripts.keys()
    assert rows["works"][1:] == ["1", "14 (14-14)", "1.00"]
    assert rows["does not start"] == ["failed: It has no update.", "1", "", ""]
    assert rows["dies"] == ["failed: ZeroDivisionError: division by zero", "1", "", ""]
    assert rows["not there"] == ["not installed: there is none", "1", "", ""]
