"""Each family of datasets has its published settings, and goes from a recorded set to a curve."""

import csv
import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import minari
import mujoco
import numpy as np
import pytest

from iqlft.config.algorithms import CQLHyperparameters, IQLHyperparameters
from iqlft.config.layers import (
    load_task,
    override,
    task_names,
    to_dict,
    with_algorithm,
    with_settings,
)
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.datasets.loading import load_dataset
from iqlft.training.finetune import finetune
from iqlft.training.pretrain import pretrain
from recording import (
    ANTMAZE_SETS,
    record_adroit,
    record_antmaze,
    record_kitchen,
    record_locomotion,
    record_pointmaze,
)

KITCHEN_FORM = "nested_environment:KitchenForm-v0"
KITCHEN_TASKS = ["microwave", "kettle", "light switch", "slide cabinet"]
AS_PUBLISHED: dict[str, Any] = {
    "remove_task_when_completed": False,
    "terminate_on_tasks_completed": False,
}
MUJOCO_4 = int(mujoco.__version__.split(".")[0]) >= 4

Record = Callable[[str], None]
RECORDERS: dict[str, Record] = {
    "mujoco-halfcheetah-medium": partial(record_locomotion, environment_id="HalfCheetah-v5"),
    "mujoco-hopper-medium": partial(record_locomotion, environment_id="Hopper-v5"),
    "mujoco-walker2d-medium": partial(record_locomotion, environment_id="Walker2d-v5"),
    "d4rl-pen-human": partial(record_adroit, environment_id="AdroitHandPen-v1"),
    "d4rl-door-human": partial(record_adroit, environment_id="AdroitHandDoor-v1"),
    "d4rl-hammer-human": partial(record_adroit, environment_id="AdroitHandHammer-v1"),
    "d4rl-relocate-human": partial(record_adroit, environment_id="AdroitHandRelocate-v1"),
    "d4rl-kitchen-complete": partial(record_kitchen, environment_id=KITCHEN_FORM, **AS_PUBLISHED),
    "d4rl-pointmaze-umaze": record_pointmaze,
    "d4rl-antmaze-umaze": partial(record_antmaze, episode_steps=200),
    "d4rl-antmaze-medium-play": partial(record_antmaze, episode_steps=200),
}
ONE_OF_EACH = [
    "d4rl-pen-human", "d4rl-kitchen-complete", "d4rl-pointmaze-umaze", "d4rl-antmaze-umaze",
]  # fmt: skip
"""Besides locomotion, which has a test of its own."""

MACHINE: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "tensorboard": False,
    "eval_episodes": 1,
    "workers": 1,
}


@pytest.fixture(autouse=True)
def _elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    importable: None,  # noqa: ARG001
) -> None:
    """Works in an empty folder, for MuJoCo writes a log file where it warns about a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


# -- settings -----------------------------------------------------------------------------------

PUBLISHED = {
    # family: expectile, inverse temperature, dropout, reward scale, shift, goal, score
    "mujoco": (0.7, 3.0, 0.0, "return_range", 0.0, "stored", "return"),
    "pen": (0.7, 0.5, 0.1, 1.0, 0.0, "stored", "return"),
    "door": (0.7, 0.5, 0.1, 1.0, 0.0, "stored", "return"),
    "hammer": (0.7, 0.5, 0.1, 1.0, 0.0, "stored", "return"),
    "relocate": (0.7, 0.5, 0.1, 1.0, 0.0, "stored", "return"),
    "kitchen": (0.7, 0.5, 0.1, 1.0, 0.0, "stored", "return"),
    "pointmaze": (0.7, 3.0, 0.0, 1.0, 0.0, "stored", "return"),
    "antmaze": (0.9, 10.0, 0.0, 1.0, -1.0, "evaluation", "success"),
}
REFERENCE_SCORES = {
    "mujoco/halfcheetah": (-280.178953, 12135.0),
    "mujoco/hopper": (-20.272305, 3234.3),
    "mujoco/walker2d": (1.629008, 4592.3),
    "D4RL/pen": (96.262799, 3076.8331),
    "D4RL/door": (-56.512833, 2880.5693),
    "D4RL/hammer": (-274.856578, 12794.1348),
    "D4RL/relocate": (-6.425911, 4233.8778),
    "D4RL/antmaze": (0, 1),
    "D4RL/kitchen": (0, 4),
    "D4RL/pointmaze": None,
}
LEVELS = {
    **dict.fromkeys(
        ["halfcheetah", "hopper", "walker2d"], ("mujoco", "v0", "simple medium expert")
    ),
    **dict.fromkeys(["pen", "door", "hammer", "relocate"], ("D4RL", "v2", "human cloned expert")),
    "kitchen": ("D4RL", "v2", "complete partial mixed"),
    "pointmaze": ("D4RL", "v2", "umaze medium large"),
    "antmaze": (
        "D4RL",
        "v1",
        "umaze umaze-diverse medium-play medium-diverse large-play large-diverse",
    ),
}
PUBLISHED_SETS = {
    f"{group.lower()}-{name}-{level}": f"{group}/{name}/{level}-{version}"
    for name, (group, version, levels) in LEVELS.items()
    for level in levels.split()
}


def task_config(task: str) -> PretrainConfig:
    return override(PretrainConfig(), load_task(task), task)


def test_every_published_set_has_a_task() -> None:
    found = {task: task_config(task).dataset for task in task_names()}
    assert found.items() >= {task: (each,) for task, each in PUBLISHED_SETS.items()}.items()
    assert {task for task in found if task not in PUBLISHED_SETS} == {
        task for task in found if task.startswith("antmaze-")
    }


@pytest.mark.parametrize("task", task_names())
def test_a_family_has_its_published_settings(task: str) -> None:
    config = task_config(task)
    assert config.task == task
    group, family, *_ = ["", *task.split("-")] if task.startswith("antmaze") else task.split("-")
    h = config.hyperparameters
    assert isinstance(h, IQLHyperparameters)
    assert task.startswith("antmaze-corner") or (
        h.expectile, h.inverse_temperature, h.dropout, config.reward_scale,
        config.reward_shift, config.goal, config.score,
    ) == PUBLISHED["mujoco" if group == "mujoco" else family]  # fmt: skip
    schedule = "constant" if family in {"antmaze", "pointmaze"} else "cosine"
    networks_and_optimiser = (
        h.discount, h.target_update_rate, h.learning_rate, h.batch_size,
        h.hidden_size, h.hidden_layers, h.actor_schedule,
    )  # fmt: skip
    assert networks_and_optimiser == (0.99, 0.005, 3e-4, 256, 256, 2, schedule)
    if task in PUBLISHED_SETS:
        scores = REFERENCE_SCORES["/".join(config.dataset[0].split("/")[:2])]
        assert config.reference_scores == (scores and pytest.approx(scores))


@pytest.mark.parametrize("task", [name for name in task_names() if name.startswith("mujoco-")])
def test_locomotion_has_each_algorithm_s_settings_and_rewards(task: str) -> None:
    awac, td3bc, cql, rlpd = (
        to_dict(override(with_algorithm(PretrainConfig(), name), load_task(task), task))
        for name in ("awac", "td3bc", "cql", "rlpd")
    )
    assert (awac["inverse_temperature"], awac["hidden_layers"]) == (3.0, 3)
    assert [each["reward_scale"] for each in (awac, td3bc, rlpd)] == [1.0, 1.0, 1.0]
    # CORL's `normalize_reward` is true in a single one of its files for these sets.
    assert cql["reward_scale"] == ("return_range" if task == "mujoco-hopper-medium" else 1.0)
    assert [each["normalize_observations"] for each in (awac, td3bc, cql)] == [True, True, True]
    assert (cql["penalty_weight"], cql["lagrange"], cql["gap_min"]) == (10.0, False, None)
    assert (cql["target_actions"], cql["actor_learning_rate"]) == (1, 3e-5)
    assert (rlpd["entropy_backup"], rlpd["num_target_critics"]) == (True, 2)
    assert (rlpd["hidden_layers"], rlpd["normalize_observations"]) == (2, False)


@pytest.mark.parametrize("name", ["cql", "calql"])
def test_adroit_has_a_constant_weight_of_the_penalty(name: str) -> None:
    for task in task_names():
        if {"pen", "door", "hammer", "relocate"} & set(task.split("-")):
            h = override(
                with_algorithm(PretrainConfig(), name), load_task(task), task
            ).hyperparameters
            assert isinstance(h, CQLHyperparameters)
            assert (h.penalty_weight, h.lagrange, h.gap_min, h.target_actions) == (
                1.0, False, -200.0, 10
            )  # fmt: skip
            assert h.output_gain == pytest.approx(2**0.5)


# -- recorded sets ------------------------------------------------------------------------------


def test_a_recorded_point_walks_on_from_goal_to_goal() -> None:
    record_pointmaze("D4RL/pointmaze/umaze-v2", transitions=600)
    episodes = list(minari.load_dataset("D4RL/pointmaze/umaze-v2").iterate_episodes())
    assert len(episodes) > 3
    for before, after in itertools.pairwise(episodes):
        assert before.rewards[-1] == 1
        assert before.truncations[-1]
        np.testing.assert_array_equal(
            before.observations["achieved_goal"][-1], after.observations["achieved_goal"][0]
        )


@pytest.mark.parametrize("dataset_id", ["D4RL/antmaze/umaze-v1", "D4RL/antmaze/medium-play-v1"])
def test_a_recorded_ant_is_truncated_with_its_state_in_the_infos(dataset_id: str) -> None:
    record_antmaze(dataset_id, episodes=2, episode_steps=30)
    for episode in minari.load_dataset(dataset_id).iterate_episodes():
        np.testing.assert_array_equal(episode.truncations, np.arange(30) == 29)
        assert not episode.terminations.any()
        infos, observations = episode.infos, episode.observations
        np.testing.assert_array_equal(infos["qpos"][:, :2], observations["achieved_goal"])
        np.testing.assert_array_equal(infos["qpos"][:, 2:], observations["observation"][:, :13])
        np.testing.assert_array_equal(infos["qvel"], observations["observation"][:, 13:])
        np.testing.assert_array_equal(infos["goal"], observations["desired_goal"])


def test_an_ant_that_starts_beside_its_goal_sees_success() -> None:
    cell = np.array([1, 1])
    record_antmaze(
        "D4RL/antmaze/umaze-v1",
        episodes=4,
        episode_steps=200,
        options={"reset_cell": cell, "goal_cell": cell},
    )
    episodes = minari.load_dataset("D4RL/antmaze/umaze-v1").iterate_episodes()
    assert any(each.infos["success"].any() for each in episodes)


@pytest.mark.parametrize("dataset_id", ANTMAZE_SETS)
def test_an_official_set_is_evaluated_where_its_data_went(dataset_id: str) -> None:
    record_antmaze(dataset_id, episodes=1, episode_steps=2)
    recorded: Any = minari.load_dataset(dataset_id).env_spec
    environment = load_dataset(dataset_id).environment
    made, evaluated = (
        np.array(each.kwargs["maze_map"]).astype(str) for each in (recorded, environment)
    )
    np.testing.assert_array_equal(evaluated == "1", made == "1")
    assert environment.kwargs["continuing_task"] is False
    for letter in "rg":
        assert (evaluated == letter).sum() == 1
        # Where the recording had one start or goal of its own, it is the evaluation's too.
        if (made == letter).any():
            np.testing.assert_array_equal(evaluated == letter, made == letter)


# -- end to end ---------------------------------------------------------------------------------


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def run_through(task: str, amount: int, tmp_path: Path, **changes: Any) -> Path:  # noqa: ANN401
    """Pretrains `amount` updates and fine-tunes as many steps, evaluated twice in each phase."""
    amounts = {
        "eval_every": amount // 2,
        "log_every": amount // 4,
        "checkpoint_every": amount,
        **MACHINE,
        **changes,
    }
    config = with_settings(
        task_config(task),
        hyperparameters=IQLHyperparameters(hidden_size=16, batch_size=16),
        num_updates=amount,
        runs=tmp_path / "runs",
        **amounts,
    )
    (folder,) = pretrain(config)
    return finetune(FinetuneConfig(run=(folder,), env_steps=amount, **amounts))[0]


def check_run(folder: Path, amount: int) -> None:
    """All evaluations are there, with scores where they are known, and all losses are finite."""
    found = rows(folder / "curves.csv")
    half = amount // 2
    assert [(row["phase"], int(row["updates"]), int(row["env_steps"])) for row in found] == [
        ("offline", half, 0), ("offline", amount, 0), ("online", amount, 0),
        ("online", amount + half, half), ("online", 2 * amount, amount),
    ]  # fmt: skip
    config = task_config(folder.parent.name)
    scored = config.reference_scores is not None or "pointmaze" in config.dataset[0]
    for row in found:
        assert math.isfinite(float(row["return"]))
        assert bool(row["success"]) == (config.score == "success")
        assert bool(row["normalized_score"]) == scored
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) >= 4
    assert all(
        math.isfinite(value)
        for row in metrics
        for name, value in row.items()
        if name.endswith("loss")
    )
    assert {"value/loss", "critic/loss", "actor/loss"} <= metrics[-1].keys()


@pytest.mark.parametrize("task", ONE_OF_EACH)
def test_a_family_runs_from_its_set_to_a_curve(task: str, tmp_path: Path) -> None:
    RECORDERS[task](task_config(task).dataset[0])
    check_run(run_through(task, 40, tmp_path), 40)


@pytest.mark.slow
@pytest.mark.parametrize("task", RECORDERS)
def test_a_family_learns_for_a_while(task: str, tmp_path: Path) -> None:
    RECORDERS[task](task_config(task).dataset[0])
    check_run(run_through(task, 2_000, tmp_path, workers=2, eval_episodes=2), 2_000)


@pytest.mark.slow
@pytest.mark.skipif(MUJOCO_4, reason="Gymnasium-Robotics 1.4.2 builds no FrankaKitchen there")
def test_the_real_kitchen_learns_for_a_while(tmp_path: Path) -> None:
    record_kitchen(
        "D4RL/kitchen/complete-v2",
        "FrankaKitchen-v1",
        tasks_to_complete=KITCHEN_TASKS,
        max_episode_steps=280,
        **AS_PUBLISHED,
    )
    check_run(run_through("d4rl-kitchen-complete", 2_000, tmp_path), 2_000)


def test_locomotion_runs_to_a_curve_with_rewards_scaled_to_the_range_of_returns(
    tmp_path: Path,
) -> None:
    record_locomotion("mujoco/hopper/medium-v0", "Hopper-v5", transitions=300)
    episodes = minari.load_dataset("mujoco/hopper/medium-v0").iterate_episodes()
    returns = [float(each.rewards.sum()) for each in episodes]
    folder = run_through("mujoco-hopper-medium", 20, tmp_path)
    check_run(folder, 20)
    environment = json.loads((folder / "meta.json").read_text())["environment"]
    assert environment["reward_scale"] == pytest.approx(1000 / (max(returns) - min(returns)))
    assert environment["reward_shift"] == 0
