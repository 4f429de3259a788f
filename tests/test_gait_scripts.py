"""The gait's training script writes what data generation reads; the other script measures it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import mujoco
import numpy as np
import pytest

from iqlft.datasets.antmaze.episodes import Episode
from iqlft.datasets.antmaze.gait import GAITS, load_gait
from iqlft_workers.mazes import ant_spec


def _script(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "results" / "data" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_gait, measure_gait = _script("train_gait"), _script("measure_gait")


def test_a_short_training_writes_a_gait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_gait, "RANDOM_STEPS", 300)
    monkeypatch.setattr(train_gait, "CAPACITY", 4000)
    speed = train_gait.train(tmp_path / "gait.npz", updates=20, seed=0)
    gait = load_gait(tmp_path / "gait.npz")
    assert [w.shape for w in gait.weights] == [(29, 256), (256, 256), (256, 16)]
    assert np.isfinite(speed)


def test_a_student_does_what_its_teacher_does_in_the_steps_that_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_gait, "STUDENT_STEPS", 300)
    monkeypatch.setattr(train_gait, "STUDENT_UPDATES", 1000)
    train_gait.distil(GAITS["v0"], tmp_path / "student.npz", seed=0)
    teacher, student = load_gait(GAITS["v0"]), load_gait(tmp_path / "student.npz")
    known, wanted = train_gait._ordinary_steps(teacher, np.random.default_rng(0))
    actions = np.tanh([train_gait.outputs_of(student, each)[:8] for each in known.numpy()])
    error = np.abs(actions - np.tanh(wanted[:, :8].numpy())).mean()
    strangers = known.numpy() + np.random.default_rng(1).normal(0, 1, known.shape)
    strange = np.tanh([train_gait.outputs_of(student, each)[:8] for each in strangers])
    truth = np.tanh([3 * train_gait.outputs_of(teacher, each)[:8] for each in strangers])
    assert error < 0.05
    assert np.abs(strange - truth).mean() > 3 * error


def test_the_reward_is_the_velocity_along_the_direction() -> None:
    ant = train_gait.DirectionalAnt(ant_spec().compile(), np.random.default_rng(0))
    ant.reset()
    ant._direction, ant._until_turn = np.array([0.0, 1.0]), 10
    before = ant._data.qpos[1]
    _, speed, over = ant.step(np.ones(8, np.float32))
    assert speed == (ant._data.qpos[1] - before) / 0.1
    assert not over


def test_an_episode_ends_with_its_time_or_a_fall() -> None:
    ant = train_gait.DirectionalAnt(ant_spec().compile(), np.random.default_rng(0))
    ant.reset()
    ends = [ant.step(np.zeros(8, np.float32))[2] for _ in range(train_gait.EPISODE_STEPS)]
    assert ends == [False] * (train_gait.EPISODE_STEPS - 1) + [True]
    ant.reset()
    ant._data.qpos[2:7] = [0.3, 0, 1, 0, 0]
    assert ant.step(np.zeros(8, np.float32))[2]


def test_a_walk_is_measured_up_to_the_goal_and_falls_in_the_whole_episode() -> None:
    steps = 200
    qpos = np.zeros((steps + 1, 15))
    qpos[:, 3] = 1
    # 60 steps of 0.11 m, 60 on the spot, 30 more; there is the goal, and then it falls for a while.
    way = np.r_[np.full(60, 0.11), np.zeros(60), np.full(30, 0.11), np.zeros(50)]
    qpos[1:, 0] = np.cumsum(way)
    qpos[160:180, 3:7] = [0, 1, 0, 0]
    success = np.arange(steps + 1) >= 150
    actions = np.zeros((steps, 8), np.float32)
    actions[:, 0] = -1
    episode = Episode(
        np.array(0), np.zeros(2), np.zeros(2), qpos, np.zeros((steps + 1, 14)),
        np.zeros((steps + 1, 2)), success, actions, np.zeros(steps),
    )  # fmt: skip
    walk = measure_gait.follow(episode)
    assert (walk.first_hit, walk.rewarded) == (150, 51)
    assert (walk.ant.fallen, walk.ant.upside_down) == (False, False)
    assert (walk.ant.falls, walk.ant.rises, walk.ant.on_feet) == (1, 1, steps + 1 - 20)
    assert walk.metres == pytest.approx(9.9)
    assert walk.at_bounds == 1 / 8
    # In 50 steps it gets 0.11 (60 - k) m from step k on, and later 0.11 (k - 70) m.
    assert walk.ant.stuck == len(range(54, 77))


def test_a_step_of_the_ant_that_is_turned_a_quarter_is_the_turned_step() -> None:
    rng = np.random.default_rng(0)
    ant, other = (train_gait.DirectionalAnt(ant_spec().compile(), rng) for _ in range(2))
    places, signs = train_gait.quarter_turn()
    seen = ant.reset()
    for _ in range(10):
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        other.reset()
        row = np.concatenate([seen, action, [0], seen])
        turned = row[places] * signs
        other._data.qpos[2:], other._data.qvel[:] = turned[:13], turned[13:27]
        other._direction, ant._until_turn, other._until_turn = turned[27:29], 99, 99
        mujoco.mj_forward(other._model, other._data)
        after, speed, _ = ant.step(action)
        turned_after, turned_speed, _ = other.step(turned[29:37].astype(np.float32))
        expected = (np.concatenate([seen, action, [0], after])[places] * signs)[38:]
        np.testing.assert_allclose(turned_after, expected, atol=1e-4)
        assert turned_speed == pytest.approx(speed, abs=1e-4)
        seen = after
