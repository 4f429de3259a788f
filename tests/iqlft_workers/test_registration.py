"""What recorded datasets and runs call our environments still leads to them."""

import json
import shutil
from pathlib import Path

import gymnasium
import minari
import pytest

from iqlft.datasets.audit.replay_check import replay_check
from iqlft.datasets.loading import load_dataset
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.registration import current_module, current_spec


@pytest.mark.parametrize(
    ("recorded", "today"),
    [
        ("workers.antmaze:AntMazeEnv", "iqlft_workers.antmaze:AntMazeEnv"),
        ("workers.fixed_goal:FixedGoalMaze", "iqlft_workers.fixed_goal:FixedGoalMaze"),
        ("workers:iqlft/AntMaze-UMaze-v0", "iqlft_workers:iqlft/AntMaze-UMaze-v0"),
        ("iqlft_workers.antmaze:AntMazeEnv", "iqlft_workers.antmaze:AntMazeEnv"),
        ("my.workers.antmaze:Maze", "my.workers.antmaze:Maze"),
        ("workers_of_mine:Maze-v0", "workers_of_mine:Maze-v0"),
        ("iqlft/AntMaze-UMaze-v0", "iqlft/AntMaze-UMaze-v0"),
    ],
)
def test_a_recorded_name_is_translated_and_others_stay(recorded: str, today: str) -> None:
    assert current_module(recorded) == today


def test_a_recorded_spec_is_made_and_itself_not_changed() -> None:
    spec = gymnasium.spec("iqlft/AntMaze-Corner-v0")
    recorded = gymnasium.envs.registration.EnvSpec(
        spec.id, "workers.antmaze:AntMazeEnv", kwargs=spec.kwargs
    )
    made = gymnasium.make(current_spec(recorded), disable_env_checker=True)
    assert type(made.unwrapped).__module__ == "iqlft_workers.antmaze"
    assert recorded.entry_point == "workers.antmaze:AntMazeEnv"
    made.close()


def test_an_environment_is_built_by_the_id_that_a_run_of_0_1_recorded() -> None:
    environment = Environment(
        EnvironmentSpec(
            "workers:iqlft/AntMaze-Corner-v0", observation_keys=("achieved_goal", "observation")
        )
    )
    assert environment.observation_dim == 29
    environment.close()


@pytest.fixture
def recorded_by_0_1(
    corner_root: Path, corner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The corner dataset, whose metadata name the environment as 0.1 did."""
    shutil.copytree(corner_root, tmp_path / "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    path = tmp_path / "minari" / corner / "data" / "metadata.json"
    text = path.read_text()
    assert "iqlft_workers.antmaze:" in text
    path.write_text(text.replace("iqlft_workers.antmaze:", "workers.antmaze:"))
    recorded = json.loads(json.loads(path.read_text())["env_spec"])
    assert recorded["entry_point"] == "workers.antmaze:AntMazeEnv"
    return corner


def test_a_dataset_of_0_1_is_read_like_one_of_today(
    recorded_by_0_1: str, monkeypatch: pytest.MonkeyPatch, corner_root: Path
) -> None:
    old = load_dataset(recorded_by_0_1)
    assert old.environment.id.removeprefix("iqlft_workers:") == "iqlft/AntMaze-Corner-v0"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(corner_root))
    assert load_dataset(recorded_by_0_1).environment == old.environment
    environment = Environment(old.environment)
    assert environment.gym.unwrapped.__class__.__module__ == "iqlft_workers.antmaze"
    environment.close()


def test_a_dataset_of_0_1_passes_the_replay_check(recorded_by_0_1: str) -> None:
    finding = replay_check(minari.load_dataset(recorded_by_0_1))
    assert finding.value is not None
    assert finding.verdict == "ok"
