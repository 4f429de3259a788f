"""A saved policy is the actor itself, runs without torch, and refuses what does not fit."""

import dataclasses
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
from iqlft_workers.environment import EnvironmentSpec, make
from iqlft_workers.trust import UntrustedError

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


def test_actions_are_in_the_environment_s_units_unless_raw_ones_are_asked_for(
    tmp_path: Path, weights: ActorWeights
) -> None:
    bounds = {"action_low": (0.1, 0.0), "action_high": (0.7, 1.3)}
    save_policy(tmp_path, weights, dataclasses.replace(FLAT, **bounds), {})
    policy, seen = load_policy(tmp_path), np.zeros((50, 5), np.float32)
    assert (policy.environment.action_low, policy.environment.action_high) == tuple(bounds.values())
    for rng in (None, 0):
        generators = (None, None) if rng is None else map(np.random.default_rng, (rng, rng))
        raw, action = (
            policy(seen, generator, raw=each)
            for generator, each in zip(generators, (True, False), strict=True)
        )
        np.testing.assert_allclose(action, [0.4, 0.65] + raw * [0.3, 0.65], rtol=1e-6)
        assert action.dtype == np.float32
        assert (action >= np.float32([0.1, 0])).all()
        assert (action <= np.float32([0.7, 1.3])).all()
    np.testing.assert_array_equal(policy(seen, raw=True), GaussianActor(weights).mean(seen))


def test_an_old_policy_without_bounds_says_once_that_it_acts_within_one(
    folder: Path, weights: ActorWeights, caplog: pytest.LogCaptureFixture
) -> None:
    policy, flat = load_policy(folder), np.zeros(5, np.float32)
    np.testing.assert_array_equal(policy(flat), GaussianActor(weights).mean(flat))
    policy(flat)
    assert len(caplog.messages) == 1
    assert "saved without the bounds of its actions" in caplog.text
    caplog.clear()
    load_policy(folder)(flat, raw=True)
    assert not caplog.messages


@pytest.mark.parametrize(
    "bounds",
    [
        {"action_low": [0.0], "action_high": [1.0]},
        {"action_low": [0.0, 0.0]},
        {"action_low": [1.0, 0.0], "action_high": [0.0, 1.0]},
        {"action_low": [0.0, float("nan")], "action_high": [1.0, 1.0]},
    ],
)
def test_bounds_that_are_none_are_damage(folder: Path, bounds: dict[str, list[float]]) -> None:
    path = folder / "policy.json"
    description = json.loads(path.read_text())
    description["environment"] |= bounds
    path.write_text(json.dumps(description))
    with pytest.raises(PolicyError, match="is damaged"):
        load_policy(folder)


def test_a_policy_does_not_vouch_for_what_it_names(folder: Path, tmp_path: Path) -> None:
    path = folder / "policy.json"
    description = json.loads(path.read_text())
    description["environment"] |= {"entry_point": "os:system", "kwargs": {}, "trust": True}
    del description["digest"]
    path.write_text(json.dumps(description))
    with pytest.raises(UntrustedError, match="would run 'os:system'"):
        make(load_policy(folder).environment)
    assert load_policy(folder, trust=True).environment.trust
    (tmp_path / "config.yaml").write_text("pretrain: {trust: true}\n")
    assert load_policy(tmp_path).environment.trust
    assert not load_policy(folder).environment.trust


def test_an_observation_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(folder)
    with pytest.raises(PolicyError, match="observes 5 values, but was given 4"):
        policy(np.zeros(4))
    with pytest.raises(PolicyError, match="observes achieved_goal, observation, but was given"):
        policy({"observation": np.zeros(3)})
    with pytest.raises(PolicyError, match="holds a value that is not finite"):
        policy(np.array([0.0, 0.0, np.nan, 0.0, 0.0]))
    for form in ("left", [[1, 2], [3]], {"achieved_goal": "x", "observation": np.zeros(3)}):
        with pytest.raises(PolicyError, match="not of the form that was recorded"):
            policy(form)
    flat = load_policy(folder).weights
    save_policy(tmp_path / "flat", flat, FLAT, {})
    with pytest.raises(PolicyError, match="observes one array, but was given the keys"):
        load_policy(tmp_path / "flat")({"observation": np.zeros(5)})


def test_no_policy_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"There is no policy in .*first checkpoint"):
        load_policy(tmp_path)
    with pytest.raises(PolicyError, match=r"There is no folder .*nowhere; `iqlft list` shows"):
        load_policy(tmp_path / "nowhere")


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
