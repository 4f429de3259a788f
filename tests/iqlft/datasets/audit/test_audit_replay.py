"""Recorded actions lead from recorded states to the next ones, or the audit says how far off."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import minari
import mujoco
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.datasets.antmaze.tasks import TASKS
from iqlft.datasets.audit.findings import Finding
from iqlft.datasets.audit.replay_check import replay_check

CORNER = TASKS["antmaze-corner"].dataset_id()
Replay = Callable[..., Finding]


@pytest.fixture
def replay(corner_root: Path, minari_root: Path) -> Replay:
    """Checks a copy of the corner dataset, with its episodes and its metadata edited."""

    def check_copy(
        edit: Callable[[Any], None] | None = None, metadata: tuple[str, str] = ("", "")
    ) -> Finding:
        shutil.copytree(corner_root, minari_root)
        data = minari_root / CORNER / "data"
        if edit is not None:
            with h5py.File(data / "main_data.hdf5", "a") as file:
                for episode in file.values():
                    edit(episode)
        before, after = metadata
        text = (data / "metadata.json").read_text()
        assert before in text
        (data / "metadata.json").write_text(text.replace(before, after) if before else text)
        return replay_check(minari.load_dataset(CORNER))

    return check_copy


def wrong_actions(episode: Any) -> None:  # noqa: ANN401
    episode["actions"][...] = -episode["actions"][()]


def without_infos(episode: Any) -> None:  # noqa: ANN401
    del episode["infos"]


def test_recorded_steps_are_reproduced(replay: Replay) -> None:
    finding = replay()
    assert finding.value is not None
    assert finding.value < 1e-12
    assert finding.verdict == "ok"
    assert finding.note == f"201 steps with MuJoCo {mujoco.__version__}, as recorded"


def test_wrong_actions_are_noticed(replay: Replay) -> None:
    finding = replay(wrong_actions)
    assert finding.value is not None
    assert finding.value > 1e-3
    assert finding.verdict == "outside"


def test_states_are_taken_from_a_mazes_observations_where_there_are_no_infos(
    replay: Replay,
) -> None:
    assert replay(without_infos).verdict == "ok"


def test_with_another_mujoco_the_difference_is_only_told(replay: Replay) -> None:
    finding = replay(wrong_actions, (f"MuJoCo {mujoco.__version__}", "MuJoCo 2.3.7"))
    assert finding.value is not None
    assert (finding.band, finding.verdict) == (None, "-")
    assert finding.note.endswith(f"MuJoCo {mujoco.__version__}, recorded with 2.3.7")


def test_a_pinned_requirement_says_the_version_too(replay: Replay, minari_root: Path) -> None:
    finding = replay(metadata=(f"MuJoCo {mujoco.__version__}", "MuJoCo"))
    assert finding.note.endswith("recorded with an unknown version")
    path = minari_root / CORNER / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"requirements": ["numpy", "mujoco==3.1.6"]}))
    finding = replay_check(minari.load_dataset(CORNER))
    assert finding.note.endswith("recorded with 3.1.6")
    assert finding.verdict == "ok"


def test_an_environment_that_cannot_be_made_is_named(replay: Replay) -> None:
    finding = replay(metadata=("iqlft_workers.antmaze:", "no_such_package.antmaze:"))
    assert (finding.value, finding.verdict) == (None, "-")
    assert "not possible: 'no_such_package:iqlft/AntMaze-Corner-v0' cannot be made" in finding.note


@pytest.mark.parametrize(
    ("environment_id", "dims", "reason"),
    [
        ("Hopper-v5", (11, 3), "qpos and qvel are not recorded"),
        ("Pendulum-v1", (3, 1), "the environment is none of MuJoCo's"),
    ],
)
@pytest.mark.usefixtures("minari_root")
def test_without_states_or_mujoco_there_is_nothing_to_replay(
    environment_id: str, dims: tuple[int, int], reason: str
) -> None:
    observation_dtype = np.float64 if environment_id == "Hopper-v5" else np.float32
    episode = EpisodeBuffer(
        observations=np.zeros((3, dims[0]), observation_dtype),
        actions=np.zeros((2, dims[1]), np.float32), rewards=np.zeros(2),
        terminations=np.zeros(2, np.bool_), truncations=np.array([False, True]),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="is set to None"):
        dataset = minari.create_dataset_from_buffers("test/any-v0", [episode], env=environment_id)
    finding = replay_check(dataset)
    assert (finding.value, finding.verdict) == (None, "-")
    assert reason in finding.note
