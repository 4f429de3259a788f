"""The run folder, and its only writer.

Files that grow (metrics, curves, episodes, new transitions) are append-only, so that a run that was
killed and resumed ends with the same files as one that was not: see `growing_files`. (Logs, which
just go on, and TensorBoard's events, which are written anew, are only for viewing.) `meta.json` and
`config.yaml` carry their own digests.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqlft.config.layers import override
from iqlft.config.settings import ConfigError, FinetuneConfig, PretrainConfig
from iqlft.runs import seals
from iqlft.runs.errors import AGAIN, RunError, command, no_room
from iqlft.runs.growing_files import GrowingFiles
from iqlft.runs.meta import read_meta
from iqlft.runs.surroundings import surroundings
from iqlft_workers.files import new_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iqlft.config.layers import Config

JOURNAL = "replay/journal"
"""File of the new transitions, see `iqlft.gateway.journal`."""
ENDPOINT = "endpoint"
"""File with the address that workers connect to; written anew whenever the learner starts."""
ONLINE_SETTINGS = "finetune.yaml"
"""File of a pretrained run with the settings of the fine-tuning that is to follow, if known."""
LOOK_SECONDS = 0.5
"""How long to wait for a claim: `iqlft list` takes one for a moment, to see whether it is free."""
_PRODUCTS = ("replay", "policy", "plots", "tensorboard", "logs")
"""Folders that a copy of a run begins with empty."""


class Run:
    """A run folder that is open for writing.

    Args:
        folder: `runs/<task>/<name>`.

    Attributes:
        folder: see above; its path ends with its name.
        files: the files that grow while it trains.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder = _named(folder)
        self.files = GrowingFiles(folder)
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
                run = cls(temporary)
                run.files.begin()
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
        """Makes a copy of the run that continues from one of its checkpoints, the only one copied.

        Args:
            folder: must not exist.
            checkpoint: name of the checkpoint.
            change: called with the copy, to adapt it before it appears under its name.

        Raises:
            RunError: the folder exists, or cannot be written.
        """
        refuse_existing(folder, "--into")

        def skipped(directory: str, names: list[str]) -> set[str]:
            if Path(directory) == self.folder / "checkpoints":
                return set(names) - {checkpoint}
            own = {*_PRODUCTS, ENDPOINT}  # The address of a learner of this run, not of the copy's.
            return own & set(names) if Path(directory) == self.folder else set()

        try:
            with new_folder(folder) as temporary:
                shutil.copytree(self.folder, temporary, ignore=skipped, dirs_exist_ok=True)
                for each in _PRODUCTS:
                    (temporary / each).mkdir()
                write_atomically(temporary / "checkpoints" / "last", checkpoint)
                # The variant combines what set the run apart and what the copy is made for.
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
            RunError: it cannot be read, or has been changed since it was written.
        """
        return read_meta(self.folder)

    def entry(self, *keys: str) -> Any:  # noqa: ANN401
        """An entry of `meta.json` that every run has, by the keys that lead to it.

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
        """Updates `meta.json` atomically, and removes the entry `without`, if present."""
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
            whole: whether to refuse a file that does not match its digest.

        Raises:
            RunError: the file is refused, or cannot be read.
        """
        try:
            text = (self.folder / "config.yaml").read_text(encoding="utf-8")
            return seals.from_yaml(text, whole=whole)
        except (OSError, ValueError) as error:
            raise RunError(self._unreadable(error)) from error

    def _unreadable(self, error: Exception) -> str:
        return (
            f"{self.folder}/config.yaml cannot be read ({error}); restore it, or remove it and "
            f"let {command('resume', self.folder)} write the one in the last checkpoint."
        )

    def config(self, section: str) -> dict[str, Any] | None:
        """The resolved configuration of `pretrain` or `finetune`, None when there is none yet."""
        return self.configuration().get(section)

    @property
    def fine_tuned(self) -> bool:
        """Whether it has been fine-tuned, at least in part."""
        return self.config("finetune") is not None

    @property
    def latest_settings(self) -> dict[str, Any]:
        """The resolved configuration of the command that it was last trained with."""
        return self.config("finetune") or self.config("pretrain") or {}

    @property
    def finished(self) -> bool:
        """Whether the command that it was last trained with has come to its end."""
        return self.meta.get("status") == "finished"

    def write_config(self, section: str, config: Mapping[str, Any]) -> None:
        """Writes one command's section of `config.yaml`."""
        there = (self.folder / "config.yaml").is_file()
        self.write_configuration((self.configuration() if there else {}) | {section: dict(config)})

    def write_configuration(self, sections: Mapping[str, Any]) -> None:
        """Writes `config.yaml`."""
        write_atomically(self.folder / "config.yaml", seals.to_yaml(sections))

    # -- files that grow --------------------------------------------------------------------

    def record(self) -> None:
        """Writes lengths and digests of the growing files to `meta.json`, for their readers.

        Raises:
            RunError: `meta.json` cannot be written.
        """
        sizes, digests = self.files.sizes(), self.files.digests()
        self._record({name: (size, digests[name]) for name, size in sizes.items()})

    def _record(self, files: Mapping[str, tuple[int, str]]) -> None:
        try:
            self.write_meta({"files": {name: list(each) for name, each in files.items()}})
        except OSError as error:
            raise RunError(no_room(error, self.folder, self.folder / "meta.json")) from error

    def truncate(self, sizes: Mapping[str, int], digests: Mapping[str, str] | None = None) -> None:
        """Claims the run and cuts the growing files back to a checkpoint's lengths.

        Args:
            sizes: bytes that each file had; a file that an older version's checkpoint does not list
                begins anew.
            digests: of those bytes; checkpoints of version 0.1 have none.

        Raises:
            RunError: another process trains in it, or a file is not what the checkpoint says.
        """
        self.claim()
        self.files.close()
        prefixes = self.files.verified(sizes, digests or {})
        # Before they are cut, so that the bytes that meta.json promises are always there.
        self._record({name: (each.size, each.digest) for name, each in prefixes.items()})
        self.files.cut(prefixes)

    # -- who trains in it -------------------------------------------------------------------

    def claim(self) -> None:
        """Keeps other processes from training in this folder, until `close` or the process's end.

        Raises:
            RunError: another process trains in it, or its file system has no locks.
        """
        if self._claim is not None:
            return
        try:
            descriptor = os.open(self.folder / ".claim", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(no_room(error, self.folder, self.folder / ".claim", AGAIN)) from error
        try:
            self._lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._claim = weakref.finalize(self, os.close, descriptor)

    def _lock(self, descriptor: int) -> None:
        until = time.monotonic() + LOOK_SECONDS
        try:
            while not _locked(descriptor):
                if time.monotonic() > until:
                    raise RunError(
                        f"Another process is training in {self.folder}; wait for it, or stop it "
                        "first."
                    )
                time.sleep(LOOK_SECONDS / 10)
        except OSError as error:  # As of a Lustre that is mounted without `flock`.
            raise RunError(
                f"{self.folder} cannot be locked against other processes ({error.strerror}); have "
                "its file system mounted with locks, or choose another place with --runs."
            ) from error

    def close(self) -> None:
        """Closes the files and gives up the claim."""
        self.files.close()
        if self._claim is not None:
            self._claim()
            self._claim = None


def _named(folder: Path) -> Path:
    """A path of the folder that ends with its name, unlike `.` and `plots/..`; links stay."""
    if folder.name not in ("", ".."):
        return folder
    plain = Path(os.path.abspath(folder))  # noqa: PTH100 -- `resolve` would follow links
    # The folder above a link's target is not the one above the link.
    return plain if plain.resolve() == folder.resolve() else folder.resolve()


def name_without_seed(name: str, seed: int) -> str:
    """The part of a run's name that other seeds share: `half` of `half-s0`."""
    return name.removesuffix(f"-s{seed}")


def refuse_existing(folder: Path, flags: str = "--seed or --name") -> None:
    """Raises `RunError`, naming the flags to choose another folder, if this one exists already."""
    try:
        exists = folder.exists()
    except OSError as error:
        raise RunError(no_room(error, folder, folder, AGAIN)) from error
    if exists and not has_checkpoint(folder) and not is_claimed(folder):
        raise RunError(
            f"The run {folder} exists already, and was stopped before its first checkpoint; remove "
            f"it, or choose another {flags}."
        )
    if exists:
        raise RunError(
            f"The run {folder} exists already; continue it with {command('resume', folder)}, or "
            f"choose another {flags}."
        )


def has_checkpoint(folder: Path) -> bool:
    """Whether a run folder has a checkpoint to go on from."""
    return (folder / "checkpoints" / "last").is_file()


def is_claimed(folder: Path) -> bool:
    """Whether a process trains in a run folder now."""
    try:
        with (folder / ".claim").open("rb") as file:
            # Shared, so that others may look at the same time.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def status_of(folder: Path, meta: Mapping[str, Any]) -> str:
    """The status that `meta.json` records; `killed` if that is running, but no process is."""
    status = str(meta.get("status", "unknown"))
    return "killed" if status == "running" and not is_claimed(folder) else status


def _locked(descriptor: int) -> bool:
    """Tries to lock an open file, and returns whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def vouches(folder: Path) -> bool:
    """Whether the run in a folder vouches for its environment's code.

    It does if it was made with `--trust`, or with an environment that the user named.
    """
    try:
        config = Run(folder).configuration()
    except RunError:
        return False  # No run, or a damaged one, vouches for nothing.
    parts = [config.get(each) or {} for each in ("pretrain", "finetune")]
    return any(each.get("trust") is True or bool(each.get("environment")) for each in parts)


def pretrain_config(run: Run) -> PretrainConfig:
    """The configuration that a run was pretrained with."""
    return _recorded(run, "pretrain", PretrainConfig())


def finetune_config(run: Run) -> FinetuneConfig:
    """The configuration that a run has been fine-tuned with."""
    return _recorded(run, "finetune", FinetuneConfig())


def _recorded(run: Run, section: str, defaults: Config) -> Config:
    """A section of a run's `config.yaml`, over the defaults of today.

    Raises:
        ConfigError: there is no such section, or a setting in it makes no sense.
    """
    data = run.config(section)
    if data is None:
        raise ConfigError(f"{run.folder}/config.yaml has no section `{section}`.")
    return override(defaults, data, f"{run.folder}/config.yaml")
