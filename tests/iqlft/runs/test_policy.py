"""A saved policy is the actor itself, runs without torch, and refuses what does not fit."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from actors import with_array
from iqlft.runs.policy import PolicyError, load_policy, save_policy
from iqlft_workers.actor import ActorWeights, GaussianActor
from iqlft_workers.environment import EnvironmentSpec

MakeWeights = Callable[..., ActorWeights]
DICT = EnvironmentSpec("iqlft/AntMaze-Corner-v0", {"a": 1}, ("achieved_goal", "observation"))
FLAT = EnvironmentSpec("Pendulum-v1")


@pytest.fixture
def weights(make_weights: MakeWeights) -> ActorWeights:
    made = with_array(
        make_weights(5, 2, version=42), "observation_mean", np.arange(5, dtype=np.float32)
    )
    return with_array(made, "observation_std", np.full(5, 2, np.float32))


@pytest.fixture
def folder(tmp_path: Path, weights: ActorWeights) -> Path:
    save_policy(tmp_path / "policy", weights, DICT, {"task": "small"})
    return tmp_path / "policy"


def test_what_is_loaded_is_what_was_saved(folder: Path, weights: ActorWeights) -> None:
    policy = load_policy(folder)
    assert policy.environment == DICT
    assert policy.weights.version == 42
    assert (policy.weights.kind, policy.weights.settings) == (weights.kind, weights.settings)
    assert policy.weights.arrays.keys() == weights.arrays.keys()
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(policy.weights.arrays[name], array, err_msg=name)
    assert json.loads((folder / "policy.json").read_text())["task"] == "small"


def test_a_run_folder_serves_as_well_as_its_policy_folder(folder: Path) -> None:
    assert load_policy(folder.parent).weights.version == 42
    assert load_policy(str(folder)).weights.version == 42


def test_mappings_and_flat_observations_give_the_actor_s_mean(
    folder: Path, weights: ActorWeights
) -> None:
    policy, actor = load_policy(folder), GaussianActor(weights)
    flat = np.random.default_rng(0).standard_normal(5).astype(np.float32)
    mapping = {"observation": flat[2:], "desired_goal": np.zeros(2), "achieved_goal": flat[:2]}
    expected = actor.mean(flat)
    np.testing.assert_array_equal(policy(mapping), expected)
    np.testing.assert_array_equal(policy(flat), expected)
    np.testing.assert_allclose(policy(np.stack([flat, flat])), [expected, expected], rtol=1e-6)
    assert policy(flat).dtype == np.float32


def test_with_a_random_generator_the_action_is_sampled(folder: Path) -> None:
    policy, flat = load_policy(folder), np.zeros(5, np.float32)
    first, again, other = (policy(flat, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_observation_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(folder)
    with pytest.raises(PolicyError, match="observes 5 values, but was given 4"):
        policy(np.zeros(4))
    with pytest.raises(PolicyError, match="observes achieved_goal, observation, but was given"):
        policy({"observation": np.zeros(3)})
    flat = load_policy(folder).weights
    save_policy(tmp_path / "flat", flat, FLAT, {})
    with pytest.raises(PolicyError, match="observes one array, but was given the keys"):
        load_policy(tmp_path / "flat")({"observation": np.zeros(5)})


def test_no_policy_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"There is no policy in .*first checkpoint"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("actor.safetensors", b"\0" * 40),
        ("actor.safetensors", b""),
        ("policy.json", b"{"),
        ("policy.json", b"{}"),
        ("policy.json", b"null"),
        ("policy.json", b'{"kind": "oracle", "version": 1, "environment": {"id": "a"}}'),
        ("policy.json", b'{"version": 1, "environment": {"colour": "a"}}'),
        ("policy.json", b'{"version": 1, "environment": "a"}'),
    ],
)
def test_a_damaged_policy_is_a_clear_error(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(PolicyError, match="is damaged"):
        load_policy(folder)


def test_a_folder_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, weights: ActorWeights
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PolicyError, match="cannot be written"):
        save_policy(tmp_path / "file" / "policy", weights, FLAT, {})


def test_a_policy_acts_where_importing_torch_raises(folder: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np, iqlft;"
        f"policy = iqlft.load_policy({str(folder)!r});"
        "print(policy(np.zeros(5)).tolist())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    expected = load_policy(folder)(np.zeros(5)).tolist()
    assert json.loads(result.stdout) == pytest.approx(expected, abs=1e-6)
