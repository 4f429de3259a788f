"""Discovery of the learner by a worker, while it is silent or not there yet."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

ASK_SECONDS = 1.0
"""A worker asks so often whether it is wanted, and where a silent learner is."""
REPORT_SECONDS = 10.0
"""A silence of so many seconds is reported, once."""
PATIENCE_SECONDS = 3600.0
"""A worker whose learner is away for so long leaves."""

_log = logging.getLogger(__name__)


class LearnerLostError(UserError):
    """The learner was away for too long."""


class Discovery:
    """Discovers where the learner is.

    Args:
        address: asked for `tcp://host:port` of the learner; None while there is none.
    """

    def __init__(self, address: Callable[[], str | None]) -> None:
        self._address = address
        self._reported: float | None = None

    def wait_for_endpoint(self, wanted: Callable[[], bool]) -> str | None:
        """The learner's endpoint as soon as there is one; None when the worker is unwanted.

        Raises:
            LearnerLostError: there is none for too long.
        """
        began = time.monotonic()
        while wanted():
            if (endpoint := self._address()) is not None:
                _log.info("Looking for the learner at %s.", endpoint)
                return endpoint
            self._handle_silence(began, "There is no learner yet")
            time.sleep(ASK_SECONDS)
        return None

    def moved_endpoint(self, endpoint: str, silent_since: float) -> str | None:
        """The learner's endpoint if it is another one than where it has been silent.

        Args:
            endpoint: where nobody answers.
            silent_since: since when, on the monotonic clock.

        Raises:
            LearnerLostError: the silence lasts too long.
        """
        self._handle_silence(silent_since, f"No learner answers at {endpoint}")
        address = self._address()
        if address in {None, endpoint}:
            return None
        _log.info("The learner is at %s now.", address)
        return address

    def _handle_silence(self, since: float, sentence: str) -> None:
        """Reports a silence once, and is patient for an hour."""
        silence = time.monotonic() - since
        if silence > PATIENCE_SECONDS:
            raise LearnerLostError(
                f"The learner has been away for {PATIENCE_SECONDS / 60:.0f} minutes; start the "
                "worker again when it is back."
            )
        if silence > REPORT_SECONDS and self._reported != since:
            self._reported = since
            _log.warning("%s; looking on for %.0f minutes.", sentence, PATIENCE_SECONDS / 60)
