"""The files of a run folder that grow while it trains: append-only, with a digest.

A checkpoint records length and digest of each; a resumed run cuts them back to those lengths.
"""

from __future__ import annotations

import errno
import json
import math
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from iqlft.runs import seals
from iqlft.runs.errors import RunError, no_room
from iqlft.runs.meta import read_meta
from iqlft.runs.scores import CURVE_COLUMNS, EVALUATION_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

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
"""The files, and the header of each."""


class GrowingFiles:
    """The growing files of one run, and their only writer.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._prefixes: dict[str, seals.Prefix] = {}

    def begin(self) -> None:
        """Writes each file with its header alone."""
        for name in _HEADERS:
            self._begin(name)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl`; numbers that are not finite become null."""
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
        return {name: (self._folder / name).stat().st_size for name in _HEADERS}

    def digests(self) -> dict[str, str]:
        """Digests of the growing files at their present lengths, for a checkpoint."""
        return {name: self._prefix(name).digest for name in _HEADERS}

    def verified(
        self, sizes: Mapping[str, int], digests: Mapping[str, str]
    ) -> dict[str, seals.Prefix]:
        """The files' prefixes of a checkpoint's lengths, after a check; nothing is changed.

        Args:
            sizes: bytes that each file had.
            digests: of those bytes; checkpoints of version 0.1 have none.

        Raises:
            RunError: a file is not what the checkpoint says.
        """
        prefixes = {}
        for name, size in sizes.items():
            path = self._folder / name
            prefixes[name] = prefix = _prefix(path, size)
            if prefix.size < size:
                raise RunError(_changed(path, "is shorter than the checkpoint says"))
            if prefix.digest != digests.get(name, prefix.digest):
                raise RunError(_changed(path, "does not hold what the checkpoint says"))
        return prefixes

    def cut(self, prefixes: dict[str, seals.Prefix]) -> None:
        """Cuts the files, which are closed, back to these prefixes, to go on from there.

        Args:
            prefixes: see `verified`; a file without one, as the checkpoint's version did not write
                it, begins anew.
        """
        for name in _HEADERS:
            if name in prefixes:
                os.truncate(self._folder / name, prefixes[name].size)
            else:
                self._begin(name)
        self._prefixes = prefixes

    def close(self) -> None:
        """Closes the files; another write opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._prefixes.clear()

    def _begin(self, name: str) -> None:
        header = _HEADERS[name]
        (self._folder / name).write_bytes(_csv(header) if header else b"")

    def _prefix(self, name: str) -> seals.Prefix:
        if name not in self._prefixes:
            self._prefixes[name] = seals.Prefix.of(self._folder / name)
        return self._prefixes[name]

    def _append(self, name: str, data: bytes) -> None:
        try:
            if name not in self._files:
                # Unbuffered: after an error nothing is left that a later close would try to write.
                self._files[name] = (self._folder / name).open("ab", buffering=0)
            written = self._files[name].write(data)
        except OSError as error:
            raise RunError(no_room(error, self._folder, self._folder / name)) from error
        if written != len(data):
            # The part that was written is cut off when the run is resumed.
            full = OSError(errno.ENOSPC, "only a part was written")
            raise RunError(no_room(full, self._folder, self._folder / name))
        if name in self._prefixes:
            self._prefixes[name].add(data)


def require_whole(folder: Path, name: str) -> None:
    """Refuses a growing file that does not begin as `meta.json` records, if it records anything.

    Raises:
        RunError: the file was changed, or cannot be read.
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


def _changed(path: Path, how: str) -> str:
    return (
        f"{path} {how}, so it was changed or damaged since; restore it from a copy, or start a new "
        "run."
    )


def _csv(values: Iterable[object]) -> bytes:
    return (",".join("" if each is None else str(each) for each in values) + "\n").encode()
