"""Commands and flags are a promise: those of version 0.1 are all still there."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

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


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--print-config"]) == 0
    settings: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return settings


def test_of_a_flag_that_is_given_twice_the_last_one_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, updates in (("a", 7), ("b", 9)):
        (tmp_path / f"{name}.yaml").write_text(f"num_updates: {updates}\n")
    twice = ["--task", "antmaze-corner", "--algorithm", "iql", "--config", tmp_path / "a.yaml"]
    once = ["--task", "antmaze-umaze", "--algorithm", "awac", "--config", tmp_path / "b.yaml"]
    both = printed(capsys, "pretrain", *twice, *once)
    assert both == printed(capsys, "pretrain", *once)
    assert (both["task"], both["algorithm"], both["num_updates"]) == ("antmaze-umaze", "awac", 9)
    assert both["dataset"] == ["iqlft/antmaze/umaze-v1"]


def test_a_flag_may_be_spelled_with_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    dashes = printed(capsys, "pretrain", "--num-updates", "7", "--no-tensorboard")
    assert main(["pretrain", "--num_updates=7", "--no_tensorboard", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == dashes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hyperparameters: {expectile: 0.8}", "there is no setting 'hyperparameters'"),
        ("pretrain: {seed: 1}\nfinetune: {}", "has a run's settings, one section for each"),
        ("dataset: 3", "dataset is 3, but must be"),
    ],
)
def test_a_file_of_another_form_is_refused(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    assert main(["run", "--config", str(tmp_path / "mine.yaml"), "--print-config"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--final-offline-ratio", "0.2"], "--anneal-steps environment steps; say how many"),
        (["--guide-until", "9"], "say how long it acts"),
        (["--seeds", "0", "0"], "must be whole numbers from 0, each once"),
    ],
)
def test_half_of_a_setting_is_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *flags, "--dry-run"]) == 2
    assert message in capsys.readouterr().err


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
