"""Data of any shape become rows; a policy takes observations as they were recorded."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

import iqlft
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.config.settings import ConfigError, PretrainConfig
from iqlft.datasets.audit.audit import check
from iqlft.datasets.errors import DatasetError
from iqlft.training.build import load_task_dataset
from iqlft.training.pretrain import pretrain
from iqlft_workers.environment import Environment, EnvironmentMismatchError, EnvironmentSpec

DATA, STEPS = "own/shapes-v0", 4
WORLD = spaces.Dict({
    "battery": spaces.Box(0, 1, ()),
    "mode": spaces.Discrete(3),
    "pose": spaces.Box(-9, 9, (2, 2)),
})  # fmt: skip


def record(
    space: spaces.Space[Any] = WORLD, action: spaces.Box | None = None, **columns: np.ndarray
) -> None:
    """Eight episodes of random samples, without an environment; the columns replace theirs."""
    action = action or spaces.Box(-1, 1, (2,))
    space.seed(1)
    episodes = []
    for index in range(8):
        seen = [space.sample() for _ in range(STEPS + 1)]
        stacked = (
            {key: np.stack([each[key] for each in seen]) for key in space}
            if isinstance(space, spaces.Dict)
            else np.stack(seen)
        )
        parts = {
            "rewards": np.arange(float(STEPS)), "terminations": np.zeros(STEPS, np.bool_),
            "truncations": np.arange(STEPS) == STEPS - 1, **columns,
        }  # fmt: skip
        actions = np.stack([action.sample() for _ in range(STEPS)])
        episodes.append(EpisodeBuffer(id=index, observations=stacked, actions=actions, **parts))
    with warnings.catch_warnings(action="ignore"):  # of the author, the environment and so on
        minari.create_dataset_from_buffers(
            DATA, episodes, observation_space=space, action_space=action
        )


pytestmark = pytest.mark.usefixtures("minari_root")


def test_a_dict_of_all_kinds_becomes_rows() -> None:
    record()
    dataset = iqlft.load_dataset(DATA)
    observations = dataset.layout.unpack(dataset.rows())[0]
    first = minari.load_dataset(DATA)[0].observations
    expected = [first["battery"][1], *np.eye(3)[first["mode"][1]], *first["pose"][1].ravel()]
    assert observations[1].tolist() == np.float32(expected).tolist()
    assert dataset.num_transitions == 8 * STEPS


def test_keys_choose_what_is_observed() -> None:
    record()
    dataset = iqlft.load_dataset(DATA, observation_keys=["pose", "battery"])
    assert dataset.environment.observation_keys == ("pose", "battery")
    assert dataset.layout.observation_dim == 5
    with pytest.raises(DatasetError, match="did you mean 'pose'"):
        iqlft.load_dataset(DATA, observation_keys=["post"])


def test_columns_of_rewards_and_flags_are_read() -> None:
    record(
        rewards=np.arange(float(STEPS))[:, None], terminations=np.zeros((STEPS, 1), np.bool_),
        truncations=(np.arange(STEPS) == STEPS - 1)[:, None],
    )  # fmt: skip
    dataset = iqlft.load_dataset(DATA)
    rewards = dataset.layout.unpack(dataset.rows())[2]
    assert rewards[:STEPS].tolist() == [0, 1, 2, 3]
    assert not any(finding.verdict == "broken" for finding in check(DATA))


def test_an_image_is_refused_with_the_flag_that_leaves_it_out() -> None:
    record(spaces.Dict(camera=spaces.Box(0, 255, (20, 20, 3), np.uint8), pose=WORLD["pose"]))
    with pytest.raises(DatasetError, match=r"'camera' is an image.*--observation-keys pose"):
        iqlft.load_dataset(DATA)
    assert iqlft.load_dataset(DATA, observation_keys="pose").layout.observation_dim == 4


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (WORLD, (2,)), (spaces.Discrete(5), (2, 2)), (spaces.Box(-1, 1, (3, 2)), ()),
        (spaces.Box(0, 1, ()), (1,)), (spaces.Box(-1, 1, (1, 3)), (2,)),
    ],
)  # fmt: skip
def test_a_policy_takes_what_was_recorded_and_acts_in_that_shape(
    space: spaces.Space[Any], action: tuple[int, ...], tmp_path: Path
) -> None:
    record(space, spaces.Box(0, 3, action))
    algorithm = iqlft.IQL(iqlft.load_dataset(DATA), hidden_size=8, batch_size=8)
    algorithm.train(2)
    algorithm.save(tmp_path / "policy")
    policy = iqlft.load_policy(tmp_path / "policy")
    observation = space.sample()
    assert policy(observation).shape == action
    assert np.array_equal(policy(observation), algorithm.act(observation))
    if not isinstance(space, spaces.Dict):
        assert policy(np.stack([observation] * 4)).shape == (4, *action)


class Cube(gymnasium.Env[Any, Any]):
    """Blocks of numbers in and out, and rewards and flags that are arrays."""

    observation_space, action_space = spaces.Box(-1, 1, (2, 2)), spaces.Box(0, 3, (1, 2))

    def reset(self, **_: object) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        return np.zeros((2, 2)), {}

    def step(self, action: object) -> tuple[Any, ...]:  # type: ignore[override]
        assert self.action_space.contains(action)
        return np.ones((2, 2)), np.array([0.5]), np.array([True]), np.array(False), {}


def test_an_environment_of_blocks_is_stepped() -> None:
    gymnasium.register("Cube-v0", Cube)
    try:
        environment = Environment(EnvironmentSpec("Cube-v0"))
        assert environment.reset().shape == (4,)
        step = environment.step(np.zeros(2, np.float32))
    finally:
        del gymnasium.registry["Cube-v0"]
    assert (environment.action_dim, step.observation.shape) == (2, (4,))
    assert (step.reward, step.terminated, step.truncated, step.success) == (0.5, True, False, None)


def settings(**changes: Any) -> PretrainConfig:  # noqa: ANN401
    networks = IQLHyperparameters(hidden_size=8, batch_size=8)
    return PretrainConfig(
        dataset=(DATA,), hyperparameters=networks, num_updates=4, log_every=2, tensorboard=False,
        device="cpu", **changes,
    )  # fmt: skip


def test_without_an_environment_one_pretrains_without_evaluations(tmp_path: Path) -> None:
    record()
    with pytest.raises(ConfigError, match="--eval-episodes 0"):
        pretrain(settings(runs=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    (run,) = pretrain(settings(runs=tmp_path / "runs", eval_episodes=0))
    assert not list((run / "logs").glob("worker*"))
    assert iqlft.load_policy(run)(WORLD.sample()).shape == (2,)


def test_an_environment_may_be_named_for_them_and_must_be_theirs() -> None:
    record(spaces.Box(-1, 1, (2, 2)), spaces.Box(0, 3, (1, 2)))
    gymnasium.register("Cube-v0", Cube)
    try:
        assert load_task_dataset(settings(environment="Cube-v0")).environment.id == "Cube-v0"
    finally:
        del gymnasium.registry["Cube-v0"]
    with pytest.raises(EnvironmentMismatchError, match="Pendulum-v1"):
        load_task_dataset(settings(environment="Pendulum-v1"))


def test_demonstrations_longer_than_the_time_limit_are_told_once() -> None:
    record(spaces.Box(-1, 1, (2, 2)), spaces.Box(0, 3, (1, 2)))
    gymnasium.register("Cube-v0", Cube, max_episode_steps=STEPS - 2)
    try:
        dataset = load_task_dataset(settings(environment="Cube-v0"))
        dataset.rows()
        dataset.rows()
        (note,) = dataset.notes
        assert "8 of the 8 recorded episodes are longer, up to 4 steps, than the 2" in note
        # A step more than the limit is how D4RL cuts its episodes.
        gymnasium.registry["Cube-v0"].max_episode_steps = STEPS - 1
        fitting = load_task_dataset(settings(environment="Cube-v0"))
        assert fitting.rows().shape == dataset.rows().shape
        assert fitting.notes == ()
    finally:
        del gymnasium.registry["Cube-v0"]
