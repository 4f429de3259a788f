"""Commands and flags are a promise: those of version 0.1 are all still there."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import yaml

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


def test_arguments_of_an_environment_may_be_called_as_flags_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('environment_kwargs: {port: "{worker+5005}", seed: 3, max_episode_steps: 7}')
    assert main(["pretrain", "--config", str(file), "--seed", "5", "--print-config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["environment_kwargs"] == {
        "port": "{worker+5005}", "seed": 3, "max_episode_steps": 7
    }  # fmt: skip
    assert (config["seed"], config["port"], config["max_episode_steps"]) == (5, 0, 0)
