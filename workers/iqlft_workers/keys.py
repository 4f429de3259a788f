"""The folder of keys by which learner and workers know each other, in Z85 as ZeroMQ prints them.

    learner.public    to every worker's machine
    learner.secret    to the learner's machine only
    worker-0.public   to the learner's machine: the list of who may connect
    worker-0.secret   to the machine of worker 0 only
    worker.public     optional: to the learner's machine
    worker.secret     to every machine whose workers take any id that is free

A learner that is given no such folder makes keys for its own machine at every start, in a folder
that vanishes with it; with `--insecure` there are none.

Keys come from files alone, never from arguments, and no message or `repr` shows one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import struct
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zmq
from zmq.utils import z85

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

_CHARACTERS = 40
"""Length of a key in Z85."""
_WORKER_FILE = re.compile(r"worker-(0|[1-9]\d{0,8})")
"""Name of a worker's file, without its suffix."""
_SHARED = "worker"
"""Name, without suffix, of the key shared by all workers that have no id of their own."""


class KeyFileError(UserError):
    """A folder of keys cannot be made or used."""


@dataclass(frozen=True)
class LearnerKeys:
    """What a learner needs.

    Attributes:
        secret: its own key, in Z85.
        workers: worker ids by public key (32 bytes, as in a handshake); None stands for any id.
    """

    secret: bytes = field(repr=False)
    workers: Mapping[bytes, int | None] = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads `learner.secret`, every `worker-<id>.public`, and `worker.public` if it is there.

        Raises:
            KeyFileError: a file is missing, is no key, or is a secret that others can read; or two
                of them hold the same key.
        """
        _require_folder(folder)
        workers: dict[bytes, int | None] = {}
        paths: dict[bytes, Path] = {}
        shared = folder / f"{_SHARED}.public"
        for path in [
            *sorted(folder.glob("worker-*.public")),
            *([shared] if shared.exists() else []),
        ]:
            key = z85.decode(_read(path))
            if key in paths:
                raise KeyFileError(
                    f"{paths[key].name} and {path.name} are the same key in {folder}; every worker "
                    "needs its own."
                )
            paths[key], workers[key] = path, None if path == shared else _worker_id(path)
        if not workers:
            raise KeyFileError(
                f"No worker may connect: there is no worker-<id>.public in {folder}; copy them "
                "from where the keys were made."
            )
        return cls(_read_secret(folder / "learner.secret"), workers)


@dataclass(frozen=True)
class WorkerKeys:
    """What a worker needs.

    Attributes:
        worker_id: the id that its key stands for; None for any.
        learner: the public key of its learner, in Z85.
        public: its own public key, in Z85.
        secret: its own secret key, in Z85.
    """

    worker_id: int | None
    learner: bytes = field(repr=False)
    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def load(cls, folder: Path, worker_id: int | None = None) -> Self:
        """Reads `learner.public` and one `worker-<id>.secret`, or `worker.secret`.

        Args:
            folder: of the keys.
            worker_id: whose secret; None for the shared one, or else the only one in the folder.

        Raises:
            KeyFileError: a file is missing, is no key, or is a secret that others can read; or
                there are several workers' secrets, and no id was given.
        """
        _require_folder(folder)
        if worker_id is None and not (folder / f"{_SHARED}.secret").exists():
            worker_id = _only_worker(folder)
        name = _SHARED if worker_id is None else f"worker-{worker_id}"
        secret = _read_secret(folder / f"{name}.secret")
        learner = _read(folder / "learner.public")
        return cls(worker_id, learner, zmq.curve_public(secret), secret)


def new_keys(folder: Path, num_workers: int, *, shared: bool = False) -> None:
    """Makes keys for a learner and its workers; secrets can be read by their owner only.

    Args:
        folder: where; made if it is not there.
        num_workers: how many workers, with the ids from 0.
        shared: whether to make one more key, for any number of workers with any free ids.

    Raises:
        KeyFileError: the folder has keys already, or cannot be written.
    """
    if num_workers < 1:
        raise KeyFileError(f"Keys are made for at least one worker, not for {num_workers}.")
    _require_curve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_others(folder, folder.stat())
        if any(path.suffix in {".public", ".secret"} for path in folder.iterdir()):
            raise KeyFileError(f"{folder} has keys already; name another folder.")
        names = ["learner", *(f"worker-{index}" for index in range(num_workers))]
        for name in [*names, _SHARED] if shared else names:
            public, secret = zmq.curve_keypair()
            _write(folder / f"{name}.secret", secret, 0o600)
            _write(folder / f"{name}.public", public, 0o644)
    except OSError as error:
        raise KeyFileError(f"Cannot write keys into {folder}: {error.strerror}.") from error


class TemporaryKeys(NamedTuple):
    """Keys of one start of a learner, for workers on its own machine.

    Attributes:
        learner: kept in this process alone.
        folder: for `WorkerKeys.load`, readable by this user alone.
    """

    learner: LearnerKeys
    folder: Path


@contextmanager
def temporary_keys(num_workers: int) -> Iterator[TemporaryKeys]:
    """Keys for the workers of this machine, in a folder that is removed at the end of the block.

    Args:
        num_workers: how many have keys of their own, with ids from 0; the others share a key.

    Raises:
        KeyFileError: this pyzmq has no CURVE, or the folder cannot be written.
    """
    _require_curve()
    with ExitStack() as exits:
        try:
            made = exits.enter_context(
                tempfile.TemporaryDirectory(prefix="iqlft-keys-", ignore_cleanup_errors=True)
            )
            folder = Path(made, "keys")
            folder.mkdir(mode=0o700)
            # In one move, so that no worker that is looking for a learner finds a part of them.
            exits.callback(_hide, folder)
            descriptor = os.open(made, os.O_RDONLY)
            exits.callback(os.close, descriptor)
            # systemd does not remove old files from a locked folder; not all places have locks.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            learner = _write_worker_keys(folder, num_workers)
        except OSError as error:
            raise KeyFileError(
                f"Keys for the workers cannot be written into {tempfile.gettempdir()} "
                f"({error.strerror}); name another folder with the variable TMPDIR."
            ) from error
        yield TemporaryKeys(learner, folder)


def _hide(folder: Path) -> None:
    with suppress(OSError):  # Somebody has cleaned up.
        folder.rename(folder.with_name("gone"))


def _write_worker_keys(folder: Path, num_workers: int) -> LearnerKeys:
    """Writes the keys that workers need; the learner's secret is written nowhere."""
    own_public, own_secret = zmq.curve_keypair()
    _write(folder / "learner.public", own_public, 0o600)
    workers: dict[bytes, int | None] = {}
    names = {_SHARED: None} | {f"worker-{each}": each for each in range(num_workers)}
    for name, worker_id in names.items():
        public, secret = zmq.curve_keypair()
        _write(folder / f"{name}.secret", secret, 0o600)
        workers[z85.decode(public)] = worker_id
    return LearnerKeys(own_secret, workers)


def _write(path: Path, key: bytes, mode: int) -> None:
    """Writes a new file that has its mode from the beginning."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")


def _read(path: Path, *, secret: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            # The status of the open file, even if the path names another one a moment later.
            status = os.fstat(file.fileno())
            key = file.read(2 * _CHARACTERS).strip()
    except OSError as error:
        raise KeyFileError(f"Cannot read the key {path}: {error.strerror}.") from error
    if secret and status.st_mode & 0o077:
        raise KeyFileError(f"Others can read the secret {path}; run `chmod 600 {path}`.")
    _refuse_others(path, status)
    if not _is_key(key):
        raise KeyFileError(f"{path} is no key, or a damaged one; copy it again.")
    return key


def _read_secret(path: Path) -> bytes:
    return _read(path, secret=True)


def _refuse_others(path: Path, status: os.stat_result) -> None:
    """Refuses a path where users other than this one and root could put keys of their own."""
    if status.st_uid not in {os.geteuid(), 0}:
        raise KeyFileError(
            f"{path} belongs to another user, who could change it; copy the keys into a folder of "
            "your own."
        )
    if status.st_mode & 0o022:
        raise KeyFileError(
            f"Others can write to {path}, and so choose whom to trust; run `chmod go-w {path}`."
        )


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == _CHARACTERS and len(z85.decode(text)) == 32
    except (KeyError, struct.error):
        return False


def _worker_id(path: Path) -> int:
    """The id in a file's name."""
    match = _WORKER_FILE.fullmatch(path.stem)
    if match is None:
        raise KeyFileError(f"{path} is not named worker-<id>{path.suffix}; rename or remove it.")
    return int(match[1])


def worker_ids(folder: Path) -> list[int] | None:
    """The ids of the workers whose secrets a folder has; None if it has the shared secret.

    Raises:
        KeyFileError: there is no such folder, or others can write in it.
    """
    _require_folder(folder)
    if (folder / f"{_SHARED}.secret").exists():
        return None
    return sorted(_worker_id(path) for path in folder.glob("worker-*.secret"))


def _only_worker(folder: Path) -> int:
    """The id of the worker whose secret is the only one in a folder."""
    ids = sorted(_worker_id(path) for path in folder.glob("worker-*.secret"))
    if not ids:
        raise KeyFileError(
            f"There is no worker-<id>.secret in {folder}; copy this worker's from where the keys "
            "were made."
        )
    if len(ids) > 1:
        raise KeyFileError(
            f"{folder} has the secrets of the workers {', '.join(map(str, ids))}; choose one with "
            "--worker-id."
        )
    return ids[0]


def _require_folder(folder: Path) -> None:
    _require_curve()
    if not folder.is_dir():
        raise KeyFileError(
            f"There is no folder {folder}; make keys with `iqlft keys new "
            f"{shlex.quote(str(folder))}`, or copy them from where they were made."
        )
    _refuse_others(folder, folder.stat())


def _require_curve() -> None:
    if not zmq.has("curve"):
        raise KeyFileError(
            "This pyzmq was built without CURVE, so that keys cannot be used; install it from its "
            "wheel."
        )
