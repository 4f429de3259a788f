"""Fine-tuning goes on as its run was pretrained, for as long as its task says; flags win."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from iqlft.api import finetune_config
from iqlft.cli import main as cli
from iqlft.config.errors import ConfigError
from iqlft.config.layers import to_dict, with_algorithm
from iqlft.runs.folder import Run, pretrain_config


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, dict[str, Any]]:
    """The first line, and the settings, that `finetune --print-config` prints."""
    assert cli.main(["finetune", *map(str, arguments), "--print-config"]) == 0
    text = capsys.readouterr().out
    return text.partition("\n")[0], yaml.safe_load(text)


def changed(run: Path, **settings: object) -> None:
    """As if the run had been pretrained with other settings."""
    opened = Run.open(run)
    opened.write_config("pretrain", {**(opened.config("pretrain") or {}), **settings})


def test_the_task_and_the_pretraining_are_inherited_and_said(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(fresh, precision="bf16", threads=2, eval_every=1000, port=5555)
    line, settings = printed(capsys, fresh)
    # Of the task, which has these steps alone for fine-tuning; of the machine, not of the command.
    assert (settings["env_steps"], settings["port"], settings["runs"]) == (3000, 0, "runs")
    assert (settings["precision"], settings["threads"], settings["device"]) == ("bf16", 2, "cpu")
    rhythm = ("eval_every", "eval_episodes", "log_every", "checkpoint_every", "tensorboard")
    assert [settings[key] for key in rhythm] == [1000, 2, 50, 20, False]
    assert settings["workers"] == 2
    assert line == (
        "# Inherited: env_steps 3000 from the task antmaze-corner; device cpu, precision bf16, "
        "threads 2, eval_every 1000, eval_episodes 2, log_every 50, checkpoint_every 20, "
        "tensorboard False from pretraining."
    )


def test_a_file_and_flags_win(
    fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("env_steps: 7\nlog_every: 8\neval_every: 6\n")
    given = ["--config", tmp_path / "mine.yaml", "--eval-every", "9"]
    line, settings = printed(capsys, fresh, *given)
    assert [settings[key] for key in ("env_steps", "log_every", "eval_every")] == [7, 8, 9]
    assert "env_steps" not in line
    assert "eval_episodes 2" in line


def test_a_run_has_its_task(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["finetune", str(fresh), "--task", "antmaze-umaze", "--print-config"]) == 2
    assert "is of the task antmaze-corner, not of antmaze-umaze" in capsys.readouterr().err


def test_a_switch_of_an_algorithm_of_one_s_own_may_stand_before_the_run(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "config"))
    own = with_algorithm(pretrain_config(Run.open(fresh)), "own_algorithm:Own")
    Run.open(fresh).write_config("pretrain", to_dict(own))
    for arguments in (["--careful", fresh], [fresh, "--careful"]):
        _, settings = printed(capsys, *arguments)
        assert (settings["run"], settings["careful"]) == ([str(fresh)], True)


def test_a_variation_of_an_algorithm_has_its_settings_for_the_task(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "config"))
    cloned = with_algorithm(pretrain_config(Run.open(fresh)), "bc")
    settings = to_dict(dataclasses.replace(cloned, task="mujoco-hopper-medium"))
    Run.open(fresh).write_config("pretrain", settings)
    _, as_here = printed(capsys, fresh, "--algorithm", "iql")
    _, varied = printed(capsys, fresh, "--algorithm", "own_algorithm:BoldIQL")
    assert (as_here["expectile"], as_here["actor_schedule"]) == (0.7, "cosine")
    assert varied == as_here | {"algorithm": "own_algorithm:BoldIQL"}


def test_a_switch_keeps_the_rewards_that_pretraining_had(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(fresh, task="mujoco-hopper-medium", reward_scale=2.5)
    line, settings = printed(capsys, fresh, "--algorithm", "rlpd")
    assert "reward" not in line
    assert (settings["entropy_backup"], settings["num_target_critics"]) == (True, 2)
    assert "reward_scale" not in settings


def test_without_a_named_run_the_newest_one_is_inherited_from(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, settings = printed(capsys, "--runs", fresh.parents[1])
    assert (settings["env_steps"], settings["eval_episodes"]) == (3000, 2)
    # Without any the defaults are shown; one that is there is to be readable.
    for arguments in (("--runs", fresh.parents[1] / "nothing"), (fresh / "nothing",)):
        _, settings = printed(capsys, *arguments)
        assert (settings["env_steps"], settings["eval_episodes"]) == (1_000_000, 100)
    changed(fresh, algorithm="bc")
    assert cli.main(["finetune", str(fresh), "--print-config"]) == 2
    assert ", not of bc." in capsys.readouterr().err


def test_runs_that_bring_along_different_settings_need_a_flag(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(fresh, fresh.with_name("iql-s1")))
    changed(other, eval_every=50)
    assert cli.main(["finetune", str(fresh), str(other)]) == 2
    assert "different settings of --eval-every; give these as flags" in capsys.readouterr().err
    _, settings = printed(capsys, fresh, other, "--eval-every", "50")
    assert settings["eval_every"] == 50


def test_runs_of_one_algorithm_pass_on_the_hyperparameters_in_which_they_agree(
    fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(fresh, fresh.with_name("iql-s1")))
    changed(fresh, expectile=0.7, inverse_temperature=3.0)
    changed(other, expectile=0.8, inverse_temperature=3.0)
    named = (fresh, other, "--algorithm", "iql")
    assert cli.main(["finetune", *map(str, named)]) == 2
    assert "different settings of --expectile; give" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("iql: {expectile: 0.6}")
    for given in (["--expectile", "0.6"], ["--config", tmp_path / "mine.yaml"]):
        _, settings = printed(capsys, *named, *given)
        assert (settings["expectile"], settings["inverse_temperature"]) == (0.6, 3.0)

    with pytest.raises(ConfigError, match="different settings of --expectile; give"):
        finetune_config(fresh, other, algorithm="iql")
    config = finetune_config(fresh, other, algorithm="iql", expectile=0.6)
    assert to_dict(config)["inverse_temperature"] == 3.0
    # Where no algorithm is asked for, each run keeps its own.
    _, settings = printed(capsys, fresh, other)
    assert "expectile" not in settings


def test_what_a_preset_sets_is_given(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(fresh, fresh.with_name("iql-s1")))
    changed(other, task="antmaze-umaze")
    assert cli.main(["finetune", str(fresh), str(other), "--algorithm", "rlpd"]) == 2
    assert "different settings of --env-steps; give" in capsys.readouterr().err
    _, settings = printed(capsys, fresh, other, "--preset", "rlpd-fql")
    assert settings["env_steps"] == 1_000_000


def test_what_is_inherited_is_said_before_training_and_stands_in_the_configuration(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--env-steps", "4", "--workers", "1", "--lockstep"]
    assert cli.main(["finetune", str(fresh), *flags]) == 0
    line = capsys.readouterr().out.partition("\n")[0]
    assert line.startswith("Inherited: device cpu, eval_every 100, eval_episodes 2, ")
    config = Run.open(fresh).config("finetune") or {}
    assert (config["env_steps"], config["eval_episodes"], config["device"]) == (4, 2, "cpu")
