"""The run folder, and its only writer.

Files that grow (metrics, curves, episodes, new transitions) are append-only, and a checkpoint
records how long each one was, and its digest. Resuming cuts them back to those lengths, so that a
run that was killed and resumed has the same ones as one that was not. (TensorBoard's events and the
logs are for looking at: they just go on.) `meta.json` and `config.yaml` carry their own digests.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from iqlft.config.layers import override
from iqlft.config.settings import ConfigError, PretrainConfig
from iqlft.runs import seals
from iqlft.runs.scores import CURVE_COLUMNS, EVALUATION_COLUMNS
from iqlft.runs.surroundings import surroundings
from iqlft_workers.errors import UserError
from iqlft_workers.files import is_unwritable, new_folder, remedy, unwritten, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from iqlft.runs.scores import EpisodeScore, Score


EPISODE_COLUMNS = "env_steps", "worker", "version", "return", "length", "success"
"""The header of `episodes.csv`."""
METRICS, CURVES = "metrics.jsonl", "curves.csv"
EPISODES, EVALUATIONS = "episodes.csv", "evaluations.csv"
_HEADERS: dict[str, tuple[str, ...]] = {
    METRICS: (),
    CURVES: CURVE_COLUMNS,
    EPISODES: EPISODE_COLUMNS,
    EVALUATIONS: EVALUATION_COLUMNS,
}
"""The files that grow while a run trains, and what stands in the first line of each."""
JOURNAL = "replay/journal"
"""The new transitions, see `iqlft.gateway.journal`."""
ENDPOINT = "endpoint"
"""Where the learner's workers connect to; written anew whenever it starts."""
LOOK_SECONDS = 0.5
"""A claim is waited for so long: `iqlft list` takes one for a moment, to see whether it is free."""
_AGAIN = "repeat the command"
"""How to go on where nothing has begun."""
_PRODUCTS = ("replay", "policy", "plots", "tensorboard", "logs")
"""The folders that a copy of a run begins without."""
_KINDS: dict[str, type] = {
    **dict.fromkeys(("task", "algorithm", "known_as", "status", "variant"), str),
    **dict.fromkeys(("dataset", "environment", "finetune", "versions", "files"), dict),
    **dict.fromkeys(("argv", "appended"), list),
    **dict.fromkeys(("seed", "port"), int),
}
"""Of what kind the entries of `meta.json` are, where there are any."""


class RunError(UserError):
    """A run folder that exists already, is missing, or cannot be read or written."""


class Run:
    """A run folder that is open for writing.

    Args:
        folder: `runs/<task>/<name>`, complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._prefixes: dict[str, seals.Prefix] = {}
        self._claim: weakref.finalize[..., Run] | None = None

    @classmethod
    def create(cls, folder: Path, config: Mapping[str, Any], meta: Mapping[str, Any]) -> Run:
        """Makes a new run folder under a temporary name and renames it.

        Args:
            folder: must not exist.
            config: the resolved configuration of pretraining.
            meta: what `meta.json` holds beside versions, host and time.

        Raises:
            RunError: the folder exists, or cannot be written.
        """
        refuse_existing(folder)
        try:
            with new_folder(folder) as temporary:
                for each in ("checkpoints", *_PRODUCTS):
                    (temporary / each).mkdir()
                for name in _HEADERS:
                    _begin(temporary / name)
                run = cls(temporary)
                run.write_config("pretrain", config)
                run.write_meta({**meta, **surroundings()})
        except OSError as error:
            raise RunError(
                f"The run folder {folder} cannot be made ({error.strerror}); choose a writable "
                "place with --runs."
            ) from error
        run = cls(folder)
        run.claim()
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Opens an existing run.

        Raises:
            RunError: there is no run in this folder.
        """
        if not (folder / "meta.json").is_file():
            raise RunError(f"There is no run in {folder} (no meta.json); see `iqlft list`.")
        return cls(folder)

    def copy(
        self, folder: Path, checkpoint: str, change: Callable[[Run], None] | None = None
    ) -> Run:
        """A second run folder that continues from one of this run's checkpoints, its only one.

        Args:
            folder: must not exist.
            checkpoint: name of the checkpoint.
            change: makes of the copy, before anyone sees it, what it is to be.

        Raises:
            RunError: the folder exists, or cannot be written.
        """
        refuse_existing(folder, "--into")

        def skipped(directory: str, names: list[str]) -> set[str]:
            if Path(directory) == self.folder / "checkpoints":
                return set(names) - {checkpoint}
            return set(_PRODUCTS) & set(names) if Path(directory) == self.folder else set()

        try:
            with new_folder(folder) as temporary:
                shutil.copytree(self.folder, temporary, ignore=skipped, dirs_exist_ok=True)
                for each in _PRODUCTS:
                    (temporary / each).mkdir()
                write_atomically(temporary / "checkpoints" / "last", checkpoint)
                # It differs from its like in what the run did, and in what it was copied for.
                name = name_without_seed(folder.name, self.entry("seed"))
                variant = f"{self.meta.get('variant', '')} {name}".lstrip()
                copy = Run(temporary)
                copy.write_meta({"copied_from": self.folder.name, "variant": variant})
                if change is not None:
                    change(copy)
        except OSError as error:
            raise RunError(f"{self.folder} cannot be copied to {folder} ({error}).") from error
        return Run(folder)

    # -- configuration and description ------------------------------------------------------

    @property
    def meta(self) -> dict[str, Any]:
        """The contents of `meta.json`.

        Raises:
            RunError: it cannot be read, or is not as it was written.
        """
        return read_meta(self.folder)

    def entry(self, *keys: str) -> Any:  # noqa: ANN401
        """An entry of `meta.json`, by the names that lead to it, which every run has.

        Raises:
            RunError: it is missing, or `meta.json` cannot be read.
        """
        found: Any = self.meta
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                name = ".".join(keys)
                raise RunError(f"{self.folder}/meta.json has no {name}; restore it from a copy.")
            found = found[key]
        return found

    def write_meta(self, changes: Mapping[str, Any], without: str = "") -> None:
        """Updates `meta.json` atomically, and takes an entry out of it if it is there."""
        path = self.folder / "meta.json"
        meta = self.meta if path.is_file() else {}
        meta.pop(without, None)
        write_atomically(path, seals.to_json({**meta, **changes}))

    @property
    def config_text(self) -> str:
        """The contents of `config.yaml`, without the line with its digest."""
        try:
            return seals.without_seal((self.folder / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(self._unreadable(error)) from error

    def configuration(self, *, whole: bool = True) -> dict[str, Any]:
        """The sections of `config.yaml`.

        Args:
            whole: whether to refuse a file that is not as it was written.

        Raises:
            RunError: it is refused, or cannot be read.
        """
        try:
            text = (self.folder / "config.yaml").read_text(encoding="utf-8")
            return seals.from_yaml(text, whole=whole)
        except (OSError, ValueError) as error:
            raise RunError(self._unreadable(error)) from error

    def _unreadable(self, error: Exception) -> str:
        return (
            f"{self.folder}/config.yaml cannot be read ({error}); restore it, or remove it and "
            f"`iqlft resume {self.folder}` writes the one that the last checkpoint holds."
        )

    def config(self, section: str) -> dict[str, Any] | None:
        """The resolved configuration of `pretrain` or `finetune`, None when there is none yet."""
        return self.configuration().get(section)

    def write_config(self, section: str, config: Mapping[str, Any]) -> None:
        """Writes one command's section of `config.yaml`."""
        there = (self.folder / "config.yaml").is_file()
        self.write_configuration((self.configuration() if there else {}) | {section: dict(config)})

    def write_configuration(self, sections: Mapping[str, Any]) -> None:
        """Writes `config.yaml`."""
        write_atomically(self.folder / "config.yaml", seals.to_yaml(sections))

    # -- files that grow --------------------------------------------------------------------

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl`; what is not finite is null there, as JSON has it."""
        finite = {
            key: None if isinstance(each, float) and not math.isfinite(each) else each
            for key, each in row.items()
        }
        self._append(METRICS, (json.dumps(finite, allow_nan=False) + "\n").encode())

    def append_score(self, score: Score, episodes: Sequence[EpisodeScore] = ()) -> None:
        """Appends a row to `curves.csv`, and one for each of its episodes to `evaluations.csv`."""
        if episodes:
            rows = (each.row(score) for each in episodes)
            self._append(EVALUATIONS, b"".join(map(_csv, rows)))
        self._append(CURVES, _csv(score.row()))

    def append_episodes(self, rows: Sequence[Iterable[object]]) -> None:
        """Appends rows to `episodes.csv`, in the order of `EPISODE_COLUMNS`."""
        self._append(EPISODES, b"".join(_csv(row) for row in rows))

    def sizes(self) -> dict[str, int]:
        """Bytes in each growing file, synced to disk, for a checkpoint."""
        for file in self._files.values():
            os.fsync(file.fileno())
        return {name: (self.folder / name).stat().st_size for name in _HEADERS}

    def digests(self) -> dict[str, str]:
        """Digests of the growing files, as long as they are, for a checkpoint."""
        return {name: self._prefix(name).digest for name in _HEADERS}

    def record(self) -> None:
        """Writes lengths and digests of the growing files to `meta.json`, for their readers.

        Raises:
            RunError: it cannot be written.
        """
        sizes, digests = self.sizes(), self.digests()
        self._record({name: (sizes[name], digests[name]) for name in _HEADERS})

    def _record(self, files: Mapping[str, tuple[int, str]]) -> None:
        try:
            self.write_meta({"files": {name: list(each) for name, each in files.items()}})
        except OSError as error:
            raise RunError(no_room(error, self.folder, self.folder / "meta.json")) from error

    def _prefix(self, name: str) -> seals.Prefix:
        if name not in self._prefixes:
            self._prefixes[name] = seals.Prefix.of(self.folder / name)
        return self._prefixes[name]

    def claim(self) -> None:
        """Keeps other processes from training in this folder, until `close` or the process's end.

        Raises:
            RunError: another process trains in it.
        """
        if self._claim is not None:
            return
        try:
            descriptor = os.open(self.folder / ".claim", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(no_room(error, self.folder, self.folder / ".claim", _AGAIN)) from error
        until = time.monotonic() + LOOK_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > until:
                os.close(descriptor)
                raise RunError(
                    f"Another process is training in {self.folder}; wait for it, or stop it first."
                )
            time.sleep(LOOK_SECONDS / 10)
        self._claim = weakref.finalize(self, os.close, descriptor)

    def truncate(self, sizes: Mapping[str, int], digests: Mapping[str, str] | None = None) -> None:
        """Claims the run and cuts the growing files back to a checkpoint's lengths.

        Args:
            sizes: bytes that each file had; what it does not know, for it is of an older version,
                begins anew.
            digests: of those bytes; checkpoints of version 0.1 have none.

        Raises:
            RunError: another process trains in it, or a file is not what the checkpoint says.
        """
        self.claim()
        self._close_files()
        prefixes = {}
        for name, size in sizes.items():
            path = self.folder / name
            prefixes[name] = prefix = _prefix(path, size)
            if prefix.size < size:
                raise RunError(_changed(path, "is shorter than the checkpoint says"))
            if prefix.digest != (digests or {}).get(name, prefix.digest):
                raise RunError(_changed(path, "does not hold what the checkpoint says"))
        # Before they are cut: what a reader is told of is always there.
        self._record({name: (each.size, each.digest) for name, each in prefixes.items()})
        for name, size in sizes.items():
            os.truncate(self.folder / name, size)
        for name in _HEADERS.keys() - sizes.keys():
            _begin(self.folder / name)
        self._prefixes = prefixes

    def close(self) -> None:
        """Closes the files and gives up the claim."""
        self._close_files()
        if self._claim is not None:
            self._claim()
            self._claim = None

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._prefixes.clear()

    def _append(self, name: str, data: bytes) -> None:
        try:
            if name not in self._files:
                # Unbuffered: after an error nothing is left that a later close would try to write.
                self._files[name] = (self.folder / name).open("ab", buffering=0)
            written = self._files[name].write(data)
        except OSError as error:
            raise RunError(no_room(error, self.folder, self.folder / name)) from error
        if written != len(data):
            # What is there of it is cut off at the next beginning.
            full = OSError(errno.ENOSPC, "only a part was written")
            raise RunError(no_room(full, self.folder, self.folder / name))

        if name in self._prefixes:
            self._prefixes[name].add(data)


def read_meta(folder: Path) -> dict[str, Any]:
    """The contents of a run's `meta.json`.

    Raises:
        RunError: it cannot be read, is not as it was written, or an entry is of the wrong kind.
    """
    path = folder / "meta.json"
    try:
        meta = seals.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); restore it from a copy.") from error
    for key, kind in _KINDS.items():
        if key in meta and not isinstance(meta[key], kind):
            raise RunError(f"{path}: {key} is {meta[key]!r}, but must be of type {kind.__name__}.")
    return meta


def require_whole(folder: Path, name: str) -> None:
    """Refuses a growing file whose beginning is not what `meta.json` says, if it says anything.

    Raises:
        RunError: it was changed, or cannot be read.
    """
    if not (folder / "meta.json").is_file():
        return
    path, recorded = folder / name, read_meta(folder).get("files", {}).get(name)
    match recorded:
        case [int(size), str(digest)]:
            found = _prefix(path, size)
            if (found.size, found.digest) != (size, digest):
                raise RunError(_changed(path, "does not hold what was written"))
        case None:
            return
        case _:
            raise RunError(f"{folder / 'meta.json'}: what it says of {name} cannot be read.")


def _prefix(path: Path, size: int) -> seals.Prefix:
    try:
        return seals.Prefix.of(path, size)
    except OSError as error:
        raise RunError(_changed(path, f"cannot be read ({error.strerror})")) from error


@contextmanager
def writing(folder: Path, way_on: str = "") -> Iterator[None]:
    """Within it, a write of a run that fails raises `RunError` in place of `OSError`.

    Args:
        folder: of the run.
        way_on: what to do when there is room again; to resume it, if nothing else is said.
    """
    try:
        yield
    except OSError as error:
        if not is_unwritable(error):
            raise
        raise RunError(no_room(error, folder, way_on=way_on)) from error


def no_room(error: OSError, folder: Path, path: Path | None = None, way_on: str = "") -> str:
    """What of a run cannot be written, why, how much room its next checkpoint takes, how to go on.

    Args:
        error: why.
        folder: of the run.
        path: of the file; the error's own, or the run, where that is not known.
        way_on: see `writing`.
    """
    checkpoints = folder / "checkpoints"
    sizes = [
        sum(each.stat().st_size for each in path.parent.iterdir())
        for path in checkpoints.glob("[0-9]*/manifest.json")
    ]
    where = path or (Path(os.fsdecode(error.filename)) if error.filename else folder)
    said = unwritten(error, where, needed_bytes=max(sizes, default=0))
    return f"{said}; {remedy(error)}, then {way_on or f'continue with `iqlft resume {folder}`'}."


def name_without_seed(name: str, seed: int) -> str:
    """What the name of a run shares with those of other seeds: `half` of `half-s0`."""
    return name.removesuffix(f"-s{seed}")


def refuse_existing(folder: Path, flags: str = "--seed or --name") -> None:
    """Raises `RunError`, which names the flags to choose another, when a run is there already."""
    try:
        exists = folder.exists()
    except OSError as error:
        raise RunError(no_room(error, folder, folder, _AGAIN)) from error
    if exists:
        raise RunError(
            f"The run {folder} exists already; continue it with `iqlft resume {folder}`, or "
            f"choose another {flags}."
        )


def _changed(path: Path, how: str) -> str:
    return (
        f"{path} {how}, so it was changed or damaged since; restore it from a copy, or start a new "
        "run."
    )


def _locked(descriptor: int) -> bool:
    """Locks an open file; whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begin(path: Path) -> None:
    """Writes a growing file with its header alone."""
    header = _HEADERS[path.name]
    path.write_bytes(_csv(header) if header else b"")


def _csv(values: Iterable[object]) -> bytes:
    return (",".join("" if each is None else str(each) for each in values) + "\n").encode()


def vouches(folder: Path) -> bool:
    """Whether whoever made the run in a folder trusts its environment's code.

    That is so where it was made with `--trust`, or with an environment of the user's own choice.
    """
    try:
        config = Run(folder).configuration()
    except RunError:
        return False  # What is no run, or a damaged one, vouches for nothing.
    parts = [config.get(each) or {} for each in ("pretrain", "finetune")]
    return any(each.get("trust") is True or bool(each.get("environment")) for each in parts)


def pretrain_config(run: Run) -> PretrainConfig:
    """The configuration that a run was pretrained with."""
    data = run.config("pretrain")
    if data is None:
        raise ConfigError(f"{run.folder}/config.yaml has no section `pretrain`.")
    return override(PretrainConfig(), data, f"{run.folder}/config.yaml")
