"""D4RL's HDF5 files become Minari datasets without a false transition, and the report counts."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from numpy.typing import NDArray

from iqlft.cli.data_command import run
from iqlft.datasets.antmaze.episodes import Episode, EpisodeMaker
from iqlft.datasets.antmaze.gait import load_gait
from iqlft.datasets.antmaze.tasks import find_task
from iqlft.datasets.catalogue import list_local
from iqlft.datasets.d4rl import survey as d4rl_survey
from iqlft.datasets.d4rl.importing import ImportedDataset, import_file
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.loading import load_dataset
from iqlft_workers.environment import EnvironmentMismatchError
from iqlft_workers.transition import Transitions

pytestmark = pytest.mark.filterwarnings("ignore:Package iqlft is not installed")

GOAL = np.array([4.75, 4.75])
"""The corner task's evaluation goal."""
LENGTHS = (120, 301, 200)
"""Rows of three episodes, so that they end with the rows 119, 420 and 620."""
MISPLACED = (300, 601)
"""Time-outs after every 301st row, as if all episodes were that long."""
CORNER = "imported/antmaze/corner-v0"

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Three episodes of 301 steps of a walking ant."""
    maker = EpisodeMaker(find_task("antmaze-corner"), load_gait(), noise=0.2, seed=3)
    made = [maker.run(index) for index in range(3)]
    maker.close()
    return made


def rows_of(episode: Episode, length: int) -> Arrays:
    """The first rows of an episode as D4RL's generator writes them: infos are after the step."""
    states = np.hstack((episode.qpos, episode.qvel)).astype(np.float32)
    reached = np.linalg.norm(states[1:, :2] - GOAL, axis=1) <= 0.5
    arrays = {
        "observations": states[:-1],
        "actions": episode.actions,
        "rewards": reached.astype(np.float32),
        "terminals": reached.astype(np.float32),
        "timeouts": np.zeros(len(reached), np.bool_),
        "infos/goal": episode.goal[:-1].astype(np.float32),
        "infos/qpos": states[1:, :15],
        "infos/qvel": states[1:, 15:],
    }
    return {name: array[:length] for name, array in arrays.items()}


def d4rl_arrays(
    episodes: Sequence[Episode],
    lengths: Sequence[int] = LENGTHS,
    timeouts: Sequence[int] | None = None,
) -> Arrays:
    """The flat arrays of a file; its time-outs are at the ends of episodes unless given."""
    parts = [rows_of(*each) for each in zip(episodes, lengths, strict=True)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["timeouts"][list(np.cumsum(lengths) - 1 if timeouts is None else timeouts)] = True
    return arrays


def with_infos_before_the_step(arrays: Arrays) -> Arrays:
    """The same rows where infos say what the observations say already."""
    qpos, qvel = np.split(arrays["observations"], [15], axis=1)
    return arrays | {"infos/qpos": qpos, "infos/qvel": qvel}


def write(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")
        file.create_group("metadata").attrs["algorithm"] = "none"
    return path


def import_corner(path: Path, arrays: Arrays, **options: Any) -> ImportedDataset:  # noqa: ANN401
    return import_file(write(path / "ant.hdf5", arrays), task="antmaze-corner", **options)


def load(dataset_id: str, **options: Any) -> Transitions:  # noqa: ANN401
    dataset = load_dataset(dataset_id, **options)
    return dataset.layout.transitions(dataset.rows())


def true_transitions(episodes: Sequence[Episode]) -> set[bytes]:
    """Every (observation, action, next observation) that happened."""
    true = set()
    for episode in episodes:
        states = np.hstack((episode.qpos, episode.qvel)).astype(np.float32)
        actions = np.clip(episode.actions, -(1 - 1e-5), 1 - 1e-5)
        true |= {row.tobytes() for row in np.hstack((states[:-1], actions, states[1:]))}
    return true


def false_transitions(loaded: Transitions, episodes: Sequence[Episode]) -> int:
    rows = np.hstack((loaded.observations, loaded.actions, loaded.next_observations))
    true = true_transitions(episodes)
    return sum(row.tobytes() not in true for row in rows)


@pytest.mark.usefixtures("minari_root")
def test_the_imported_transitions_are_the_original_ones(
    episodes: list[Episode], tmp_path: Path
) -> None:
    made = import_corner(tmp_path, d4rl_arrays(episodes))
    loaded = load(CORNER)
    expected = [np.hstack((e.qpos, e.qvel)).astype(np.float32) for e in episodes]
    pairs = list(zip(expected, LENGTHS, strict=True))
    np.testing.assert_array_equal(loaded.observations, np.vstack([s[:n] for s, n in pairs]))
    np.testing.assert_array_equal(
        loaded.next_observations, np.vstack([s[1:][:n] for s, n in pairs])
    )
    actions = np.vstack([e.actions[:n] for e, n in zip(episodes, LENGTHS, strict=True)])
    np.testing.assert_allclose(loaded.actions, actions, atol=1.1e-5)
    reached = np.linalg.norm(loaded.next_observations[:, :2] - GOAL, axis=1) <= 0.5
    assert reached.any()
    np.testing.assert_array_equal(loaded.rewards, reached)
    np.testing.assert_array_equal(loaded.terminated, reached)
    # The infos of D4RL's generator hold what followed the last rows, so none is dropped.
    assert made.report["transitions"] == made.report["rows in the file"] == 621
    ends = np.flatnonzero(loaded.truncated & ~loaded.terminated).tolist()
    assert set(ends) <= {119, 420, 620}


@pytest.mark.usefixtures("minari_root")
def test_without_recorded_next_states_the_last_row_of_each_episode_is_dropped(
    episodes: list[Episode], tmp_path: Path
) -> None:
    made = import_corner(tmp_path, with_infos_before_the_step(d4rl_arrays(episodes)))
    assert made.report["episodes"] == 3
    assert made.report["transitions"] == 621 - 3
    assert made.report["rows dropped, as nothing says what followed"] == 3
    loaded = load(CORNER)
    assert len(loaded.rewards) == 618
    assert false_transitions(loaded, episodes) == 0


@pytest.mark.usefixtures("minari_root")
def test_misplaced_timeouts_make_no_false_transition_and_are_counted(
    episodes: list[Episode], tmp_path: Path
) -> None:
    arrays = with_infos_before_the_step(d4rl_arrays(episodes, timeouts=MISPLACED))
    trusting = Transitions(
        arrays["observations"][:-1], np.clip(arrays["actions"][:-1], -(1 - 1e-5), 1 - 1e-5),
        np.empty(0), arrays["observations"][1:], *[np.empty(0)] * 3,
    )  # fmt: skip
    assert false_transitions(trusting, episodes) == 2  # out of 119 and 420 into the next episode
    report = import_corner(tmp_path, arrays).report
    assert false_transitions(load(CORNER), episodes) == 0
    # Episodes: rows 0-119, 120-300, 301-420, 421-601, 602-620; each one drops its last row.
    assert report["episodes"] == 5
    assert report["transitions"] == 119 + 180 + 119 + 180 + 18
    assert report["time-outs"] == 2
    assert report["time-outs where an episode ends"] == 0
    assert report["time-outs inside an episode"] == 2
    assert report["jumps, where the next row does not follow"] == 2
    assert report["jumps without a mark: false transitions"] == 2
    positions = arrays["observations"][:, :2]
    longest = max(np.linalg.norm(positions[i + 1] - positions[i]) for i in (119, 420))
    assert longest > 3
    assert report["longest false transition (m)"] == pytest.approx(longest)


@pytest.mark.usefixtures("minari_root")
def test_timeouts_at_the_ends_of_episodes_count_as_such(
    episodes: list[Episode], tmp_path: Path
) -> None:
    report = import_corner(tmp_path, d4rl_arrays(episodes)).report
    # The time-out of the last row is at the file's end, where no row follows to jump to.
    assert report["time-outs where an episode ends"] == report["time-outs"] == 3
    assert report["time-outs inside an episode"] == 0
    assert report["jumps, where the next row does not follow"] == 2
    assert report["jumps without a mark: false transitions"] == 0
    assert report["longest false transition (m)"] == 0


@pytest.mark.usefixtures("minari_root")
def test_a_reset_to_nearly_the_same_place_is_seen_by_the_recorded_next_state(
    episodes: list[Episode], tmp_path: Path
) -> None:
    # After 3 steps the first ant still stands where the second one starts.
    arrays = d4rl_arrays(episodes[:2], lengths=(3, 50), timeouts=())
    positions = arrays["observations"][:, :2]
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() < d4rl_survey.JUMP_METRES
    report = import_corner(tmp_path, arrays).report
    assert report["jumps without a mark: false transitions"] == 1
    assert (report["episodes"], report["transitions"]) == (2, 53)
    assert false_transitions(load(CORNER), episodes) == 0


@pytest.mark.usefixtures("minari_root")
def test_a_next_state_that_was_recorded_after_the_reset_is_not_taken_for_what_followed(
    episodes: list[Episode], tmp_path: Path
) -> None:
    arrays = d4rl_arrays(episodes)
    for row in (119, 420):
        arrays["infos/qpos"][row] = arrays["observations"][row + 1, :15]
        arrays["infos/qvel"][row] = arrays["observations"][row + 1, 15:]
    report = import_corner(tmp_path, arrays).report
    assert report["jumps, where the next row does not follow"] == 2
    assert report["transitions"] == 621 - 2
    assert false_transitions(load(CORNER), episodes) == 0


@pytest.mark.usefixtures("minari_root")
def test_terminals_end_no_maze_episode_and_rewards_are_compared_with_relabelled_ones(
    episodes: list[Episode], tmp_path: Path
) -> None:
    arrays = d4rl_arrays(episodes)
    rewarded = int(arrays["rewards"].sum())
    arrays["rewards"][[0, 1, 2]] = 1  # at the start, far from the goal
    arrays["actions"] = arrays["actions"].copy()
    arrays["actions"][0, :4] = 1.5
    report = import_corner(tmp_path, arrays).report
    assert report["episodes"] == 3
    assert report["terminals"] == rewarded > 3
    assert report["rewarded rows"] == rewarded + 3
    assert report["rewarded transitions after relabelling"] == rewarded
    assert report["rewards that relabelling changes"] == 3
    assert report["positions outside free cells (share)"] == 0
    assert report["action values outside [-1, 1] (share)"] == 4 / (621 * 8)
    assert not any(e.terminations.any() for e in minari.load_dataset(CORNER).iterate_episodes())


@pytest.mark.usefixtures("minari_root")
def test_reading_in_small_pieces_changes_nothing(
    episodes: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = d4rl_arrays(episodes, timeouts=MISPLACED)
    whole = import_corner(tmp_path, arrays, dataset_id="imported/whole-v0").report
    # Pieces of 60 rows end with the row 119, from which an episode jumps.
    monkeypatch.setattr(d4rl_survey, "_ROWS_PER_READ", 60)
    assert import_corner(tmp_path, arrays, dataset_id="imported/pieces-v0").report == whole


def test_the_result_has_the_form_of_a_generated_dataset(
    corner_root: Path, minari_root: Path, episodes: list[Episode], tmp_path: Path
) -> None:
    shutil.copytree(corner_root, minari_root)
    imported = minari.load_dataset(import_corner(tmp_path, d4rl_arrays(episodes)).id)
    generated = minari.load_dataset("iqlft/antmaze/corner-v1")
    assert imported.observation_space == generated.observation_space
    assert imported.action_space == generated.action_space
    assert imported.env_spec == generated.env_spec
    assert imported._eval_env_spec == generated._eval_env_spec
    for ours, theirs in zip(imported, generated, strict=False):
        for kind in ("observations", "infos"):
            assert {k: (v.dtype, v.shape[1:]) for k, v in getattr(ours, kind).items()} == {
                k: (v.dtype, v.shape[1:]) for k, v in getattr(theirs, kind).items()
            }
        assert (ours.actions.dtype, ours.rewards.dtype) == (np.float32, np.float64)
        goals = ours.observations["desired_goal"]
        near = np.linalg.norm(ours.observations["achieved_goal"] - goals, axis=1) <= 0.5
        np.testing.assert_array_equal(ours.rewards, near[1:])
        np.testing.assert_array_equal(ours.infos["goal"], goals)
        np.testing.assert_array_equal(np.flatnonzero(ours.truncations), [len(ours.rewards) - 1])


@pytest.mark.usefixtures("minari_root")
def test_the_metadata_name_the_file_and_keep_the_report(
    episodes: list[Episode], tmp_path: Path
) -> None:
    made = import_corner(tmp_path, d4rl_arrays(episodes))
    sha256 = hashlib.sha256((tmp_path / "ant.hdf5").read_bytes()).hexdigest()
    metadata = minari.load_dataset(CORNER).storage.metadata
    assert metadata["iqlft"] == {
        "file": "ant.hdf5",
        "file_sha256": sha256,
        "recorded_in": "antmaze-corner",
        "report": made.report,
    }
    assert sha256 in metadata["description"]
    assert metadata["license"] == "CC-BY-4.0"
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (0, 1)
    assert load_dataset(CORNER).label == CORNER


@pytest.mark.usefixtures("minari_root")
def test_the_command_prints_the_report_and_how_to_go_on(
    episodes: list[Episode], tmp_path: Path
) -> None:
    # D4RL's version 2 has such names.
    path = write(tmp_path / "ant_sparse_fixed.hdf5", d4rl_arrays(episodes, timeouts=MISPLACED))
    said = run(["import", str(path), "--task", "antmaze-corner"])
    assert "as imported/antmaze/corner-v2" in said
    assert "jumps without a mark: false transitions" in said
    assert "--task antmaze-corner --dataset imported/antmaze/corner-v2" in said
    assert [each.id for each in list_local()] == ["imported/antmaze/corner-v2"]


def test_an_existing_dataset_is_kept_unless_it_is_to_be_replaced(
    minari_root: Path, episodes: list[Episode], tmp_path: Path
) -> None:
    import_corner(tmp_path, d4rl_arrays(episodes))
    with pytest.raises(DatasetError, match=r"exists already.*--force"):
        import_corner(tmp_path, d4rl_arrays(episodes[:1], lengths=(30,)))
    import_corner(tmp_path, d4rl_arrays(episodes[:1], lengths=(30,)), force=True)
    assert minari.load_dataset(CORNER).total_steps == 30
    assert not (minari_root / ".iqlft-work").exists()


@pytest.mark.parametrize("dataset_id", ["D4RL/antmaze/medium-play-v1", "iqlft/antmaze/corner-v1"])
@pytest.mark.usefixtures("minari_root")
def test_an_id_that_others_have_is_refused(
    dataset_id: str, episodes: list[Episode], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="would be taken for"):
        import_corner(tmp_path, d4rl_arrays(episodes), dataset_id=dataset_id)


@pytest.mark.parametrize("dataset_id", ["no id", "imported/without-version"])
@pytest.mark.usefixtures("minari_root")
def test_a_malformed_id_is_refused(
    dataset_id: str, episodes: list[Episode], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no Minari id"):
        import_corner(tmp_path, d4rl_arrays(episodes), dataset_id=dataset_id)


def test_a_file_of_another_maze_is_refused_with_a_guess(
    minari_root: Path, episodes: list[Episode], tmp_path: Path
) -> None:
    # The corner is the way (1,1) (1,2) (2,2), which the medium maze has too, but not the U.
    path = write(tmp_path / "ant.hdf5", d4rl_arrays(episodes))
    message = r"antmaze-umaze, so .* antmaze-corner or antmaze-corner-diverse\."
    with pytest.raises(DatasetError, match=message):
        import_file(path, task="antmaze-umaze")
    arrays = d4rl_arrays(episodes)
    arrays["observations"] = arrays["observations"] - np.float32(100)
    with pytest.raises(DatasetError, match=r"100% .* they fit no maze"):
        import_corner(tmp_path, arrays)
    assert not minari_root.exists() or list_local() == []


def without(name: str) -> Any:  # noqa: ANN401
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def replaced(name: str, change: Any) -> Any:  # noqa: ANN401
    return lambda arrays: arrays | {name: change(arrays[name].copy())}


def spoilt(array: NDArray[Any]) -> NDArray[Any]:
    array[500] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("infos/goal"), "has no array infos/goal; it holds actions"),
        (without("rewards"), "has no array rewards"),
        (
            replaced("rewards", lambda a: a[:-5]),
            r"616 rewards, but observations of the shape \(621, 29\)",
        ),
        (replaced("observations", spoilt), "observations that are not finite.* row 500"),
        (replaced("actions", spoilt), "actions that are not finite.* row 500"),
        (replaced("observations", lambda a: a[:, :27]), "observations of 27 values.* have 29"),
        (replaced("actions", lambda a: a[:, :6]), "actions of 6 values.* have 8"),
        (
            lambda arrays: with_infos_before_the_step(
                arrays | {"timeouts": np.ones(621, np.bool_)}
            ),
            "every row ends an episode",
        ),
        (lambda arrays: {key: value[:0] for key, value in arrays.items()}, "0 rewards"),
    ],
)
@pytest.mark.usefixtures("minari_root")
def test_a_file_of_another_form_is_refused_in_one_sentence(
    change: Any,  # noqa: ANN401
    message: str,
    episodes: list[Episode],
    tmp_path: Path,
) -> None:
    with pytest.raises(DatasetError, match=message):
        import_corner(tmp_path, change(d4rl_arrays(episodes)))
    assert list_local() == []


@pytest.mark.usefixtures("minari_root")
def test_a_damaged_file_is_one_sentence(episodes: list[Episode], tmp_path: Path) -> None:
    path = write(tmp_path / "ant.hdf5", d4rl_arrays(episodes))
    with h5py.File(path) as file:
        offset = file["actions"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged: its actions cannot be read"):
        import_file(path, task="antmaze-corner")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"cannot be opened as HDF5.*truncated"):
        import_file(path, task="antmaze-corner")
    path.write_text("not found")
    with pytest.raises(DatasetError, match="cannot be opened as HDF5"):
        import_file(path, task="antmaze-corner")
    with pytest.raises(DatasetError, match="no file"):
        import_file(tmp_path / "absent.hdf5", task="antmaze-corner")


@pytest.mark.parametrize("names", [{}, {"task": "antmaze-corner", "environment": "Hopper-v5"}])
def test_either_a_task_or_an_environment_is_named(names: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="one of the two"):
        import_file(tmp_path / "hopper.hdf5", **names)


def hopper_arrays(limit: int = 25) -> tuple[Arrays, list[int], list[int]]:
    """200 rows of random hopping, and the rows with terminals and with time-outs."""
    environment = gymnasium.make("Hopper-v5", max_episode_steps=limit)
    environment.action_space.seed(0)
    rows: list[tuple[Any, ...]] = []
    observation, _ = environment.reset(seed=0)
    for _ in range(200):
        action = environment.action_space.sample()
        following, reward, terminated, truncated, _ = environment.step(action)
        rows.append((observation, action, reward, terminated, truncated, following))
        observation = following
        if terminated or truncated:
            observation, _ = environment.reset()
    environment.close()
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    arrays = {
        name: np.array(each) for name, each in zip(names, zip(*rows, strict=True), strict=True)
    }
    for name in ("observations", "next_observations", "rewards"):
        arrays[name] = arrays[name].astype(np.float32)
    timeouts = np.flatnonzero(arrays["timeouts"] & ~arrays["terminals"])
    return arrays, np.flatnonzero(arrays["terminals"]).tolist(), timeouts.tolist()


@pytest.mark.usefixtures("minari_root")
def test_other_files_keep_rewards_and_terminations_and_use_their_next_observations(
    tmp_path: Path,
) -> None:
    arrays, terminals, timeouts = hopper_arrays()
    assert terminals
    assert timeouts
    path = write(tmp_path / "hopper_medium-v2.hdf5", arrays)
    made = import_file(path, environment="Hopper-v5")
    assert made.id == "imported/hopper_medium-v2"
    assert made.report["transitions"] == 200
    assert made.report["jumps without a mark: false transitions"] == 0
    loaded = load(made.id, goal="stored")
    np.testing.assert_array_equal(loaded.observations, arrays["observations"])
    np.testing.assert_array_equal(loaded.next_observations, arrays["next_observations"])
    np.testing.assert_array_equal(loaded.rewards, arrays["rewards"])
    np.testing.assert_array_equal(np.flatnonzero(loaded.terminated), terminals)
    assert set(timeouts) <= set(np.flatnonzero(loaded.truncated).tolist())


@pytest.mark.usefixtures("minari_root")
def test_an_end_without_any_mark_is_seen_by_the_next_observation(tmp_path: Path) -> None:
    arrays, _, timeouts = hopper_arrays()
    arrays["timeouts"][:] = False
    made = import_file(write(tmp_path / "hopper.hdf5", arrays), environment="Hopper-v5")
    unmarked = [row for row in timeouts if row < 199]
    assert made.report["jumps without a mark: false transitions"] == len(unmarked) > 0
    loaded = load("imported/hopper-v0", goal="stored")
    np.testing.assert_array_equal(loaded.next_observations, arrays["next_observations"])


@pytest.mark.usefixtures("minari_root")
def test_without_next_observations_terminated_rows_are_kept_and_timed_out_rows_dropped(
    tmp_path: Path,
) -> None:
    arrays, terminals, timeouts = hopper_arrays()
    del arrays["next_observations"]
    made = import_file(write(tmp_path / "hopper v1.hdf5", arrays), environment="Hopper-v5")
    assert made.id == "imported/hopper_v1-v0"
    dropped = {*timeouts} | ({199} - {*terminals})
    assert made.report["transitions"] == 200 - len(dropped)
    loaded = load(made.id, goal="stored")
    assert loaded.terminated.sum() == len(terminals)
    kept = [row for row in range(200) if row not in dropped]
    np.testing.assert_array_equal(loaded.observations, arrays["observations"][kept])
    np.testing.assert_array_equal(loaded.rewards, arrays["rewards"][kept])


@pytest.mark.usefixtures("minari_root")
def test_a_file_without_timeouts_is_split_by_its_next_observations(tmp_path: Path) -> None:
    arrays, terminals, _ = hopper_arrays()
    del arrays["timeouts"]
    path = write(tmp_path / "hopper.hdf5", arrays)
    made = import_file(path, environment="Hopper-v5")
    loaded = load(made.id, goal="stored")
    np.testing.assert_array_equal(loaded.next_observations, arrays["next_observations"])
    np.testing.assert_array_equal(np.flatnonzero(loaded.terminated), terminals)


@pytest.mark.usefixtures("minari_root")
def test_a_file_with_no_sign_of_ends_needs_the_time_limit(tmp_path: Path) -> None:
    arrays, _, _ = hopper_arrays()
    del arrays["next_observations"]
    marked = write(tmp_path / "marked.hdf5", arrays)
    with pytest.raises(DatasetError, match="leave --episode-steps out"):
        import_file(marked, environment="Hopper-v5", episode_steps=25)
    expected = import_file(marked, environment="Hopper-v5")
    del arrays["timeouts"]
    path = write(tmp_path / "hopper.hdf5", arrays)
    with pytest.raises(DatasetError, match="--episode-steps N"):
        import_file(path, environment="Hopper-v5")
    made = import_file(path, environment="Hopper-v5", episode_steps=25)
    rows = [load(each.id, goal="stored").next_observations for each in (made, expected)]
    np.testing.assert_array_equal(*rows)


@pytest.mark.usefixtures("minari_root")
def test_rows_that_are_in_no_order_are_refused(tmp_path: Path) -> None:
    arrays, _, _ = hopper_arrays()
    order = np.random.default_rng(0).permutation(200)
    path = write(tmp_path / "hopper.hdf5", {name: each[order] for name, each in arrays.items()})
    with pytest.raises(DatasetError, match="do not follow each other"):
        import_file(path, environment="Hopper-v5")


@pytest.mark.usefixtures("minari_root")
def test_an_environment_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "hopper.hdf5", hopper_arrays()[0])
    with pytest.raises(DatasetError, match=r"observations of 11 values.*HalfCheetah-v5 have 17"):
        import_file(path, environment="HalfCheetah-v5")
    with pytest.raises(DatasetError, match="vectors of numbers are needed"):
        import_file(path, environment="iqlft/AntMaze-Corner-v0")
    with pytest.raises(EnvironmentMismatchError, match="Did you mean"):
        import_file(path, environment="Hoper-v5")
