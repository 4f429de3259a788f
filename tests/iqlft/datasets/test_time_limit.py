"""Every episode ends: by the environment's time limit, a setting, or the recorded lengths."""

import json
from pathlib import Path

import gymnasium
import minari
import pytest

import iqlft
import own_environments
from iqlft.config.settings import ConfigError, PretrainConfig
from iqlft.datasets.time_limit import has_time_limit
from iqlft.runs.policy import load_policy, save_policy
from iqlft.training.build import load_task_dataset
from iqlft.training.evaluate import evaluation
from iqlft_workers.environment import make

ID = "own/endless-v0"
LIMIT = own_environments.STEPS


@pytest.fixture
def endless(minari_root: Path, importable: None) -> str:  # noqa: ARG001
    """A set of an environment that records no time limit."""
    return record(minari_root, ID)


def record(minari_root: Path, dataset_id: str, steps: int = LIMIT) -> str:
    """Makes a set of episodes of up to `steps` steps of that environment; returns its id."""
    environment = gymnasium.make(own_environments.ID, max_episode_steps=steps)
    with pytest.warns(UserWarning, match="is set to None"):
        minari.create_dataset_from_buffers(
            dataset_id, own_environments.episodes(environment, steps=steps), env=environment
        )
    path = minari_root / dataset_id / "data/metadata.json"
    metadata = json.loads(path.read_text())
    recorded = json.loads(metadata["env_spec"]) | {"max_episode_steps": None}
    path.write_text(json.dumps(metadata | {"env_spec": json.dumps(recorded)}))
    return dataset_id


def test_an_environment_without_a_limit_gets_that_of_the_recording_which_is_said_once(
    endless: str,
) -> None:
    dataset = iqlft.load_dataset(endless, goal="stored")
    assert dataset.environment.kwargs["max_episode_steps"] == LIMIT
    (note,) = dataset.notes
    assert "has no time limit: its episodes end after 20 steps" in note
    assert "--max-episode-steps" in note
    environment = make(dataset.environment)
    assert has_time_limit(environment)
    environment.close()


def test_a_setting_is_the_limit_and_nothing_need_be_said(endless: str) -> None:
    dataset = iqlft.load_dataset(endless, goal="stored", max_episode_steps=7)
    assert dataset.environment.kwargs["max_episode_steps"] == 7
    assert dataset.notes == ()


def test_appended_data_do_not_change_the_limit_of_the_runs_own(
    endless: str, minari_root: Path
) -> None:
    longer = record(minari_root, "own/longer-v0", steps=3 * LIMIT)
    config = PretrainConfig(dataset=(endless,), goal="stored", appended=(longer,))
    dataset = load_task_dataset(config)
    assert dataset.num_transitions > len(iqlft.load_dataset(endless, goal="stored").rows())
    assert dataset.environment.kwargs["max_episode_steps"] == LIMIT


def test_a_policy_whose_episodes_never_end_is_evaluated_with_a_limit_alone(
    endless: str, tmp_path: Path
) -> None:
    dataset = iqlft.load_dataset(endless, goal="stored")
    iqlft.IQL(dataset, hidden_size=16, device="cpu").save(tmp_path)
    policy = load_policy(tmp_path)
    del policy.environment.kwargs["max_episode_steps"]  # type: ignore[attr-defined]
    save_policy(tmp_path, policy.weights, policy.environment, {})
    with pytest.raises(ConfigError, match=r"has no time limit.*--max-episode-steps N"):
        evaluation(tmp_path, 2, 1)
    rows = dict(evaluation(tmp_path, 2, 1, max_episode_steps=3).rows())
    assert rows["length"] == "mean 3 steps"
