"""The sessions of a stack of runs, side by side."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from iqlft.training.interruption import Interrupted, StopSignal
from iqlft.training.progress import Voice
from iqlft.training.session import open_session
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from iqlft.gateway.gateway import Gateway
    from iqlft.runs.folder import Run
    from iqlft.training.evaluation import Scoring
    from iqlft.training.session import Session, SessionParts
    from iqlft_workers.pool import WorkerPool

_log = logging.getLogger(__name__)


class Sessions:
    """Sessions that take the same updates; one that fails leaves the others at work.

    A context manager. At its end every session is closed. Then `Interrupted` is raised where a stop
    was requested and there is something to resume, else the first failure if there was one.

    Args:
        count: how many there will be.

    Attributes:
        stop: whether Ctrl-C or SIGTERM has asked to stop.
        living: the sessions that have not failed.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.stop = StopSignal()
        self.living: list[Session] = []
        self._failures: list[UserError] = []
        self._all = ExitStack()
        self._exits: dict[Path, ExitStack] = {}

    def __enter__(self) -> Self:
        self._all.enter_context(self.stop.listening())
        return self

    def open(
        self,
        gateway: Gateway,
        pool: WorkerPool,
        run: Run,
        scoring: Scoring,
        **parts: Unpack[SessionParts],
    ) -> Session:
        """Opens one more; see `open_session`."""
        if self._count > 1:
            parts["reporter"] = Voice(
                parts["reporter"], run.folder.name, lambda: self.living[:1] == [session]
            )
        exits = self._exits[run.folder] = self._all.enter_context(ExitStack())
        session = exits.enter_context(open_session(gateway, pool, run, scoring, self.stop, **parts))
        self.living.append(session)
        return session

    def each(self, action: Callable[..., object], *arguments: object) -> None:
        """`action(session, *arguments)` for each living session; one that cannot has failed."""
        for session in tuple(self.living):
            try:
                action(session, *arguments)
            except UserError as error:
                self._fail(session, error)

    def _fail(self, session: Session, error: UserError) -> None:
        # Before the session, and its log with it, is closed.
        _log.error("The run has failed: %s", error)
        self.living.remove(session)
        self._failures.append(error)
        self._exits[session.run.folder].__exit__(type(error), error, error.__traceback__)
        if self._count > 1:
            rest = ", the others go on" if self.living else ""
            session.reporter.event(f"It has failed{rest}. {error}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._all.__exit__(kind, error, traceback)
        if error is not None:
            return
        if self.stop.requested and self.living:
            # The failures were told when they came.
            raise Interrupted([session.run.folder for session in self.living])
        if self._failures:
            raise self._failures[0]
