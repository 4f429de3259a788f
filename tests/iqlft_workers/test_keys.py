import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from zmq.utils import z85

from iqlft_workers.keys import KeyFileError, LearnerKeys, WorkerKeys, new_keys, worker_ids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys of a learner and two workers."""
    new_keys(tmp_path / "keys", 2)
    return tmp_path / "keys"


def texts(folder: Path) -> list[str]:
    """All keys of a folder."""
    return [path.read_text().strip() for path in folder.iterdir()]


def test_a_new_folder_has_a_pair_of_keys_for_the_learner_and_for_every_worker(folder: Path) -> None:
    names = ("learner", "worker-0", "worker-1")
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("public", "secret")
    }
    assert len(set(texts(folder))) == 6
    assert all(re.fullmatch(r"[!-~]{40}", text) for text in texts(folder))


def test_a_shared_key_is_for_any_number_of_workers_without_an_id(tmp_path: Path) -> None:
    new_keys(tmp_path / "keys", 2, shared=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    for name in ("learner.public", "worker.secret"):
        shutil.copy2(tmp_path / "keys" / name, theirs)
    worker = WorkerKeys.load(theirs)
    known = LearnerKeys.load(tmp_path / "keys").workers
    assert (worker.worker_id, worker_ids(theirs)) == (None, None)
    assert known[z85.decode(worker.public)] is None
    assert sorted(each for each in known.values() if each is not None) == [0, 1]
    # What the learner's folder no longer has is let in no longer.
    (tmp_path / "keys" / "worker.public").unlink()
    assert set(LearnerKeys.load(tmp_path / "keys").workers.values()) == {0, 1}


def test_only_the_owner_can_read_what_is_secret(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.glob("*.secret"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_are_never_overwritten(folder: Path) -> None:
    before = texts(folder)
    with pytest.raises(KeyFileError, match="has keys already"):
        new_keys(folder, 2)
    assert texts(folder) == before


@pytest.mark.parametrize("name", ["worker-7.secret", "learner.public"])
def test_one_key_that_is_there_is_enough_to_refuse(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("somebody needs this")
    with pytest.raises(KeyFileError, match="has keys already"):
        new_keys(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_keys_are_not_made_for_nobody_or_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="not for 0"):
        new_keys(tmp_path / "keys", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="Cannot write keys"):
        new_keys(tmp_path / "file" / "keys", 1)


def test_learner_and_workers_load_keys_that_belong_together(folder: Path) -> None:
    learner = LearnerKeys.load(folder)
    assert sorted(learner.workers.values()) == [0, 1]
    one = WorkerKeys.load(folder, 1)
    assert one.worker_id == 1
    assert one.learner == (folder / "learner.public").read_bytes().strip()
    assert one.public == (folder / "worker-1.public").read_bytes().strip()
    assert one.secret == (folder / "worker-1.secret").read_bytes().strip()


def test_a_folder_with_one_worker_says_which_it_is(folder: Path) -> None:
    with pytest.raises(KeyFileError, match="workers 0, 1; choose one with --worker-id"):
        WorkerKeys.load(folder)
    for name in ("worker-0.secret", "worker-0.public", "worker-1.public", "learner.secret"):
        (folder / name).unlink()
    assert WorkerKeys.load(folder).worker_id == 1
    (folder / "worker-1.secret").unlink()
    with pytest.raises(KeyFileError, match=r"no worker-<id>\.secret"):
        WorkerKeys.load(folder)


def test_a_learner_needs_no_secrets_of_workers(folder: Path) -> None:
    for path in folder.glob("worker-*.secret"):
        path.unlink()
    assert len(LearnerKeys.load(folder).workers) == 2


LOADS = {
    "learner.secret": LearnerKeys.load,
    "worker-1.public": LearnerKeys.load,
    "worker-1.secret": lambda folder: WorkerKeys.load(folder, 1),
    "learner.public": lambda folder: WorkerKeys.load(folder, 1),
}


@pytest.mark.parametrize("load", [LearnerKeys.load, WorkerKeys.load])
def test_a_missing_folder_is_named(tmp_path: Path, load: Callable[[Path], object]) -> None:
    with pytest.raises(KeyFileError, match=r"no folder .*/keys; .* `iqlft keys new"):
        load(tmp_path / "keys")


@pytest.mark.parametrize("name", ["learner.secret", "worker-1.secret", "learner.public"])
def test_a_missing_key_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(KeyFileError, match=f"{name}: No such file"):
        LOADS[name](folder)


def test_a_learner_without_workers_to_serve_is_refused(folder: Path) -> None:
    for path in folder.glob("worker-*.public"):
        path.unlink()
    with pytest.raises(KeyFileError, match="No worker may connect"):
        LearnerKeys.load(folder)


@pytest.mark.parametrize(
    "garbled", [b"", b"x" * 39, b"x" * 41, b"#" * 40, b"~" * 40, b"\xff" * 40, b"x" * 10**6]
)
@pytest.mark.parametrize("name", LOADS)
def test_a_garbled_key_is_named_and_not_shown(folder: Path, name: str, garbled: bytes) -> None:
    (folder / name).write_bytes(garbled)
    with pytest.raises(KeyFileError, match=f"{name} is no key") as caught:
        LOADS[name](folder)
    assert len(str(caught.value)) < 300
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
@pytest.mark.parametrize("name", ["learner.secret", "worker-1.secret"])
def test_a_secret_that_others_can_read_is_not_used(folder: Path, name: str, mode: int) -> None:
    path = folder / name
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"run `chmod 600 {path}`"):
        LOADS[name](folder)
    path.chmod(0o400)
    LOADS[name](folder)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
@pytest.mark.parametrize("load", [LearnerKeys.load, lambda folder: WorkerKeys.load(folder, 1)])
def test_a_folder_that_others_can_write_to_is_not_used(
    folder: Path, mode: int, load: Callable[[Path], object]
) -> None:
    folder.chmod(mode)
    with pytest.raises(KeyFileError, match=f"Others can write to {folder}, .* `chmod go-w"):
        load(folder)
    folder.chmod(0o755)
    load(folder)


def test_keys_are_not_made_where_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(KeyFileError, match=f"Others can write to {tmp_path}"):
        new_keys(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["learner.public", "worker-1.public"])
def test_a_public_key_that_others_can_replace_is_not_used(folder: Path, name: str) -> None:
    (folder / name).chmod(0o664)
    with pytest.raises(KeyFileError, match=f"Others can write to .*{name}"):
        LOADS[name](folder)


def test_the_keys_of_another_user_are_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(KeyFileError, match=f"{folder} belongs to another user"):
        LearnerKeys.load(folder)


@pytest.mark.parametrize("name", ["worker-a", "worker-01", "worker--1", "worker-"])
def test_a_file_that_names_no_worker_is_refused(folder: Path, name: str) -> None:
    (folder / "worker-1.public").rename(folder / f"{name}.public")
    with pytest.raises(KeyFileError, match=f"{name}.public is not named worker-<id>"):
        LearnerKeys.load(folder)


def test_two_workers_cannot_share_a_key(folder: Path) -> None:
    (folder / "worker-1.public").write_bytes((folder / "worker-0.public").read_bytes())
    with pytest.raises(KeyFileError, match=r"0\.public and worker-1\.public are the same key"):
        LearnerKeys.load(folder)


def test_keys_are_not_shown_when_printed(folder: Path) -> None:
    shown = f"{LearnerKeys.load(folder)} {WorkerKeys.load(folder, 1)!r}"
    assert "worker_id=1" in shown
    assert not any(text in shown for text in texts(folder))
