"""What a set records of its environment is data: rebuilt where it may be run, else said."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest

import own_environments
from iqlft.cli.main import main
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.loading import check_fits, load_dataset
from iqlft.datasets.recorded import open_dataset
from iqlft_workers.environment import Environment, EnvironmentMismatchError, EnvironmentSpec
from iqlft_workers.trust import UntrustedError
from iqlft_workers.wrapping import WrapperError

ID = "own/skewed-v0"
SKEWED = {"id": "OwnSkewed-v0", "entry_point": "own_environments:Skewed"}
Record = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("minari_root")


@pytest.fixture
def record(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    importable: None,  # noqa: ARG001
) -> Record:
    """Writes a set of one's own environment, and then changes what it records of that."""
    monkeypatch.chdir(tmp_path)

    def write(environment: gymnasium.Env[Any, Any] | None = None, **changes: object) -> Path:
        environment = environment or gymnasium.make("OwnSkewed-v0")
        with pytest.warns(UserWarning, match="is set to None"):
            minari.create_dataset_from_buffers(
                ID, own_environments.episodes(environment), env=environment
            )
        path = Path(os.environ["MINARI_DATASETS_PATH"]) / ID / "data/metadata.json"
        metadata = json.loads(path.read_text())
        metadata["env_spec"] = json.dumps(json.loads(metadata["env_spec"]) | changes)
        path.write_text(json.dumps(metadata))
        return path

    return write


def stored(**more: Any) -> EnvironmentSpec:  # noqa: ANN401
    return load_dataset(ID, goal="stored", **more).environment


def test_an_entry_point_that_nobody_registers_is_run_by_no_command(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    path = record(entry_point="os:system", kwargs={"command": f"touch {mark}"})
    assert main(["data", "check", ID]) == 0
    assert "would run 'os:system' with {'command': 'touch" in capsys.readouterr().out
    pretrain = ["pretrain", "--dataset", ID, "--goal", "stored", "--dry-run"]
    assert main(pretrain) == 2
    assert "would run 'os:system'" in (said := capsys.readouterr().err)
    assert "--trust" in said
    assert main(["data", "plot", ID]) == 0
    # Minari runs it where the spaces are not recorded.
    metadata = json.loads(path.read_text())
    del metadata["observation_space"]
    path.write_text(json.dumps(metadata))
    for command in (["data", "check", ID], pretrain, ["data", "plot", ID], ["data", "list"]):
        assert main(command) == (0 if command == ["data", "list"] else 2)
        written = capsys.readouterr()
        assert "does not say observation_space" in written.out + written.err
    assert not mark.exists()


def test_trust_runs_what_nobody_registers(record: Record) -> None:
    record(id="Mine-v0", entry_point="own_environments:Unlisted", kwargs={"far": 0.5})
    with pytest.raises(UntrustedError, match=r"would run .own_environments:Unlisted. with \{.far"):
        stored()
    environment = Environment(stored(trust=True))
    assert isinstance(environment.gym.unwrapped, own_environments.Unlisted)
    assert environment.gym.unwrapped.far == 0.5
    environment.close()


def test_a_registered_class_is_trusted_under_an_id_that_nobody_registers(record: Record) -> None:
    record(id="OfMyScript-v0", kwargs={"far": 0.5}, max_episode_steps=7)
    environment = Environment(stored())
    assert environment.gym.spec is not None
    assert environment.gym.spec.id == "OfMyScript-v0"
    assert environment.gym.spec.max_episode_steps == 7
    environment.close()


def test_no_time_limit_is_taken_over_from_the_registration(record: Record) -> None:
    record(max_episode_steps=None)
    environment = Environment(stored())
    assert "TimeLimit" not in str(environment.gym)
    environment.close()


def test_windows_are_not_taken_over(record: Record) -> None:
    record(kwargs={"render_mode": "human", "far": 0.25})
    spec = stored()
    assert spec.kwargs == {"far": 0.25, "max_episode_steps": own_environments.STEPS}
    Environment(spec).close()


def test_wrappers_of_the_recording_are_those_of_the_evaluation(record: Record) -> None:
    environment = gymnasium.make("OwnSkewed-v0")
    environment = gymnasium.wrappers.RecordEpisodeStatistics(environment)
    environment = gymnasium.wrappers.RescaleAction(environment, -2, 3)
    record(gymnasium.wrappers.TimeAwareObservation(environment, flatten=True))
    dataset = load_dataset(ID, goal="stored")
    made = Environment(dataset.environment)
    check_fits(dataset, made)
    assert made.observation_dim == 3
    np.testing.assert_array_equal(made.action_range.low, [-2, -2])
    assert "RecordEpisodeStatistics" not in str(made.gym)
    made.close()


def test_running_statistics_are_refused_by_name(record: Record) -> None:
    record(gymnasium.wrappers.NormalizeReward(gymnasium.make("OwnSkewed-v0")))
    with pytest.raises(WrapperError, match="recorded behind NormalizeReward"):
        Environment(stored())


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ("Pendulum-v1", r"Pendulum-v1 observes an array \[3\], but the data hold an array \[2\]"),
        ("MountainCarContinuous-v0", r"actions of .* have 2 values, but .* have 1"),
    ],
)
def test_an_environment_of_other_dimensions_is_refused(
    record: Record, other: str, match: str
) -> None:
    record()
    dataset = load_dataset(ID, goal="stored", environment=EnvironmentSpec(other))
    with pytest.raises(EnvironmentMismatchError, match=match):
        check_fits(dataset, Environment(dataset.environment))


def test_an_environment_with_other_observation_bounds_is_refused(record: Record) -> None:
    path = record()
    metadata = json.loads(path.read_text())
    space = json.loads(metadata["observation_space"])
    metadata["observation_space"] = json.dumps(space | {"high": [10.0, 4.0]})
    path.write_text(json.dumps(metadata))
    dataset = load_dataset(ID, goal="stored")
    environment = Environment(dataset.environment)
    with pytest.raises(
        EnvironmentMismatchError,
        match=r"Value 1 of the observations of own/skewed-v0 lies in \[-10, 4\], but in .* \[-10",
    ):
        check_fits(dataset, environment)
    environment.close()


def test_an_entry_point_that_is_none_is_named(record: Record) -> None:
    record(entry_point="nothing")
    with pytest.raises(DatasetError, match="'nothing', which is no module:class"):
        stored()


def test_a_class_that_has_moved_within_its_package_is_found(record: Record) -> None:
    record(id="Pendulum-v1", entry_point="gymnasium.envs.classic.pendulum:PendulumEnv", kwargs={})
    spec = stored()
    assert spec.entry_point == "gymnasium.envs.classic_control.pendulum:PendulumEnv"


def test_a_class_of_the_recording_script_needs_a_module(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(id="Mine-v0", entry_point="__main__:Reach")
    with pytest.raises(DatasetError, match="--environment MODULE:Mine-v0"):
        stored(trust=True)
    monkeypatch.setattr("__main__.Reach", own_environments.Skewed, raising=False)
    with pytest.raises(UntrustedError, match="__main__:Reach"):
        stored()
    assert stored(trust=True).entry_point == "__main__:Reach"


def test_a_class_of_the_script_is_found_where_its_id_is_registered(record: Record) -> None:
    record(entry_point="__main__:Skewed")
    assert stored().entry_point == own_environments.ENTRY_POINT


def test_a_run_of_an_unlisted_environment_goes_all_the_way(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    record(id="Mine-v0", entry_point="own_environments:Unlisted")
    quick = ["--eval-episodes", "1", "--log-every", "10", "--checkpoint-every", "20"]
    quick += ["--workers", "1"]
    small = ["--hidden-size", "8", "--batch-size", "8", "--reward-shift", "0"]
    assert main(
        ["pretrain", "--dataset", ID, "--goal", "stored", "--trust", "--num-updates", "20",
         "--eval-every", "20", *quick, *small]
    ) == 0  # fmt: skip
    (run,) = map(str, Path("runs").glob("*/*"))
    assert main(["finetune", run, "--env-steps", "20", "--eval-every", "20", *quick]) == 0
    assert main(["evaluate", run, "--episodes", "1", "--workers", "1"]) == 0
    # The policy alone does not vouch for what it names.
    assert main(["export", run, "--out", "exported"]) == 0
    evaluate = ["evaluate", "exported", "--episodes", "1", "--workers", "1"]
    capsys.readouterr()
    assert main(evaluate) == 2
    assert "'own_environments:Unlisted'" in capsys.readouterr().err
    assert main([*evaluate, "--trust"]) == 0


def test_open_dataset_runs_nothing(record: Record) -> None:
    record(entry_point="no.such.module:Thing")
    assert len(open_dataset(ID)) == 8
