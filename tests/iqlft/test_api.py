"""The quick start in Python: load, build, train, act, save."""

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
import torch
import yaml

import iqlft
import own_environments
from iqlft.api import IQLSettings
from iqlft.cli.main import main
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.config.layers import to_dict
from iqlft.config.settings import ConfigError
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.offline_dataset import OfflineDataset
from iqlft_workers.actor import make_actor
from iqlft_workers.environment import Environment, make
from iqlft_workers.rollout import evaluate_episode


def test_the_quick_start_trains_acts_and_saves(corner: str, tmp_path: Path) -> None:
    dataset = iqlft.load_dataset(corner)
    iql = iqlft.IQL(dataset, expectile=0.7, inverse_temperature=3.0, hidden_size=16, device="cpu")
    metrics = iql.train(num_updates=20)
    environment = make(dataset.environment)
    observation, _ = environment.reset(seed=0)
    action = iql.act(observation)
    iql.save(tmp_path / "my-policy")

    assert metrics["updates"] == iql.updates == 20
    about = iqlft.load_policy(tmp_path / "my-policy").about
    assert (about["task"], about["algorithm"]) == ("antmaze-corner", "iql")
    assert {"value/loss", "actor/loss", "critic/loss", "critic/q"} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())
    assert isinstance(environment.action_space, gymnasium.spaces.Box)
    assert environment.action_space.contains(action)
    np.testing.assert_array_equal(iqlft.load_policy(tmp_path / "my-policy")(observation), action)
    environment.close()


@pytest.mark.usefixtures("minari_root")
def test_the_readme_s_loop_and_a_worker_do_the_same_with_bounds_that_are_not_symmetric(
    tmp_path: Path,
) -> None:
    recording = gymnasium.make(own_environments.ID)
    with pytest.warns(UserWarning, match="is set to None"):
        minari.create_dataset_from_buffers(
            "own/skewed-v0", own_environments.episodes(recording), env=recording
        )
    dataset = iqlft.load_dataset("own/skewed-v0", goal="stored", reward_shift=0.0)
    iql = iqlft.IQL(dataset, hidden_size=16, batch_size=16, device="cpu")
    iql.train(num_updates=50)
    iql.save(tmp_path)
    policy, environment = iqlft.load_policy(tmp_path), gymnasium.make(own_environments.ID)
    observation, _ = environment.reset(seed=3)
    np.testing.assert_array_equal(iql.act(observation), policy(observation))
    np.testing.assert_allclose(
        policy(observation), [0.4, 0.65] + iql.act(observation, raw=True) * [0.3, 0.65], rtol=1e-6
    )
    episode_return, steps, done = 0.0, 0, False
    while not done:  # The environment refuses actions outside its bounds.
        observation, reward, terminated, truncated, _ = environment.step(policy(observation))
        episode_return, steps = episode_return + float(reward), steps + 1
        done = terminated or truncated
    worker = Environment(policy.environment)
    result = evaluate_episode(worker, make_actor(policy.weights), 3)
    assert (result.episode_return, result.length) == (pytest.approx(episode_return), steps)
    worker.close()


def test_a_dataset_is_read_as_its_task_says_unless_told_otherwise(corner: str) -> None:
    assert set(np.unique(rewards(iqlft.load_dataset(corner)))) <= {-1.0, 0.0}
    assert iqlft.load_dataset(corner, goal="observed").layout.observation_dim == 31
    assert rewards(iqlft.load_dataset(corner, reward_shift=5.0)).min() == 5.0


@pytest.mark.usefixtures("minari_root")
def test_rewards_are_scaled_for_the_algorithms_that_have_it_so() -> None:
    recording = gymnasium.make(own_environments.ID)
    with pytest.warns(UserWarning, match="is set to None"):
        minari.create_dataset_from_buffers(
            "mujoco/hopper/medium-v0", own_environments.episodes(recording), env=recording
        )
    scaled, as_they_are, said = (
        rewards(iqlft.load_dataset("mujoco/hopper/medium-v0", **settings))
        for settings in ({}, {"algorithm": "awac"}, {"algorithm": "awac", "reward_scale": 2})
    )
    assert as_they_are.min() > -30
    np.testing.assert_allclose(said, 2 * as_they_are, rtol=1e-6)
    factor = scaled / as_they_are
    np.testing.assert_allclose(factor, factor[0], rtol=1e-5)
    assert factor[0] > 2
    with pytest.raises(ConfigError, match="There is no algorithm 'awax'"):
        iqlft.load_dataset("mujoco/hopper/medium-v0", algorithm="awax")


def rewards(dataset: OfflineDataset) -> np.ndarray:
    found: np.ndarray = dataset.layout.unpack(dataset.rows())[2]
    return found


def test_training_goes_on_where_it_stopped_and_the_policy_follows(corner: str) -> None:
    dataset = iqlft.load_dataset(corner)
    once, twice = (
        iqlft.IQL(dataset, seed=4, hidden_size=8, batch_size=8, device="cpu") for _ in range(2)
    )
    seen: list[float] = []
    before = twice.act(np.zeros(29))
    once.train(num_updates=12)
    twice.train(num_updates=5)
    between = twice.act(np.zeros(29))
    twice.train(num_updates=7, log_every=3, callback=lambda row: seen.append(row["updates"]))
    assert seen == [8, 11]
    assert not np.array_equal(before, between)
    state, other = once.state(), twice.state()
    assert all(torch.equal(state[key], other[key]) for key in state)
    np.testing.assert_array_equal(once.act(np.zeros(29)), twice.act(np.zeros(29)))


def test_sampling_needs_a_random_generator(corner: str) -> None:
    iql = iqlft.IQL(iqlft.load_dataset(corner), hidden_size=8, device="cpu")
    first, other = (iql.act(np.zeros(29), np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(first, other)
    assert np.abs(first).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expectil": 0.7}, "no setting 'expectil'. Did you mean 'expectile'"),
        ({"expectile": 1.7}, "--expectile is 1.7"),
        ({"hidden_size": "wide"}, "must be INT"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
    ],
)
def test_a_wrong_hyperparameter_is_named(
    settings: dict[str, object], message: str, corner: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        iqlft.IQL(iqlft.load_dataset(corner), **settings)


def test_the_name_of_a_dataset_is_no_dataset() -> None:
    with pytest.raises(ConfigError, match=r"iqlft.load_dataset\('iqlft/antmaze/umaze-v0'\)"):
        iqlft.IQL("iqlft/antmaze/umaze-v0")  # type: ignore[arg-type]


def test_what_is_no_name_and_no_config_is_refused(corner: str) -> None:
    with pytest.raises(ConfigError, match=r"'package.module:Class', not <class"):
        iqlft.Algorithm(IQLHyperparameters, iqlft.load_dataset(corner))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'runs/x' is no config; make one by"):
        iqlft.finetune("runs/x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "precision is 'fp16', but must be {float32,bf16,auto}"),
        ({"seed": -1}, "--seed is -1"),
        ({"num_updates": 1e6}, "whole number from 1"),
        ({"num_updates": True}, "whole number from 1"),
        ({"actor_schedule": "cosin", "num_updates": 9}, "actor_schedule is 'cosin'"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    settings: dict[str, Any], message: str, corner: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        iqlft.Algorithm("iql", iqlft.load_dataset(corner), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"goal": "evalution"}, "evalution"),
        ({"reference_scores": (5.0, 1.0)}, "be two returns, the lower first"),
        ({"max_episode_steps": -3}, "--max-episode-steps is -3"),
    ],
)
def test_values_that_mean_nothing_of_a_dataset_are_refused(
    settings: dict[str, Any], message: str, corner: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        iqlft.load_dataset(corner, **settings)
    with pytest.raises(ConfigError, match="takes ids, each an argument"):
        iqlft.load_dataset([corner])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("antmaze-umaze", {}),
        ("", {}),
        ("antmaze-medium-play", {"algorithm": "awac", "num_updates": 7}),
        ("mine", {"dataset": "field/reach-v0", "expectile": 0.6}),
        ("", {"dataset": "D4RL/door/human-v2", "seed": 3}),
    ],
)
def test_the_config_of_a_task_is_that_of_the_command(
    task: str, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = ["pretrain", *(["--task", task] if task else []), *flags, "--print-config"]
    assert main(command) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == to_dict(iqlft.pretrain_config(task, **settings))


@pytest.mark.parametrize(
    "settings", [{}, {"algorithm": "awac"}, {"env_steps": 7, "expectile": 0.6}]
)
def test_the_config_of_a_run_is_that_of_the_command(
    settings: dict[str, Any], fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    assert main(["finetune", str(fresh), *flags, "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == to_dict(iqlft.finetune_config(fresh, **settings))


def test_a_run_of_another_task_is_refused(fresh: Path) -> None:
    with pytest.raises(ConfigError, match="is of the task antmaze-corner, not of antmaze-umaze"):
        iqlft.finetune_config(fresh, task="antmaze-umaze")
    config = dataclasses.replace(iqlft.finetune_config(fresh), task="antmaze-umaze")
    with pytest.raises(ConfigError, match="is of the task antmaze-corner, not of antmaze-umaze"):
        iqlft.finetune(config)


def test_a_config_of_another_algorithm_has_its_hyperparameters() -> None:
    assert type(iqlft.PretrainConfig(algorithm="td3bc").hyperparameters).__name__ == (
        "TD3BCHyperparameters"
    )
    with pytest.raises(ConfigError, match="--goal is 'evalution', but must be one of evaluation,"):
        iqlft.pretrain(iqlft.PretrainConfig(dataset=("a/b-v0",), goal="evalution"))  # type: ignore[arg-type]
    mixed = iqlft.PretrainConfig(
        dataset=("a/b-v0",), algorithm="td3bc", hyperparameters=IQLHyperparameters()
    )
    with pytest.raises(ConfigError, match="but IQLHyperparameters without alpha, policy_delay"):
        iqlft.pretrain(mixed)
    with pytest.raises(ConfigError, match="IQLHyperparameters are given, but no algorithm"):
        iqlft.finetune(iqlft.FinetuneConfig(hyperparameters=IQLHyperparameters()))


def test_a_hyperparameter_of_a_command_is_none_of_the_algorithm(corner: str) -> None:
    with pytest.raises(ConfigError, match="eval_every"):
        iqlft.IQL(iqlft.load_dataset(corner), eval_every=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("normalize_observations", "give it to the algorithm"), ("score", "leave it out")],
)
def test_what_is_not_about_reading_is_no_setting_of_a_dataset(name: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not about how data are read; {remedy}"):
        iqlft.load_dataset("iqlft/antmaze/corner-v1", **{name: True})


@pytest.mark.usefixtures("minari_root")
def test_what_is_not_given_is_as_the_command_line_has_it(robot: OfflineDataset) -> None:
    normalised = {name: normalizes(iqlft.Algorithm(name, robot)) for name in ("iql", "td3bc")}
    assert normalised == {"iql": False, "td3bc": True}
    assert not normalizes(iqlft.Algorithm("td3bc", robot, normalize_observations=False))
    robot.ids = ("D4RL/pointmaze/umaze-v2",)  # As if it were that.
    assert normalizes(iqlft.Algorithm("iql", robot))
    assert "expectile=0.7" in repr(iqlft.Algorithm("iql", robot))
    assert "expectile=0.8" in repr(iqlft.Algorithm("iql", robot, expectile=0.8))
    robot.ids = ("D4RL/pen/human-v2",)
    assert "'constant'" in repr(iqlft.Algorithm("iql", robot))
    assert "'cosine'" in repr(iqlft.Algorithm("iql", robot, num_updates=10))
    with pytest.raises(ConfigError, match="give num_updates"):
        iqlft.Algorithm("iql", robot, actor_schedule="cosine")
    with pytest.raises(ConfigError, match="num_updates is 0, but must be a whole number from 1"):
        iqlft.Algorithm("iql", robot, num_updates=0)


@pytest.fixture
def robot(minari_root: Path) -> OfflineDataset:
    """A few steps without an environment, and without a task."""
    assert minari_root
    ends = np.arange(6) == 5
    arrays = {"rewards": ends * 1.0, "terminated": ends, "truncated": ~ends & ends}
    places = np.arange(14.0).reshape(7, 2)
    made = iqlft.create_from_arrays(
        "mine/robot-v0", observations=places[:-1], next_observations=places[1:],
        actions=np.zeros((6, 1)), **arrays,
    )  # fmt: skip
    return iqlft.load_dataset(made)


def normalizes(algorithm: iqlft.Algorithm) -> bool:
    return bool(algorithm.policy.weights.arrays["observation_mean"].any())


def test_no_updates_are_refused(corner: str) -> None:
    iql = iqlft.IQL(iqlft.load_dataset(corner), hidden_size=8, device="cpu")
    with pytest.raises(ConfigError, match="num_updates is 0"):
        iql.train(num_updates=0)


def test_names_that_the_package_does_not_have_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ILQ'"):
        _ = iqlft.ILQ
    assert all(hasattr(iqlft, name) for name in iqlft.__all__)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("iql", {}),
        ("bc", {"best_share": 0.5}),
        ("awac", {}),
        ("td3bc", {"policy_delay": 1}),
        ("onestep", {}),
        ("sac", {"learn_temperature": False}),
        ("rlpd", {"critic_updates": 2}),
        ("wsrl", {"num_critics": 3}),
        ("cql", {"sampled_actions": 2}),
        ("calql", {"gap_min": -10.0}),
    ],
)
def test_every_algorithm_learns_and_acts_from_python(
    corner: str, name: str, own: dict[str, float]
) -> None:
    dataset = iqlft.load_dataset(corner)
    algorithm = iqlft.Algorithm(name, dataset, hidden_size=8, batch_size=8, device="cpu", **own)
    algorithm.train(2)
    assert algorithm.updates == 2
    observation = np.zeros(dataset.layout.observation_dim)
    assert algorithm.act(observation).shape == (dataset.layout.action_dim,)
    with pytest.raises(ConfigError, match="expectil"):
        iqlft.Algorithm(name, dataset, expectil=0.9)


@pytest.mark.parametrize(("own", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_importing_the_package_keeps_waiting_threads_from_spinning(
    own: str | None, found: str
) -> None:
    environment = {key: each for key, each in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if own is not None:
        environment["OMP_WAIT_POLICY"] = own
    program = "import iqlft, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [found, "False"]


def test_training_takes_its_own_threads_and_leaves_those_of_the_caller(corner: str) -> None:
    iql = iqlft.IQL(iqlft.load_dataset(corner), hidden_size=8, device="cpu", threads=2)
    seen: list[int] = []
    before = torch.get_num_threads()
    iql.train(1, log_every=1, callback=lambda _: seen.append(torch.get_num_threads()))
    assert seen == [2]
    assert torch.get_num_threads() == before != 2


def test_a_number_of_threads_that_makes_no_sense_is_refused(corner: str) -> None:
    with pytest.raises(ConfigError, match="--threads is -1"):
        iqlft.Algorithm("bc", iqlft.load_dataset(corner), threads=-1)


def test_the_package_shows_its_interface_and_its_version() -> None:
    assert set(dir(iqlft)) == {*iqlft.__all__, "__version__", "__doc__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", iqlft.__version__)


def test_what_iql_takes_is_known_to_type_checkers() -> None:
    own = {"seed", "device", "threads", "precision", "normalize_observations", "num_updates"}
    fields = {each.name for each in dataclasses.fields(IQLHyperparameters)}
    assert IQLSettings.__annotations__.keys() == own | fields


def test_objects_say_what_they_are(corner: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = iqlft.load_dataset(corner)
    iql = iqlft.IQL(dataset, hidden_size=8, batch_size=8)
    assert "3 episodes" in repr(dataset)
    assert corner in repr(dataset)
    iql.train(3, progress=True)
    assert "100%" in capsys.readouterr().err
    assert repr(iql).startswith(f"<IQL on {corner}: 3 updates, ")
    assert "expectile=0.9" in repr(iql)
    assert "29 observations -> 8 actions" in repr(iql.policy)
    found = iql.evaluate(2, workers=1)
    assert len(found["episodes"]) == 2
    assert 0 <= found["success"]["value"] <= 1


def test_training_goes_on_from_what_was_saved_whole(corner: str, tmp_path: Path) -> None:
    dataset = iqlft.load_dataset(corner)

    def fresh(**changes: float) -> iqlft.Algorithm:
        return iqlft.Algorithm("iql", dataset, **{"hidden_size": 16, "batch_size": 16} | changes)

    whole, first, second = fresh(), fresh(), fresh()
    whole.train(30)
    first.train(10)
    first.save(tmp_path, whole=True)
    second.load(tmp_path)
    assert second.updates == 10
    second.train(20)
    assert all(torch.equal(each, second.state()[key]) for key, each in whole.state().items())
    for alien, what in (
        (
            iqlft.Algorithm("onestep", dataset, hidden_size=16, batch_size=16),
            "algorithm IQL, not One-step",
        ),
        (fresh(expectile=0.7), "of the hyperparameters IQLHyper"),
        (fresh(normalize_observations=False), "normalize_observations True, not False"),
    ):
        with pytest.raises(ConfigError, match=what):
            alien.load(tmp_path)
    other = fresh(hidden_size=8)
    begun = {key: each.clone() for key, each in other.state().items()}
    with pytest.raises(ConfigError, match="cannot be continued from"):
        other.load(tmp_path)
    assert all(torch.equal(each, begun[key]) for key, each in other.state().items())
    other.train(3)
    control = fresh(hidden_size=8)
    control.train(3)
    assert all(torch.equal(each, control.state()[key]) for key, each in other.state().items())
    (tmp_path / "training.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(ConfigError, match="cannot be continued from"):
        second.load(tmp_path)


@pytest.mark.usefixtures("minari_root")
def test_arrays_become_a_dataset_that_trains_and_keeps_its_episodes() -> None:
    environment = gymnasium.make("Pendulum-v1")
    rows: list[tuple[object, ...]] = []
    for seed in range(2):
        observation, _ = environment.reset(seed=seed)
        environment.action_space.seed(seed)
        over = False
        while not over:
            action = environment.action_space.sample()
            following, reward, terminated, over, _ = environment.step(action)
            rows.append((observation, action, reward, following, terminated, over))
            observation = following
    names = (
        "observations", "actions", "rewards", "next_observations", "terminated", "truncated",
    )  # fmt: skip
    arrays = {
        name: np.array(each) for name, each in zip(names, zip(*rows, strict=True), strict=True)
    }
    made = iqlft.create_from_arrays("mine/pendulum-v0", environment="Pendulum-v1", **arrays)
    dataset = iqlft.load_dataset(made)
    assert (dataset.num_transitions, dataset.num_episodes) == (400, 2)
    unpacked = dataset.layout.unpack(dataset.rows())
    np.testing.assert_array_equal(unpacked[0], arrays["observations"].astype(np.float32))
    np.testing.assert_array_equal(unpacked[3], arrays["next_observations"].astype(np.float32))
    np.testing.assert_array_equal(unpacked[5].nonzero()[0], [199, 399])
    assert iqlft.IQL(dataset, hidden_size=8, batch_size=8).train(2)["updates"] == 2
    shuffled = {
        name: np.roll(each, 3 * (name == "observations"), 0) for name, each in arrays.items()
    }
    with pytest.raises(DatasetError, match="does not follow row"):
        iqlft.create_from_arrays("mine/other-v0", environment="Pendulum-v1", **shuffled)
    with pytest.raises(DatasetError, match="one row for each transition"):
        iqlft.create_from_arrays(
            "mine/other-v0",
            environment="Pendulum-v1",
            **arrays | {"rewards": arrays["rewards"][1:]},
        )
    rewards = np.where(np.arange(400) == 7, np.nan, arrays["rewards"])
    with pytest.raises(DatasetError, match="rewards holds nan in row 7"):
        iqlft.create_from_arrays(
            "mine/other-v0", environment="Pendulum-v1", **arrays | {"rewards": rewards}
        )
    with pytest.raises(DatasetError, match="exists"):
        iqlft.create_from_arrays(made, environment="Pendulum-v1", **arrays)
