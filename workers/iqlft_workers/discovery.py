"""Discovery: how a worker finds a learner that is silent or not there yet."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from iqlft_workers.errors import LOST, UserError
from iqlft_workers.files import write_atomically
from iqlft_workers.keys import KeyFileError, WorkerKeys

if TYPE_CHECKING:
    from collections.abc import Callable

ASK_SECONDS = 1.0
"""Interval at which a worker asks whether it is wanted, and where a silent learner is."""
REPORT_SECONDS = 10.0
"""A silence of this many seconds is reported, once."""
AWAY_SECONDS = 3600.0
"""How long a learner may be away; then its worker leaves."""

_FINISHED = "finished"
"""Content of the endpoint file of a run that has finished."""

_log = logging.getLogger(__name__)


class EndpointError(UserError):
    """The learner's address is not a valid one."""


class LearnerLostError(UserError):
    """The learner was away for too long."""

    # Not UNFIT: a learner that was frozen for so long may start this worker again.
    worker_exit_code = LOST


class RunFinishedError(Exception):
    """Leaves the work, because the endpoint file says that the run has finished.

    A worker that had not found its learner again before the end can learn of it in no other way.
    """


class Address(NamedTuple):
    """Where a learner is, and the keys by which it and a worker know each other.

    Attributes:
        endpoint: `tcp://host:port`.
        keys: None for a learner without keys.
    """

    endpoint: str
    keys: WorkerKeys | None = None


def write_endpoint(path: Path, endpoint: str, keys: Path | None) -> None:
    """Writes where a learner is, and the folder of the keys for its user's workers, if any."""
    write_atomically(path, "".join(f"{line}\n" for line in (endpoint, keys) if line))


def write_finished(path: Path) -> None:
    """Writes to the endpoint file of a run that it has finished."""
    write_atomically(path, f"{_FINISHED}\n")


def read_endpoint(path: Path, worker_id: int | None, keys: WorkerKeys | None) -> Address | None:
    """The address in a learner's endpoint file; None if there is no such learner at present.

    Args:
        path: of the file.
        worker_id: whose keys to read, if the learner made some; None for the shared ones.
        keys: to use instead; None if there are none.

    Raises:
        EndpointError: the file is not text, or may not be read.
        KeyFileError: the keys cannot be used, for example because they are another user's.
        RunFinishedError: the learner's run has finished.
    """
    try:
        endpoint, _, folder = path.read_text(encoding="utf-8").partition("\n")
    except PermissionError as error:
        raise EndpointError(
            f"{path} cannot be read ({error.strerror}); mend its permissions, or give the "
            "learner's address itself to --connect."
        ) from error
    except OSError:
        return None
    except ValueError as error:
        raise EndpointError(
            f"{path} holds no address but other bytes; the learner writes it anew when it is "
            "started again."
        ) from error
    endpoint, folder = endpoint.strip(), folder.removesuffix("\n")
    if endpoint == _FINISHED:
        raise RunFinishedError
    try:
        if keys is None and folder:
            keys = WorkerKeys.load(Path(folder), worker_id)
    except (KeyFileError, FileNotFoundError):
        # The folder goes when its learner does; the file stays.
        if Path(folder).is_dir():
            raise
        return None
    return Address(endpoint, keys) if endpoint else None


class Discovery:
    """Discovers where the learner is.

    Args:
        address: returns the learner's address; None while there is none.

    Attributes:
        address: see above.
    """

    def __init__(self, address: Callable[[], Address | None]) -> None:
        self.address = address
        self._reported: float | None = None

    def wait_for_address(self, wanted: Callable[[], bool]) -> Address | None:
        """The learner's address as soon as there is one; None once the worker is not wanted.

        Raises:
            LearnerLostError: there has been none for too long.
        """
        began = time.monotonic()
        while wanted():
            if (address := self.address()) is not None:
                _log.info("Looking for the learner at %s.", address.endpoint)
                return address
            # Keys of its own are a file of its machine, so it may be there, and out of reach.
            self._handle_silence(began, "There is no learner yet that this machine can reach")
            time.sleep(ASK_SECONDS)
        return None

    def moved_address(self, silent: Address, silent_since: float) -> Address | None:
        """The learner's address if it has changed; else None.

        Args:
            silent: the address at which nobody answers.
            silent_since: since when, on the monotonic clock.

        Raises:
            LearnerLostError: the silence lasts too long.
        """
        self._handle_silence(silent_since, f"No learner answers at {silent.endpoint}")
        address = self.address()
        if address is None or address == silent:
            return None
        _log.info("The learner is at %s now.", address.endpoint)
        return address

    def _handle_silence(self, since: float, sentence: str) -> None:
        """Reports a silence once, and raises `LearnerLostError` after an hour."""
        silence = time.monotonic() - since
        if silence > AWAY_SECONDS:
            raise LearnerLostError(
                f"The learner has been away for {AWAY_SECONDS / 60:.0f} minutes; start the "
                "worker again when it is back."
            )
        if silence > REPORT_SECONDS and self._reported != since:
            self._reported = since
            _log.warning("%s; looking on for %.0f minutes.", sentence, AWAY_SECONDS / 60)
