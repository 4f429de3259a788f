"""The gait's training script writes what the data generation reads."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from iqlft.datasets.antmaze.gait import load_gait
from iqlft_workers.mazes import ant_spec


def _script() -> ModuleType:
    path = Path(__file__).parents[1] / "results" / "data" / "train_gait.py"
    spec = importlib.util.spec_from_file_location("train_gait", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_gait = _script()


def test_a_short_training_writes_a_gait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_gait, "RANDOM_STEPS", 300)
    monkeypatch.setattr(train_gait, "CAPACITY", 4000)
    speed = train_gait.train(tmp_path / "gait.npz", updates=20, seed=0)
    gait = load_gait(tmp_path / "gait.npz")
    assert [w.shape for w in gait.weights] == [(29, 256), (256, 256), (256, 16)]
    assert np.isfinite(speed)


def test_the_reward_is_the_velocity_along_the_direction() -> None:
    ant = train_gait.DirectionalAnt(ant_spec().compile(), np.random.default_rng(0))
    ant.reset()
    ant._direction, ant._until_turn = np.array([0.0, 1.0]), 10
    before = ant._data.qpos[1]
    _, speed, over = ant.step(np.ones(8, np.float32))
    assert speed == (ant._data.qpos[1] - before) / 0.1
    assert not over


def test_an_ant_on_its_back_lies_there_until_the_time_is_over() -> None:
    ant = train_gait.DirectionalAnt(ant_spec().compile(), np.random.default_rng(0))
    ant.reset()
    ant._data.qpos[2:7] = [0.3, 0, 1, 0, 0]
    ends = [ant.step(np.zeros(8, np.float32))[2] for _ in range(train_gait.EPISODE_STEPS)]
    assert ends == [False] * (train_gait.EPISODE_STEPS - 1) + [True]
