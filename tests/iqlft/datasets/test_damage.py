"""A damaged Minari set: every command that reads it answers with a sentence, never a traceback."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

from iqlft.cli.main import main
from iqlft.datasets.catalogue import list_local

ID = "field/pendulum-v0"
EPISODES, STEPS = 3, 6
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Minari folder with a set of three episodes in Pendulum's spaces."""
    root, rng = tmp_path_factory.mktemp("minari"), np.random.default_rng(0)
    episodes = [
        EpisodeBuffer(
            id=index,
            observations=rng.uniform(-1, 1, (STEPS + 1, 3)).astype(np.float32),
            actions=rng.uniform(-2, 2, (STEPS, 1)).astype(np.float32),
            rewards=rng.uniform(-1, 0, STEPS),
            terminations=np.zeros(STEPS, np.bool_),
            truncations=np.arange(STEPS) == STEPS - 1,
        )
        for index in range(EPISODES)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        with pytest.warns(UserWarning, match="is set to None"):
            minari.create_dataset_from_buffers(ID, episodes, env="Pendulum-v1")
    return root


@pytest.fixture
def data(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `data` of a copy of the set, which may be damaged."""
    shutil.copytree(whole, tmp_path / "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "minari" / ID / "data"


PRETRAIN = (
    "pretrain", "--dataset", ID, "--goal", "stored", "--score", "return", "--dry-run",
    "--batch-size", "8", "--hidden-size", "8",
)  # fmt: skip


# -- kinds of damage ----------------------------------------------------------------------------


def metadata(text: str | bytes) -> Damage:
    def damage(data: Path) -> None:
        (data / "metadata.json").write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def values(**changes: object) -> Damage:
    """Other values in metadata.json; None takes a key away."""

    def damage(data: Path) -> None:
        path = data / "metadata.json"
        held = json.loads(path.read_text())
        held.update(changes)
        kept = {key: each for key, each in held.items() if key not in changes or each is not None}
        path.write_text(json.dumps(kept))

    return damage


def spec(**changes: object) -> Damage:
    """Other values in the recorded environment's specification."""

    def damage(data: Path) -> None:
        path = data / "metadata.json"
        held = json.loads(path.read_text())
        held["env_spec"] = json.dumps(json.loads(held["env_spec"]) | changes)
        path.write_text(json.dumps(held))

    return damage


def array(name: str, change: Callable[[Any], Any]) -> Damage:
    """Another array in the second episode."""

    def damage(data: Path) -> None:
        with h5py.File(data / "main_data.hdf5", "a") as file:
            changed = change(file[f"episode_1/{name}"][()])
            del file[f"episode_1/{name}"]
            file[f"episode_1/{name}"] = changed

    return damage


def poke(name: str, value: float) -> Damage:
    def change(held: NDArray[np.float64]) -> NDArray[np.float64]:
        held = held.astype(np.float64)
        held[2] = value
        return held

    return array(name, change)


def hdf5(change: Callable[[h5py.File], None]) -> Damage:
    def damage(data: Path) -> None:
        with h5py.File(data / "main_data.hdf5", "a") as file:
            change(file)

    return damage


def cut(share: float) -> Damage:
    def damage(data: Path) -> None:
        path = data / "main_data.hdf5"
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def remove(name: str) -> Damage:
    def damage(data: Path) -> None:
        path = data / name
        path.unlink()

    return damage


def delete(name: str) -> Damage:
    def change(file: h5py.File) -> None:
        del file[name]

    return hdf5(change)


def rename(old: str, new: str) -> Damage:
    return hdf5(lambda file: file.move(old, new))


def overwrite(first: int, number: int) -> Damage:
    def damage(data: Path) -> None:
        with (data / "main_data.hdf5").open("r+b") as file:
            file.seek(first)
            file.write(b"\x07" * number)

    return damage


def group(file: h5py.File) -> None:
    del file["episode_1/actions"]
    file.create_group("episode_1/actions")


def huge(file: h5py.File) -> None:
    del file["episode_1/rewards"]
    file.create_dataset("episode_1/rewards", (2**40,), np.float64, chunks=(1024,))


FILE, META, SECOND = "main_data.hdf5", "metadata.json", "episode_1"
CASES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no metadata": (remove("metadata.json"), (META,)),
    "no file": (remove("main_data.hdf5"), ("cannot be read",)),
    "metadata list": (metadata("[1, 2]"), (META, "holds list")),
    "metadata null": (metadata("null"), (META, "holds NoneType")),
    "metadata number": (metadata("3"), (META, "holds int")),
    "metadata empty": (metadata(""), (META, "cannot be read")),
    "metadata cut": (metadata('{"total_episodes": 3, "tot'), (META, "cannot be read")),
    "metadata bytes": (metadata(b"\xff\xfe\x00\x01"), (META, "cannot be read")),
    "metadata deep": (metadata("[" * 100_000), (META, "cannot be read")),
    "no id": (values(dataset_id=None), (META, "dataset_id")),
    "no version": (values(minari_version=None), (META, "minari_version")),
    "other version": (values(minari_version="99.0.0"), ("99.0.0",)),
    "no format": (values(data_format=None), (META, "data_format")),
    "other format": (values(data_format="parquet"), ("Parquet",)),
    "no observation space": (values(observation_space=None), (META, "observation_space")),
    "no action space": (values(action_space=None), (META, "action_space")),
    "space of no kind": (values(action_space='{"type": "Sphere"}'), ("cannot be read",)),
    "space no JSON": (values(observation_space="Box(3)"), ("cannot be read",)),
    "space other shape": (
        values(action_space='{"type":"Box","dtype":"float32","shape":[9],"low":[0],"high":[1]}'),
        ("cannot be read",),
    ),
    "no number of episodes": (values(total_episodes=None), (META, "total_episodes")),
    "text for a number": (values(total_steps="many"), (META, "total_steps")),
    "half a step": (values(total_steps=1.5), (META, "total_steps")),
    "fewer than none": (values(total_episodes=-1), (META, "total_episodes")),
    "huge number of episodes": (values(total_episodes=10**18), (META, "total_episodes")),
    "more episodes than held": (values(total_episodes=5), (FILE, "holds 3", "episode_3")),
    "more steps than held": (values(total_steps=99), ("announces 99", "holds 18")),
    "fewer steps than held": (values(total_steps=7), ("announces 7",)),
    "no episodes": (values(total_episodes=0), ("holds 0",)),
    "spec a list": (values(env_spec="[]"), (META, "env_spec")),
    "spec no text": (values(env_spec={"id": "x"}), (META, "env_spec")),
    "spec cut": (values(env_spec='{"id": "Pend'), (META, "env_spec")),
    "spec kwargs": (spec(kwargs=[1]), (META, "kwargs")),
    "spec steps": (spec(max_episode_steps="many"), (META, "max_episode_steps")),
    "spec id": (spec(id="not an id!"), ("cannot be read",)),
    "spec wrappers": (spec(additional_wrappers=[{"name": 3}]), (META, "env_spec")),
    "spec unknown field": (spec(colour="red"), ("cannot be read",)),
    "scores": (values(ref_min_score="low", ref_max_score=3), (META, "ref_min_score")),
    "label": (values(iqlft=[]), (META, "iqlft")),
    "author": (values(author=7), (META, "author")),
    "file empty": (cut(0), (FILE, "cannot be read")),
    "file half": (cut(0.5), (FILE, "cannot be read", "download the dataset again")),
    "file nearly whole": (cut(0.9), (FILE, "cannot be")),
    "file another": (overwrite(0, 64), (FILE, "cannot be read")),
    "file garbled": (overwrite(96, 2000), (FILE,)),
    "episode missing": (delete("episode_1"), (FILE, "holds 2 of the 3", SECOND)),
    "episode renamed": (rename("episode_1", "episode_7"), (FILE, SECOND)),
    "no observations": (delete("episode_1/observations"), (FILE, "episode_1/observations")),
    "no actions": (delete("episode_1/actions"), (FILE, "episode_1/actions")),
    "no rewards": (delete("episode_1/rewards"), (FILE, "episode_1/rewards")),
    "no terminations": (delete("episode_1/terminations"), (FILE, "episode_1/terminations")),
    "no truncations": (delete("episode_1/truncations"), (FILE, "episode_1/truncations")),
    "a group for an array": (hdf5(group), (FILE, "episode_1/actions")),
    "a huge array": (hdf5(huge), (FILE, "episode_1/rewards")),
    "a number for an array": (array("rewards", lambda _: 3.0), (FILE, "episode_1/rewards")),
    "texts": (array("rewards", lambda _: ["a"] * STEPS), (FILE, "episode_1/rewards")),
    "an observation too few": (
        array("observations", lambda held: held[:-1]), (SECOND, "observations has 6 rows"),
    ),
    "an action too few": (array("actions", lambda held: held[:-1]), (SECOND, "actions has 5 rows")),
    "a reward too few": (array("rewards", lambda held: held[:-1]), (SECOND, "6 rows for 5")),
    "an end too many": (
        array("terminations", lambda held: [*held, True]), (SECOND, "terminations has 7 values"),
    ),
    "wider observations": (
        array("observations", lambda held: np.hstack([held, held])), (SECOND, "shape (6,)"),
    ),
    "flat actions": (array("actions", lambda held: held[:, 0]), (SECOND, "actions has rows")),
    "wide rewards": (
        array("rewards", lambda held: np.stack([held, held], 1)), (SECOND, "rewards has the shape"),
    ),
    "no steps": (array("rewards", lambda held: held[:0]), (SECOND, "no transitions")),
    "flags of other values": (
        array("truncations", lambda held: held * 7), (SECOND, "neither 0 nor 1"),
    ),
    "nan observation": (poke("observations", np.nan), (FILE, "episode_1/observations holds nan")),
    "inf observation": (poke("observations", np.inf), (FILE, "episode_1/observations holds inf")),
    "nan action": (poke("actions", np.nan), (FILE, "episode_1/actions holds nan in row 2")),
    "nan reward": (poke("rewards", np.nan), (FILE, "episode_1/rewards holds nan in row 2")),
    "huge reward": (poke("rewards", 1e300), (FILE, "episode_1/rewards holds 1e+300")),
}  # fmt: skip
"""What is done to the set, and what the sentence must name."""


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """A command's exit code, and what it wrote as one line."""
    capsys.readouterr()
    code = main(arguments)
    written = capsys.readouterr()
    assert "Traceback" not in written.out + written.err
    return code, " ".join((written.out + written.err).split())


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_set_is_refused_in_a_sentence_that_names_the_place(
    name: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, places = CASES[name]
    damage(data)
    code, said = answer(capsys, *PRETRAIN)
    assert code == 2
    for place in places:
        assert place in said
    assert answer(capsys, "data", "check", ID)[0] in {1, 2}
    if "episode_1/" not in said or "rewards" in said:  # Otherwise it draws, which takes a while.
        assert answer(capsys, "data", "plot", ID)[0] in {0, 2}
    assert answer(capsys, "data", "list")[0] == 0


def test_the_whole_set_is_learned_from_and_found_sound(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(capsys, *PRETRAIN)[0] == 0
    assert answer(capsys, "data", "check", ID)[0] == 0
    assert answer(capsys, "data", "plot", ID)[0] == 0
    assert data.exists()


@pytest.mark.parametrize(
    "damage",
    [
        rename("episode_1", "spare"),  # and back again: last in the file
        array("rewards", lambda held: held[:, None]),
        array("terminations", lambda held: held[:, None].astype(np.int64)),
    ],
)
def test_order_in_the_file_and_columns_change_nothing(
    damage: Damage, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(data)
    with h5py.File(data / FILE, "a") as file:
        if "spare" in file:
            file.move("spare", "episode_1")
    assert answer(capsys, *PRETRAIN)[0] == 0


def test_a_locked_file_is_named_as_locked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        f"import h5py, sys; file = h5py.File({str(data / FILE)!r}, 'a')\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        with (data / FILE).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                pytest.skip("this file system has no locks")
            except BlockingIOError:
                pass
        exit_code, said = answer(capsys, *PRETRAIN)
        writer.communicate(b"")
    assert exit_code == 2
    assert "cannot be read" in said
    assert "end the process that writes it" in said


def test_a_damaged_set_does_not_hide_the_others(data: Path, whole: Path) -> None:
    shutil.copytree(whole / ID, data.parents[2] / "field/other-v0")
    values(dataset_id="field/other-v0")(data.parents[2] / "field/other-v0/data")
    metadata("[]")(data)
    found = {each.id: each for each in list_local()}
    assert found["field/other-v0"].transitions == EPISODES * STEPS
    assert not found["field/other-v0"].damage
    assert "holds list" in found[ID].damage
