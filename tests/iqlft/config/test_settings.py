"""Settings come in layers, read the same from YAML and flags, and are refused with a sentence."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iqlft.cli import main as cli
from iqlft.config.algorithms import ALGORITHMS, IQLHyperparameters
from iqlft.config.bounds import violated
from iqlft.config.layers import (
    load_task,
    load_yaml,
    override,
    part,
    setting_fields,
    task_names,
    task_of,
    to_dict,
    to_yaml,
    with_algorithm,
    with_settings,
)
from iqlft.config.settings import ConfigError, FinetuneConfig, PretrainConfig, RunConfig
from iqlft.config.validation import check, require_effect
from iqlft.config.values import whole_number

NUMBERS = st.floats(1e-6, 1.0, exclude_min=True)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command would do with these arguments."""
    assert cli.main([*arguments, "--print-config"]) == 0
    data: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return data


# -- layers -------------------------------------------------------------------------------------


def test_flags_win_over_the_config_file_which_wins_over_the_task_which_wins_over_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("eval_every: 17\nseed: 3\n")
    found = printed(
        capsys, "pretrain", "--task", "antmaze-corner", "--config", str(file), "--seed", "5"
    )
    task = load_task("antmaze-corner")
    assert found["seed"] == 5
    assert found["eval_every"] == 17 != task["eval_every"]
    assert found["num_updates"] == task["num_updates"] != PretrainConfig().num_updates
    assert found["batch_size"] == IQLHyperparameters().batch_size


@pytest.mark.parametrize("flag", [["--task", "antmaze-corner"], ["--task=antmaze-corner"]])
def test_fine_tuning_takes_a_task_s_settings_too(
    flag: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(capsys, "finetune", *flag)["env_steps"] == 3000 != FinetuneConfig().env_steps


@pytest.mark.parametrize("command", ["pretrain", "finetune", "run", "demo"])
def test_a_printed_config_read_back_is_the_same_config(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = printed(capsys, command, "--eval-every", "123", "--runs", "elsewhere")
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(first))
    assert printed(capsys, command, "--config", str(tmp_path / "first.yaml")) == first
    assert (first["eval_every"], first["runs"]) == (123, "elsewhere")


@pytest.mark.parametrize("name", task_names())
@pytest.mark.parametrize("kind", [PretrainConfig, FinetuneConfig, RunConfig])
def test_every_task_file_loads_into_every_training_command(kind: type, name: str) -> None:
    config = override(kind(), load_task(name), name)
    check(config)
    assert getattr(config, "task", name) == name


def test_a_command_s_part_of_a_run_has_the_run_s_settings() -> None:
    whole = RunConfig(num_updates=7, env_steps=9, workers=3, offline_ratio=0.5)
    assert part(whole, PretrainConfig) == PretrainConfig(num_updates=7, workers=3)
    online = FinetuneConfig(
        task=whole.task,
        algorithm="iql",
        env_steps=9,
        workers=3,
        offline_ratio=0.5,
        hyperparameters=whole.hyperparameters,
    )
    assert part(whole, FinetuneConfig) == online


# -- YAML ---------------------------------------------------------------------------------------


def value_of(name: str, hint: type) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    by_type = {
        "bool": st.booleans(),
        "int": st.integers(1, 10**9),
        "float": NUMBERS,
        "str": TEXT,
        "Path": st.sampled_from([Path("runs"), Path("/somewhere/else"), Path("1e3")]),
    }
    special = {
        "offline_ratio": st.none() | NUMBERS,
        "gap_min": st.none() | NUMBERS,
        "run": st.lists(by_type["Path"], max_size=2).map(tuple),
        "keys": st.none() | by_type["Path"],
        "seeds": st.lists(by_type["int"], max_size=3).map(tuple),
        "dataset": st.lists(TEXT, min_size=1, max_size=3).map(tuple),
        **dict.fromkeys(
            ("observation_keys", "appended", "append", "loggers"),
            st.lists(TEXT, max_size=3).map(tuple),
        ),
        "reward_scale": st.just("return_range") | NUMBERS,
        "reference_scores": st.none() | st.tuples(NUMBERS, NUMBERS),
    }
    if name in special:
        return special[name]
    if name == "environment_kwargs":
        return st.dictionaries(TEXT, st.booleans() | st.integers(), max_size=2)
    if hasattr(hint, "__args__"):
        return st.sampled_from(hint.__args__)
    return by_type[hint.__name__]


def configs(kind: type, algorithm: str) -> st.SearchStrategy[Any]:
    default = with_algorithm(kind(), algorithm)
    fields = {name: value_of(name, hint) for name, hint in setting_fields(default).items()}
    fields.pop("algorithm")
    return st.fixed_dictionaries(fields).map(lambda found: with_settings(default, **found))


@pytest.mark.parametrize(
    ("kind", "algorithm"), [(FinetuneConfig, ""), *((PretrainConfig, name) for name in ALGORITHMS)]
)
@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_yaml_brings_back_the_same_config(
    kind: type, algorithm: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = data.draw(configs(kind, algorithm))
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert override(kind(), load_yaml(path), "config.yaml") == config


def test_numbers_may_be_written_as_people_write_them() -> None:
    values = yaml.safe_load("learning_rate: 3e-4\nnum_updates: 1e6\nenv_steps: 50_000\nseed: 2.0")
    assert isinstance(values["learning_rate"], str)  # YAML 1.1 wants a point in a float.
    config = override(RunConfig(), values, "file")
    assert (config.hyperparameters.learning_rate, config.num_updates) == (3e-4, 1_000_000)
    assert (config.env_steps, config.seed) == (50_000, 2)
    assert isinstance(config.num_updates, int)
    assert isinstance(config.seed, int)


def test_none_may_be_written_in_any_case_where_it_could_be_no_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = printed(capsys, "run", "--offline-ratio", "none", "--keys", "none")
    assert (found["offline_ratio"], found["keys"]) == (None, "none")
    assert override(RunConfig(offline_ratio=0.5), {"offline_ratio": "NONE"}, "file") == RunConfig()


@pytest.mark.parametrize("text", ["five", "1.5", "inf", "nan", "1e-1", ""])
def test_what_is_no_whole_number_is_called_that(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a whole number"):
        whole_number(text)


def test_a_key_of_another_command_is_left_to_it() -> None:
    values = {"utd_ratio": 2.0, "expectile": 0.7}
    assert to_dict(override(PretrainConfig(), values, "file"))["expectile"] == 0.7
    assert override(FinetuneConfig(), values, "file").utd_ratio == 2.0


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expectil": 0.7}, "no setting 'expectil'. Did you mean 'expectile'?"),
        ({"batchsize": 1}, "Did you mean 'batch_size'?"),
        ({"num_updates": 1.5}, "num_updates is 1.5, but must be INT"),
        ({"num_updates": "many"}, "num_updates is 'many', but must be INT"),
        ({"num_updates": True}, "must be INT"),
        ({"num_updates": float("inf")}, "must be INT"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', but must be FLOAT"),
        ({"learning_rate": True}, "must be FLOAT"),
        ({"learning_rate": None}, "must be FLOAT"),
        ({"lockstep": 1}, "lockstep is 1, but must be {True,False}"),
        ({"dataset": 3}, "dataset is 3, but must be [STR [STR ...]]"),
        ({"dataset": ["a/b-v0", 3]}, "dataset is ['a/b-v0', 3], but must be [STR"),
        (
            {"reward_scale": "returns"},
            "reward_scale is 'returns', but must be FLOAT|{return_range}",
        ),
        ({"reference_scores": [1, 2, 3]}, "but must be {None}|{FLOAT FLOAT}"),
        ({"precision": "float16"}, "must be {float32,bf16,auto}"),
        ({"runs": 3}, "runs is 3, but must be PATH"),
        ({"name": None}, "name is None, but must be STR"),
        ({"run": 3}, "run is 3, but must be [PATH [PATH ...]]"),
        ({"iql": 0.7}, "iql is 0.7, but must be a mapping"),
        ({"environment_kwargs": 3}, "environment_kwargs is 3, but must be a mapping"),
    ],
)
def test_a_wrong_key_or_type_is_named_with_its_source(values: dict[str, Any], message: str) -> None:
    kind = FinetuneConfig if "run" in values else RunConfig
    with pytest.raises(ConfigError, match=r"my\.yaml: ") as caught:
        override(kind(), values, "my.yaml")
    assert message in str(caught.value)


def test_a_single_text_needs_no_list() -> None:
    assert override(PretrainConfig(), {"dataset": "a/b-v0"}, "my.yaml").dataset == ("a/b-v0",)
    assert override(FinetuneConfig(), {"run": "runs/a"}, "my.yaml").run == (Path("runs/a"),)


def test_several_datasets_follow_one_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "pretrain", "--dataset", "a-v0", "b-v0")["dataset"] == ["a-v0", "b-v0"]


def test_an_unknown_task_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'antmaze-umaze'"):
        load_task("antmaze-umase")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no configuration file"), ("a: [1", "not readable YAML"), ("- 1", "holds list")],
)
def test_a_config_file_that_is_none_is_refused(
    content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_yaml(path)


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "--workers is 0, but must be at least 1"),
        ({"env_steps": -5}, "--env-steps is -5, but must be at least 1"),
        ({"num_updates": -1}, "--num-updates is -1"),
        ({"eval_episodes": -1}, "--eval-episodes is -1"),
        ({"seed": -1}, "--seed is -1, but must be at least 0"),
        ({"slack": -1}, "--slack is -1"),
        ({"lockstep": True, "workers": 2}, "--lockstep works with exactly one worker, not 2"),
        ({"offline_ratio": 1.5}, r"--offline-ratio is 1.5, but must lie in \[0, 1\]"),
        ({"expectile": float("nan")}, "--expectile is nan"),
        ({"discount": -0.1}, "--discount is -0.1"),
        ({"utd_ratio": 0.0}, "--utd-ratio is 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"inverse_temperature": float("inf")}, "--inverse-temperature is inf"),
        ({"name": "../other"}, "--name is '../other', but must be the name of one folder"),
        ({"dropout": 1.0}, r"--dropout is 1.0, but must lie in \[0, 1\)"),
        ({"reward_scale": float("nan")}, "--reward-scale is nan, but must be finite"),
        ({"reference_scores": (2.0, 1.0)}, r"--reference-scores is \(2.0, 1.0\), but must be two"),
        ({"dataset": ()}, r"--dataset is \(\), but must name at least one dataset"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_flag(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(with_settings(RunConfig(dataset=("own/set-v0",)), **changes))


def test_fine_tuning_needs_a_worker_here_or_elsewhere() -> None:
    check(FinetuneConfig(workers=0, remote_workers=1))
    with pytest.raises(ConfigError, match="needs at least one worker; say --workers 1"):
        check(FinetuneConfig(workers=0))


def test_folders_may_be_given_as_texts() -> None:
    assert PretrainConfig(runs="here") == PretrainConfig(runs=Path("here"))  # type: ignore[arg-type]
    given: Any = {"run": "runs/mine", "runs": "here", "keys": "keys"}
    config = FinetuneConfig(**given)
    assert (config.run, config.runs, config.keys) == (
        (Path("runs/mine"),), Path("here"), Path("keys"),
    )  # fmt: skip
    given["run"] = ("one", "two")
    assert FinetuneConfig(**given).run == (Path("one"), Path("two"))


def test_what_makes_sense_is_not_refused() -> None:
    check(
        RunConfig(
            dataset=("own/set-v0",),
            lockstep=True,
            workers=1,
            offline_ratio=0.0,
            seed=0,
            slack=0,
        )
    )
    check(IQLHyperparameters())
    check(FinetuneConfig(offline_ratio=1.0, into="copy"))


# -- lightness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "import iqlft.config.settings",
        "from iqlft.cli.main import main; assert main(['--help']) == 0",
        "from iqlft.cli.main import main; main(['pretrain', '--print-config'])",
    ],
)
def test_settings_and_help_do_not_import_torch(statement: str) -> None:
    code = f"import sys; {statement}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_a_config_as_data_holds_nothing_but_yaml_types() -> None:
    data = to_dict(FinetuneConfig(run=(Path("a"), Path("b"))))
    assert data["run"] == ["a", "b"]
    assert data["runs"] == "runs"


def test_a_task_without_its_dataset_is_refused() -> None:
    with pytest.raises(ConfigError, match="pretrain_config"):
        check(PretrainConfig(task="antmaze-medium-play"))


def test_settings_that_do_nothing_are_refused_where_they_are_new_alone() -> None:
    """A run of before there was a rule goes on."""
    for config in (
        FinetuneConfig(offline_ratio=0.5, final_offline_ratio=0.1),
        FinetuneConfig(guide_until=300),
    ):
        check(config)
        with pytest.raises(ConfigError, match="say how"):
            require_effect(config)


def test_a_choice_beside_any_text_is_no_bound() -> None:
    assert violated(str | Literal["auto"], "free") == ""
    assert violated(Literal["auto"] | None, "free") == "be one of auto"
    assert violated(Literal["auto"], 3) == "be one of auto"


def test_data_that_no_task_names_are_read_as_they_stand() -> None:
    own = PretrainConfig(dataset=("field/reach-v0",))
    assert own.task == "field-reach-v0"
    assert (own.goal, own.reward_scale, own.reward_shift) == ("stored", 1, 0)
    assert PretrainConfig(dataset=("a/b-v0", "a/../c")).task == "a-b-v0+a-..-c"
    assert PretrainConfig(task="mine", dataset=("field/reach-v0",)).task == "mine"


def test_a_task_is_known_by_its_dataset_whatever_its_version() -> None:
    assert task_of(("D4RL/door/human-v2",)) == "d4rl-door-human"
    assert task_of(("iqlft/antmaze/umaze-v0",)) == "antmaze-umaze"
    assert task_of(("iqlft/antmaze/umaze-v1", "field/reach-v0")) is None


@pytest.mark.parametrize(
    ("flags", "task", "expectile"),
    [
        ([], "antmaze-umaze", 0.9),
        (["--dataset", "field/reach-v0"], "field-reach-v0", 0.9),
        (["--dataset", "a/b-v0", "a/c-v0", "--seed", "1"], "a-b-v0+a-c-v0", 0.9),
        (["--task", "mine", "--dataset", "field/reach-v0"], "mine", 0.9),
        (["--dataset=D4RL/door/human-v2"], "d4rl-door-human", 0.7),
        (["--task", "d4rl-door-human", "--dataset", "field/reach-v0"], "d4rl-door-human", 0.7),
    ],
)
def test_the_dataset_decides_on_the_task_where_none_is_named(
    flags: list[str], task: str, expectile: float, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "pretrain", *flags)
    assert (found["task"], found["expectile"]) == (task, expectile)
    assert (found["reward_shift"], found["goal"]) == (
        (0, "stored") if flags else (-1, "evaluation")
    )


def test_a_file_decides_on_the_task_as_flags_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    for text, task in (("dataset: a/b-v0", "a-b-v0"), ("task: own\ndataset: a/b-v0", "own")):
        file.write_text(text)
        assert printed(capsys, "pretrain", "--config", str(file))["task"] == task
    file.write_text("task: antmaze-medium-play")
    assert printed(capsys, "run", "--config", str(file))["dataset"] == [
        "iqlft/antmaze/medium-play-v1"
    ]


def test_flags_replace_the_dataset_of_a_file_and_the_name_made_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    for first, task in (("", "c-d-v0"), ("task: a-b-v0\n", "c-d-v0"), ("task: own\n", "own")):
        file.write_text(f"{first}dataset: a/b-v0")
        found = printed(capsys, "pretrain", "--config", str(file), "--dataset", "c/d-v0")
        assert (found["task"], found["dataset"]) == (task, ["c/d-v0"])


def test_an_empty_task_is_the_default_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("task: ''")
    for flags in (["--task="], ["--task", ""], ["--config", str(tmp_path / "mine.yaml")]):
        assert printed(capsys, "pretrain", *flags)["task"] == "antmaze-umaze"


def test_a_task_with_the_data_of_another_one_s_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "full.yaml"
    file.write_text(yaml.safe_dump(printed(capsys, "run", "--task", "antmaze-medium-play")))
    both = ["--task", "antmaze-umaze", "--config", str(file)]
    for command in (["run", "--print-config"], ["sweep", "--dry-run"]):
        assert cli.main([*command, *both]) == 2
        assert "has the task antmaze-medium-play and its dataset" in capsys.readouterr().err
    assert printed(capsys, "run", *both, "--dataset", "a/b-v0")["task"] == "antmaze-umaze"
    assert printed(capsys, "run", "--task", "antmaze-medium-play", *both[2:])
