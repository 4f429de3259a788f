"""Datasets are made reproducibly, continued after an interruption, and complete or absent."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest

from iqlft.datasets.antmaze import generation
from iqlft.datasets.antmaze.episodes import make_environment
from iqlft.datasets.antmaze.gait import GAITS, load_gait
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.datasets.antmaze.tasks import REGENERATED, find_task
from iqlft.datasets.catalogue import list_local
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.loading import load_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Package iqlft is not installed")


def episodes(dataset_id: str) -> list[Any]:
    return list(minari.load_dataset(dataset_id).iterate_episodes())


def content(root: Path, dataset_id: str = "iqlft/antmaze/corner-v1") -> dict[str, Any]:
    """Every array of a dataset by its name in the file."""
    arrays = {}
    with h5py.File(root / dataset_id / "data" / "main_data.hdf5") as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return arrays


def interrupt_after(count: int) -> Callable[[int, int, float], None]:
    """A progress callback that is Ctrl-C after some episodes."""

    def progress(done: int, _total: int, _speed: float) -> None:
        if done >= count:
            raise KeyboardInterrupt

    return progress


def test_a_dataset_has_one_more_observation_than_actions_and_ends_by_timeout(corner: str) -> None:
    dataset = minari.load_dataset(corner)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 903)
    for episode in episodes(corner):
        assert {key: value.shape for key, value in episode.observations.items()} == {
            "observation": (302, 27), "achieved_goal": (302, 2), "desired_goal": (302, 2)
        }  # fmt: skip
        assert {key: value.shape for key, value in episode.infos.items()} == {
            "success": (302,), "qpos": (302, 15), "qvel": (302, 14), "goal": (302, 2)
        }  # fmt: skip
        assert episode.actions.shape == (301, 8)
        assert episode.actions.dtype == np.float32
        assert not episode.terminations.any()
        np.testing.assert_array_equal(np.flatnonzero(episode.truncations), [300])


def test_infos_are_aligned_with_observations_and_rewards_follow_success(corner: str) -> None:
    for episode in episodes(corner):
        position, goal = episode.observations["achieved_goal"], episode.observations["desired_goal"]
        np.testing.assert_array_equal(episode.infos["qpos"][:, :2], position)
        np.testing.assert_array_equal(
            np.hstack((episode.infos["qpos"][:, 2:], episode.infos["qvel"])),
            episode.observations["observation"],
        )
        np.testing.assert_array_equal(episode.infos["goal"], goal)
        near = np.linalg.norm(position - goal, axis=-1) <= 0.5
        np.testing.assert_array_equal(episode.infos["success"], near)
        np.testing.assert_array_equal(episode.rewards, near[1:])
        assert near.any()


def test_replaying_the_recorded_actions_gives_the_recorded_states(corner: str) -> None:
    dataset = minari.load_dataset(corner)
    metadata = next(iter(dataset.storage.get_episode_metadata([1])))
    environment, episode = dataset.recover_environment(), dataset[1]
    _, info = environment.reset(seed=metadata["seed"], options=metadata["options"])
    for step, action in enumerate(episode.actions):
        np.testing.assert_array_equal(info["qpos"], episode.infos["qpos"][step])
        *_, truncated, info = environment.step(action)
        assert truncated == episode.truncations[step]
    np.testing.assert_array_equal(info["qpos"], episode.infos["qpos"][-1])
    environment.close()


def test_the_evaluation_environment_is_recovered_without_importing_this_package(
    corner_root: Path,
) -> None:
    code = (
        "import minari; dataset = minari.load_dataset('iqlft/antmaze/corner-v1');"
        "spec = dataset.recover_environment(eval_env=True).spec;"
        "assert spec.kwargs == {'maze': 'Corner', 'continuing_task': False}, spec;"
        "assert (spec.id, spec.max_episode_steps) == ('iqlft/AntMaze-Corner-v0', 300);"
        "assert dataset.env_spec.kwargs['continuing_task'] is True;"
        "assert dataset.env_spec.max_episode_steps == 301"
    )
    environment = {**generation.os.environ, "MINARI_DATASETS_PATH": str(corner_root)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_the_metadata_say_how_the_dataset_was_made(corner_root: Path) -> None:
    path = corner_root / "iqlft/antmaze/corner-v1/data/metadata.json"
    metadata = json.loads(path.read_text())
    gait = load_gait()
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (0, 1)
    assert metadata["iqlft"] == {
        "label": f"{REGENERATED}, v1",
        "policy": "v1",
        "policy_sha256": gait.sha256,
        "noise": 0.2,
        "seed": 5,
    }
    for words in (gait.sha256, "noise 0.2", "seed 5", "regenerated with the D4RL procedure"):
        assert words in metadata["description"]
    assert any(requirement.startswith("mujoco") for requirement in metadata["requirements"])
    assert "author_email" not in metadata
    assert metadata["license"] == "Apache-2.0"


@pytest.mark.usefixtures("minari_root")
def test_a_set_that_another_policy_walked_is_not_called_like_the_shipped_gaits(
    tmp_path: Path,
) -> None:
    copy, strider = tmp_path / "copy.npz", tmp_path / "strider.npz"
    copy.write_bytes(GAITS["v1"].read_bytes())
    arrays = dict(np.load(GAITS["v1"]))
    np.savez(strider, **{**arrays, "w2": 1.5 * arrays["w2"]})

    def label(policy: Path, noise: float | None = None) -> str:
        make_dataset("antmaze-corner", transitions=301, policy=policy, noise=noise, force=True)
        label = load_dataset("iqlft/antmaze/corner-v1").label
        assert label.endswith(", not the published set")
        return label.removesuffix(", not the published set")

    assert label(copy) == f"{REGENERATED}, v1"
    assert label(copy, 0.1) == f"{REGENERATED}, v1, action noise 0.1"
    assert label(strider) == f"{REGENERATED}, walked by strider"
    assert label(strider, 0.1) == f"{REGENERATED}, walked by strider, action noise 0.1"


def test_the_result_does_not_depend_on_the_number_of_processes(
    corner_root: Path, minari_root: Path
) -> None:
    made = make_dataset("antmaze-corner", transitions=3 * 301, processes=1, seed=5)
    assert (made.episodes, made.transitions, made.resumed_episodes) == (3, 903, 0)
    one, two = content(minari_root), content(corner_root)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_an_interrupted_generation_leaves_no_dataset_and_is_continued(
    corner_root: Path, minari_root: Path
) -> None:
    arguments = {"transitions": 3 * 301, "seed": 5}
    with pytest.raises(KeyboardInterrupt):
        make_dataset("antmaze-corner", **arguments, progress=interrupt_after(1))
    assert list_local() == []
    reports = []
    made = make_dataset("antmaze-corner", **arguments, progress=lambda *r: reports.append(r))
    assert made.resumed_episodes >= 1
    assert [report[:2] for report in reports] == [
        (done, 3) for done in range(made.resumed_episodes + 1, 4)
    ]
    assert not (minari_root / ".iqlft-work").exists()
    resumed, uninterrupted = content(minari_root), content(corner_root)
    for name in uninterrupted:
        np.testing.assert_array_equal(resumed[name], uninterrupted[name], err_msg=name)


def test_an_interruption_while_minari_writes_leaves_no_dataset(
    minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iqlft.datasets.antmaze import writing

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_generated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_dataset("antmaze-corner", transitions=301)
    assert list_local() == []
    assert not (minari_root / "iqlft").exists()
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(minari_root))
    assert make_dataset("antmaze-corner", transitions=301).resumed_episodes == 1


def test_an_existing_dataset_is_kept_unless_it_is_to_be_replaced(minari_root: Path) -> None:
    make_dataset("antmaze-corner", transitions=301, seed=1)
    first = content(minari_root)
    with pytest.raises(DatasetError, match=r"exists already.*--force"):
        make_dataset("antmaze-corner", transitions=301, seed=2)
    make_dataset("antmaze-corner", transitions=301, seed=2, force=True)
    second = content(minari_root)
    assert not np.array_equal(first["episode_0/actions"], second["episode_0/actions"])
    assert [dataset.id for dataset in list_local()] == ["iqlft/antmaze/corner-v1"]


@pytest.mark.usefixtures("minari_root")
def test_a_dead_process_is_reported_and_the_finished_episodes_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise generation.BrokenProcessPool

    with monkeypatch.context() as patch:
        patch.setattr(generation.concurrent.futures.Future, "result", killed)
        with pytest.raises(DatasetError, match=r"died.*repeat the command"):
            make_dataset("antmaze-corner", transitions=301)
    assert make_dataset("antmaze-corner", transitions=301).resumed_episodes == 1


@pytest.mark.parametrize(
    "numbers", [{"transitions": 0}, {"noise": -0.1}, {"processes": 0}, {"seed": -1}]
)
@pytest.mark.usefixtures("minari_root")
def test_numbers_out_of_range_are_named(numbers: dict[str, float]) -> None:
    with pytest.raises(DatasetError, match=f"{next(iter(numbers))} is .* but must be at least"):
        make_dataset("antmaze-corner", **numbers)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "minari").mkdir()
    (tmp_path / "minari" / ".iqlft-work").write_text("a file where a folder should be")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    with pytest.raises(DatasetError, match=r"Cannot write to .*MINARI_DATASETS_PATH"):
        make_dataset("antmaze-corner", transitions=301)


def test_generating_processes_need_neither_torch_nor_minari() -> None:
    code = (
        "import sys, iqlft.datasets.antmaze.generation;"
        "assert not {'torch', 'minari', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_starts_of_the_play_task_lie_in_the_boxes_of_its_cells() -> None:
    from iqlft.datasets.antmaze.episodes import EpisodeMaker

    task = find_task("antmaze-medium-play")
    maker = EpisodeMaker(task, load_gait(), 0.5, seed=0)
    environment = make_environment(task)
    maze = environment.unwrapped.maze
    for index in range(50):
        start = maker._draw_start(np.random.default_rng(index))
        cell = maze.cell_xy_to_rowcol(start)
        assert maze.kind(cell) in "0R"
        offset = start - maze.cell_rowcol_to_xy(cell)
        assert offset.min() >= 0
        assert offset.max() <= 1
    maker.close()
    environment.close()
