"""Files of plain arrays, and OGBench's, become datasets with exactly the transitions they hold."""

import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import iqlft
from iqlft.cli.main import main
from iqlft.datasets.catalogue import list_local
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.npz import import_npz
from iqlft.datasets.storage import WORK_FOLDER
from iqlft_workers.environment import Environment

pytestmark = [
    pytest.mark.filterwarnings("ignore:Package iqlft is not installed"),
    pytest.mark.usefixtures("minari_root"),
]
Arrays = dict[str, np.ndarray]
SINGLE_TASK = "ogbench:pointmaze-medium-singletask-v0"


def robot_arrays() -> Arrays:
    """Two logged episodes of a robot that nobody can simulate; the first ends with its task."""
    rng = np.random.default_rng(0)
    walks = [rng.normal(size=(steps + 1, 3)).cumsum(0) for steps in (5, 4)]
    ends = np.arange(9) == 4
    return {
        "observations": np.concatenate([walk[:-1] for walk in walks]),
        "actions": rng.uniform(-2, 2, (9, 2)),
        "rewards": ends * 1.0,
        "next_observations": np.concatenate([walk[1:] for walk in walks]),
        "terminated": ends,
        "truncated": np.zeros(9, bool),
        "action_low": np.array([-2.0, -3.0]),
        "action_high": np.array([2.0, 3.0]),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "log.npz", **arrays: np.ndarray) -> Path:
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def test_logs_without_an_environment_are_imported_with_one_command(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = robot_arrays()
    # What else a log holds is not read, not even objects.
    path = write(**arrays, infos=np.array([{}] * 9))
    assert main(["data", "import", str(path), "--id", "mine/robot-v0"]) == 0
    output = capsys.readouterr().out
    assert "Not used of the file: infos.\n" in output
    assert "iqlft pretrain --dataset mine/robot-v0 --eval-episodes 0\n" in output
    dataset = iqlft.load_dataset("mine/robot-v0")
    assert (dataset.num_transitions, dataset.num_episodes) == (9, 2)
    rows = dataset.layout.unpack(dataset.rows())
    np.testing.assert_array_equal(rows[0], arrays["observations"].astype(np.float32))
    np.testing.assert_array_equal(rows[3], arrays["next_observations"].astype(np.float32))
    np.testing.assert_array_equal(rows[4].nonzero()[0], [4])
    # In [-1, 1], by the bounds of the file.
    np.testing.assert_allclose(rows[1], arrays["actions"] / [2, 3], atol=1e-5)
    policy = iqlft.IQL(dataset, hidden_size=8, batch_size=4).policy
    assert (policy.environment.action_low, policy.environment.action_high) == ((-2, -3), (2, 3))


def test_a_single_transition_is_a_dataset(write: Callable[..., Path]) -> None:
    arrays = {
        name: each if name.startswith("action_") else each[:1]
        for name, each in robot_arrays().items()
    }
    arrays["truncated"] = np.array([True])
    assert main(["data", "import", str(write(**arrays)), "--id", "mine/single-v0"]) == 0
    assert iqlft.load_dataset("mine/single-v0").num_transitions == 1


def test_actions_at_their_bounds_are_not_outside(write: Callable[..., Path]) -> None:
    for degrees in (33.3, 45.1, 100.1):
        bounds = {"action_low": np.array(-degrees), "action_high": np.array(degrees)}
        actions = {"actions": np.sign(robot_arrays()["actions"]) * degrees}
        path = write(**robot_arrays() | bounds | actions)
        assert main(["data", "import", str(path), "--id", f"mine/arm-{degrees:.0f}-v0"]) == 0
        dataset = iqlft.load_dataset(f"mine/arm-{degrees:.0f}-v0")
        np.testing.assert_allclose(abs(dataset.layout.unpack(dataset.rows())[1]), 1, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        ({"rewards": None}, [], "has no array rewards; it"),
        ({"observations": None, "obs": np.zeros(9)}, [], "observations (did you mean obs?);"),
        ({"observations": np.full((9, 3), np.nan)}, [], "observations holds nan in row 0"),
        (
            {"observations": np.full((9, 3), np.inf, np.float16)},
            [],
            "observations holds inf in row",
        ),
        ({"actions": np.eye(9) * 1e300}, [], "actions holds 1e+300 in row 0"),
        ({"rewards": np.array([0] * 8 + [np.inf])}, [], "rewards holds inf in row 8"),
        ({"terminated": np.full(9, np.nan)}, [], "terminated holds nan in row 0"),
        ({"action_low": np.array(np.nan)}, [], "must be finite"),
        ({"actions": np.zeros(9)}, [], "actions has the shape (9,), but must be (rows, values)"),
        ({"actions": np.zeros((9, 0))}, [], "(9, 0), but must be (rows, values), one value"),
        ({"observations": np.zeros(9)}, [], "observations has the shape (9,)"),
        ({"rewards": np.zeros((9, 1))}, [], "rewards has the shape (9, 1), but must be (rows,)"),
        ({"action_low": None, "action_high": None}, [], "outside of their bounds"),
        ({"action_low": np.array([-2.0, 4.0])}, [], "may be above that in action_high"),
        ({"action_high": np.full(2, 1e10)}, [], "give those within which actions make sense"),
        ({"action_low": np.zeros(5)}, [], "do not fit those of the shape"),
        ({"observations": np.zeros((9, 3))}, [], "does not follow row"),
        ({"rewards": np.array(["a"] * 9)}, [], "must be numbers"),
        ({"rewards": np.array([{}] * 9)}, [], "holds objects, not numbers"),
        ({}, ["--environment", "Pendulum-v1"], "those of Pendulum-v1"),
        ({}, ["--environment", "CartPole-v1"], "CartPole-v1 has the action space Discrete(2)"),
        ({}, ["--environment", "iqlft/AntMaze-Corner-v0"], "AntMaze-Corner-v0 observes Dict("),
        ({"actions": np.full((9, 2), 50.0)}, [], "outside of their bounds, [(-2, -3), (2, 3)]"),
        (
            {name: np.zeros((9, 3)) for name in ("observations", "next_observations")}
            | {"actions": np.full((9, 1), 50.0)},
            ["--environment", "Pendulum-v1"],
            "outside of those of Pendulum-v1, [-2, 2]; give actions in its units",
        ),
        ({"terminated": np.linspace(0, 1, 9)}, [], "terminated holds values that are neither 0"),
        ({"rewards": np.full(9, 1j)}, [], "rewards must be numbers (they are complex)"),
        ({}, ["--task", "antmaze-umaze"], "for D4RL's HDF5 files"),
        ({}, ["--id", "D4RL/mine-v0"], "taken for an official"),
        ({}, ["--id", "data/mine-v0"], "has a part that is called data"),
        ({}, ["--id", "t/mine-v0"], "a namespace before its slash has two characters or more"),
    ],
)
def test_what_makes_no_dataset_is_refused_in_a_sentence(
    change: Arrays,
    flags: list[str],
    message: str,
    write: Callable[..., Path],
    minari_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrays = {name: each for name, each in (robot_arrays() | change).items() if each is not None}
    assert main(["data", "import", str(write(**arrays)), *flags]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert "pickle" not in errors
    assert not list(minari_root.rglob("*.hdf5"))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez_compressed(tmp_path / "whole.npz", observations=np.arange(999))
    damaged = bytearray((tmp_path / "whole.npz").read_bytes())
    damaged[100:120] = bytes(20)
    for content in (b"", b"nonsense", (tmp_path / "one.npy").read_bytes(), damaged):
        (tmp_path / "log.npz").write_bytes(content)
        with pytest.raises(DatasetError, match=r"is no .npz file, or a damaged one; (?!.*pickle)"):
            import_npz(tmp_path / "log.npz")
    with zipfile.ZipFile(tmp_path / "log.npz", "w") as file:
        file.writestr("notes.txt", "no array")
    with pytest.raises(DatasetError, match="has no array observations"):
        import_npz(tmp_path / "log.npz")
    with pytest.raises(DatasetError, match="No such file"):
        import_npz(tmp_path / "absent.npz")


def test_an_archive_that_numpy_cannot_unpack_is_refused(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    content = bytearray(write(**robot_arrays()).read_bytes())
    # Says that its arrays are packed in a way that Python's zipfile does not know.
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        at = content.find(start) + (8 if start[2] == 3 else 10)
        content[at : at + 2] = b"\x63\x00"
    (tmp_path / "log.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"is no .npz file, or a damaged one"):
        import_npz(tmp_path / "log.npz")


def test_no_other_dataset_is_lost_to_a_folder_of_the_same_name(write: Callable[..., Path]) -> None:
    path = write(**robot_arrays())
    import_npz(path, dataset_id="robot-v1/first-v0")
    for force in (False, True):
        with pytest.raises(DatasetError, match=r"robot-v1 is no dataset .* holds first-v0, which"):
            import_npz(path, dataset_id="robot-v1", force=force)
    import_npz(path, dataset_id="robot-v1/first-v0", force=True)
    assert [each.id for each in list_local()] == ["robot-v1/first-v0"]


def test_what_a_killed_import_left_goes_with_the_next(
    write: Callable[..., Path], minari_root: Path
) -> None:
    left, young = (minari_root / WORK_FOLDER / f"own-{name}" for name in ("left", "young"))
    for folder, days in ((left, 1.1), (young, 0.9)):
        (folder / "part").mkdir(parents=True)
        os.utime(folder, (time.time() - days * 24 * 3600,) * 2)
    import_npz(write(**robot_arrays()), dataset_id="mine/robot-v0")
    assert [each.name for each in left.parent.iterdir()] == ["own-young"]


def test_a_stray_file_does_not_keep_a_dataset_from_being_replaced(
    write: Callable[..., Path], minari_root: Path
) -> None:
    path = write(**robot_arrays())
    import_npz(path, dataset_id="mine/robot-v0")
    (minari_root / "mine" / "robot-v0" / ".DS_Store").touch()
    with pytest.raises(DatasetError, match="exists already"):
        import_npz(path, dataset_id="mine/robot-v0")
    import_npz(path, dataset_id="mine/robot-v0", force=True)


def test_a_mistyped_bound_is_told(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = robot_arrays()
    arrays["actions_low"] = arrays.pop("action_low")
    assert main(["data", "import", str(write(**arrays)), "--id", "mine/robot-v0"]) == 2
    assert "actions_low (did you mean action_low?)" in capsys.readouterr().err
    arrays["actions"] /= 3
    assert main(["data", "import", str(write(**arrays)), "--id", "mine/robot-v0"]) == 0
    assert "actions_low (did you mean action_low?)" in capsys.readouterr().out


# -- OGBench ------------------------------------------------------------------------------------


@pytest.fixture
def ogbench_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Two trajectories as OGBench's scripts write them: 40 noisy steps past the task's goal."""
    pytest.importorskip("ogbench")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # Its mazes leave files there.
    environment = gymnasium.make(SINGLE_TASK, disable_env_checker=True)
    rng, rows = np.random.default_rng(0), []
    for seed in range(2):
        environment.reset(seed=seed)
        maze = environment.unwrapped
        maze.set_xy(maze.cur_goal_xy - np.array([2.0, 0.0]))
        for step in range(41):
            state = maze.get_ob(), maze.data.qpos.copy(), maze.data.qvel.copy()
            action = np.clip(rng.normal((0.5, 0.0), 0.5), -1, 1)
            rows.append((*state, action.astype(np.float32), step == 40))
            maze.step(action)
    environment.close()
    names = "observations", "qpos", "qvel", "actions", "terminals"
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name: np.array(each).astype(np.float32) for name, each in columns}


def test_an_ogbench_file_becomes_its_single_task(
    ogbench_arrays: Arrays, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from ogbench.relabel_utils import relabel_dataset
    from ogbench.utils import load_dataset

    path = write("pointmaze-medium-navigate-v0.npz", **ogbench_arrays)
    assert main(["data", "import", str(path)]) == 2
    assert "name one of its single tasks" in capsys.readouterr().err
    assert main(["data", "import", str(path), "--environment", "ogbench:pointmaze-medium-v0"]) == 2
    assert "name one of its single tasks" in capsys.readouterr().err
    made = import_npz(path, environment=SINGLE_TASK)
    assert made.id == "imported/pointmaze-medium-navigate-v0"

    expected = load_dataset(str(path), add_info=True)
    environment = gymnasium.make(SINGLE_TASK, disable_env_checker=True)
    relabel_dataset("pointmaze-medium-singletask-v0", environment, expected)
    environment.close()
    dataset = iqlft.load_dataset(made.id)
    unpacked = dataset.layout.unpack(dataset.rows())
    observations, actions, rewards, following, terminated = unpacked[:5]
    np.testing.assert_array_equal(observations, expected["observations"])
    np.testing.assert_array_equal(following, expected["next_observations"])
    np.testing.assert_allclose(actions, expected["actions"], atol=2e-5)
    np.testing.assert_array_equal(rewards, expected["rewards"])
    np.testing.assert_array_equal(terminated, 1 - expected["masks"])
    assert len(rewards) == 80
    assert 0 < terminated.sum() < 80

    # No --trust: the package says of itself that it registers environments.
    stepped = Environment(dataset.environment)
    assert stepped.reset(seed=0).shape == (2,)
    assert stepped.step(np.zeros(2, np.float32)).success is False
    stepped.close()
    assert iqlft.IQL(dataset, hidden_size=8, batch_size=8).train(2)["updates"] == 2


def test_without_ogbench_its_package_is_named(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ogbench", None)
    monkeypatch.setitem(sys.modules, "ogbench.relabel_utils", None)
    arrays = {name: np.zeros((3, 2)) for name in ("observations", "actions", "terminals")}
    with pytest.raises(DatasetError, match="pip install ogbench"):
        import_npz(write(**arrays), environment=SINGLE_TASK)
