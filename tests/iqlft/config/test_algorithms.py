"""`--algorithm` chooses the hyperparameters: which flags there are, and their defaults."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from iqlft.cli import main as cli
from iqlft.config.algorithms import ALGORITHMS, IQLHyperparameters
from iqlft.config.layers import (
    config_fields,
    load_task,
    override,
    task_names,
    to_dict,
    with_algorithm,
    with_settings,
)
from iqlft.config.settings import ConfigError, FinetuneConfig, PretrainConfig
from iqlft.config.validation import check
from iqlft.training.seeds import run_folder


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a user's own algorithm, whose module is importable."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "own_algorithm:Own"


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints, also where it exits as `--help` does."""
    with contextlib.suppress(SystemExit):
        cli.main(arguments)
    return capsys.readouterr().out


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The settings that a command would have."""
    found: dict[str, Any] = yaml.safe_load(output(capsys, *arguments, "--print-config"))
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command refuses its arguments."""
    assert cli.main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["pretrain", "run", "demo"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_help_shows_the_hyperparameters_of_the_chosen_algorithm_alone(
    command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = output(capsys, command, f"--algorithm={name}", "--help")
    flags = {word for word in text.replace(",", " ").split() if word.startswith("--")}
    own = config_fields(ALGORITHMS[name].hyperparameters)
    every = {key for each in ALGORITHMS.values() for key in config_fields(each.hyperparameters)}
    assert {key for key in every if f"--{key.replace('_', '-')}" in flags} == own.keys()


def test_the_algorithm_comes_from_the_flag_or_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("algorithm: awac\ninverse_temperature: 2\n")
    found = printed(capsys, "pretrain", "--config", str(file))
    assert (found["algorithm"], found["inverse_temperature"]) == ("awac", 2)
    assert found["hidden_layers"] == 3 != IQLHyperparameters().hidden_layers
    found = printed(capsys, "pretrain", "--config", str(file), "--algorithm", "onestep")
    assert (found["algorithm"], found["hidden_layers"]) == ("onestep", 2)


def test_the_layers_of_an_algorithm_are_below_those_of_task_file_and_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not PretrainConfig().normalize_observations
    assert printed(capsys, "pretrain", "--algorithm", "td3bc")["normalize_observations"]
    file = tmp_path / "mine.yaml"
    file.write_text("normalize_observations: false\ntd3bc: {alpha: 1}\niql: {expectile: 0.6}\n")
    found = printed(capsys, "pretrain", "--algorithm", "td3bc", "--config", str(file))
    assert (found["normalize_observations"], found["alpha"]) == (False, 1.0)
    arguments = ("--algorithm", "td3bc", "--config", str(file), "--alpha", "4")
    assert printed(capsys, "pretrain", *arguments)["alpha"] == 4.0
    assert printed(capsys, "pretrain", "--config", str(file))["expectile"] == 0.6


def test_a_task_s_section_is_used_by_its_own_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    task = ("--task", "d4rl-pen-human")
    assert printed(capsys, "pretrain", *task)["expectile"] == 0.7
    assert printed(capsys, "run", *task, "--algorithm", "bc")["dropout"] == 0.1
    assert printed(capsys, "demo", "--algorithm", "onestep")["inverse_temperature"] == 3.0
    awac = printed(capsys, "pretrain", *task, "--algorithm", "awac")
    assert awac["inverse_temperature"] == 10.0
    assert awac["reward_shift"] == 0.0


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_task_is_one_for_every_algorithm(name: str, task: str) -> None:
    values = load_task(task)
    config = override(with_algorithm(PretrainConfig(), name), values, task)
    check(config)
    assert to_dict(config).items() >= values.get(name, {}).items()


def test_a_hyperparameter_of_another_algorithm_is_refused_with_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refusal(capsys, "pretrain", "--algorithm", "awac", "--expectile", "0.5")
    assert "--expectile is a hyperparameter of iql, onestep, not of awac." in sentence
    (tmp_path / "mine.yaml").write_text("policy_noise: 0.1\n")
    sentence = refusal(capsys, "pretrain", "--config", str(tmp_path / "mine.yaml"))
    assert "mine.yaml: policy_noise is a hyperparameter of td3bc, not of iql." in sentence


def test_hyperparameters_are_held_to_their_bounds() -> None:
    own = PretrainConfig(dataset=("own/set-v0",))
    for name, changes, message in (
        ("bc", {"best_share": 0.0}, r"--best-share is 0.0, but must lie in \(0, 1\]"),
        ("td3bc", {"policy_delay": 0}, "--policy-delay is 0, but must be at least 1"),
        ("td3bc", {"noise_clip": -1.0}, "--noise-clip is -1.0, but must be a finite number from 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(with_settings(with_algorithm(own, name), **changes))


def test_a_user_s_own_algorithm_has_its_flags_and_its_run_folders(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--boldness" in output(capsys, "pretrain", "--algorithm", own, "--help")
    found = printed(capsys, "pretrain", "--algorithm", own, "--boldness", "2")
    assert (found["algorithm"], found["boldness"]) == (own, 2.0)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(found))
    assert printed(capsys, "pretrain", "--config", str(tmp_path / "mine.yaml")) == found
    assert override(FinetuneConfig(), found, "mine.yaml").algorithm == own
    config = override(PretrainConfig(), found, "mine.yaml")
    assert run_folder(config) == Path("runs/antmaze-umaze/own-s0")
    assert run_folder(with_algorithm(config, "td3bc")).name == "td3bc-s0"


def test_a_variation_of_an_algorithm_has_its_hyperparameters_and_its_settings_for_a_task(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert own
    for name, here in (("own_algorithm:BoldIQL", "iql"), ("own_algorithm:BoldAWAC", "awac")):
        as_here = printed(capsys, "pretrain", "--task", "mujoco-hopper-medium", "--algorithm", here)
        found = printed(capsys, "pretrain", "--task", "mujoco-hopper-medium", "--algorithm", name)
        assert found == as_here | {"algorithm": name}
    boldest = override(
        PretrainConfig(),
        {"algorithm": "own_algorithm:BoldestIQL", "iql": {"expectile": 0.7}},
        "mine.yaml",
    )
    assert to_dict(boldest)["expectile"] == 0.7
    assert to_dict(boldest)["boldness"] == 2.0
    # One whose hyperparameters are its own alone has none of IQL's for a task.
    other = printed(
        capsys,
        "pretrain",
        "--task",
        "mujoco-hopper-medium",
        "--algorithm",
        "own_algorithm:OtherIQL",
    )
    assert "expectile" not in other
    assert other["boldness"] == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("awax", "There is no algorithm 'awax'. Did you mean 'awac'?"),
        ("no_such_module:Own", "cannot be imported (No module named 'no_such_module')"),
        ("own_algorithm:Owm", "The module own_algorithm has no class 'Owm'."),
        ("own_algorithm:Other", "own_algorithm:Other is not an algorithm"),
        (":", "cannot be imported"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_is_no_algorithm_is_refused(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, "pretrain", "--algorithm", name)


def test_settings_of_version_0_1_are_those_of_iql() -> None:
    config = override(PretrainConfig(), {"expectile": 0.8, "hidden_size": 32, "seed": 4}, "old")
    assert config.algorithm == "iql"
    assert config.hyperparameters == IQLHyperparameters(expectile=0.8, hidden_size=32)
