"""Presets: above the task, below the file and the flags."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from iqlft.cli import main as cli
from iqlft.config.layers import override, setting_fields, to_dict
from iqlft.config.presets import PRESETS, preset
from iqlft.config.settings import ConfigError, FinetuneConfig, RunConfig
from iqlft.config.validation import check


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The settings that a command would have."""
    cli.main([*arguments, "--print-config"])
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_every_setting_of_a_preset_is_one_of_its_algorithm_and_within_its_bounds(name: str) -> None:
    settings = dict(PRESETS[name].settings)
    config = override(RunConfig(dataset=("own/set-v0",)), settings, name)
    assert settings.keys() <= setting_fields(config).keys()
    check(config)
    assert to_dict(config).items() >= settings.items()
    assert PRESETS[name].source


def test_the_authors_and_corl_differ_in_what_the_documentation_says() -> None:
    paper, corl = (dict(PRESETS[f"calql-{each}"].settings) for each in ("paper", "corl"))
    different = {key for key in paper | corl if paper[key] != corl[key]}
    assert different == {
        "hidden_layers", "critic_hidden_layers", "output_gain", "gap_min", "calibrate_online",
    }  # fmt: skip


def test_a_preset_is_above_the_task_and_below_the_file_and_the_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("pretrain", "--task", "antmaze-medium-play", "--preset", "calql-corl")
    found = printed(capsys, *arguments)
    assert (found["task"], found["algorithm"]) == ("antmaze-medium-play", "calql")
    assert (found["reward_scale"], found["reward_shift"]) == (10.0, -5.0)
    assert (found["critic_hidden_layers"], found["calibrate_online"]) == (5, False)
    file = tmp_path / "mine.yaml"
    file.write_text("reward_shift: -4\ncritic_hidden_layers: 3\n")
    found = printed(capsys, *arguments, "--config", str(file), "--critic-hidden-layers", "2")
    assert (found["reward_shift"], found["critic_hidden_layers"]) == (-4.0, 2)
    assert found["reward_scale"] == 10.0


def test_fine_tuning_takes_of_a_preset_what_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "finetune", "--preset", "rlpd-utd20")
    assert (found["offline_ratio"], found["env_steps"]) == (0.5, 300_000)
    assert (found["algorithm"], found["critic_updates"]) == ("rlpd", 20)
    assert "num_updates" not in found
    assert FinetuneConfig().offline_ratio is None
    found = printed(capsys, "run", "--preset=rlpd-utd20")
    assert (found["offline_ratio"], found["critic_updates"], found["num_updates"]) == (0.5, 20, 0)


def test_a_file_may_name_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: cql-corl\npenalty_weight: 2\n")
    found = printed(capsys, "pretrain", "--config", str(file))
    assert (found["algorithm"], found["penalty_weight"]) == ("cql", 2.0)
    assert (found["gap_min"], found["reward_scale"]) == (-200.0, 10.0)


def test_what_is_printed_repeats_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "run", "--preset", "calql-paper")
    assert found["gap_min"] is None
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(found))
    assert printed(capsys, "run", "--config", str(tmp_path / "mine.yaml")) == found


def test_a_preset_that_is_not_there_or_of_another_algorithm_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ConfigError, match=r"There is no preset 'calql-papr'\. Did you mean"):
        preset("calql-papr")
    assert cli.main(["pretrain", "--preset", "calql-corl", "--algorithm", "iql"]) == 2
    sentence = "The preset calql-corl is one of calql, but the algorithm is to be iql; leave one"
    assert sentence in capsys.readouterr().err
    assert cli.main(["pretrain", "--preset", "nothing"]) == 2
    assert "There is no preset 'nothing'." in capsys.readouterr().err


def test_help_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pretrain", "--help"]) == 0
    assert "calql-paper" in capsys.readouterr().out
