"""Commands and flags are a promise: those of version 0.1 are all still there."""

import contextlib
import json
import re
from pathlib import Path

import pytest

from iqlft.cli.main import main

PROMISED: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "old_runs" / "flags-0.1.json").read_text(encoding="utf-8")
)
"""By command of version 0.1, the flags that its `--help` names."""


@pytest.mark.parametrize("command", PROMISED)
def test_every_flag_of_version_0_1_is_still_there(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    found = re.findall(r"--[a-z0-9][a-z0-9-]*", capsys.readouterr().out)
    assert set(PROMISED[command]) <= set(found)
