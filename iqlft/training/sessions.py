"""The sessions of a stack of runs, side by side."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self

from iqlft.runs.errors import writing
from iqlft.training.interruption import Interrupted, StopSignal
from iqlft.training.opening import open_session
from iqlft.training.progress import Voice
from iqlft.training.session import PhaseType, Session
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.gateway.gateway import Gateway
    from iqlft.training.plan import RunPlan
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Member

_log = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")


class Sessions(Generic[PhaseType]):
    """Sessions that share their updates; when one fails, the others go on.

    A context manager. On exit every session is closed. Then `Interrupted` is raised if a stop was
    requested and a session is left to resume, else the first failure, if any.

    Args:
        dataset: what all of them were pretrained on.
        reporter: receives status and events.
        count: how many sessions there will be.

    Attributes:
        stop: whether Ctrl-C, or a similar signal, has asked to stop.
        living: the sessions that have not failed.
    """

    def __init__(self, dataset: OfflineDataset, reporter: Reporter, count: int) -> None:
        self._dataset, self._reporter, self._count = dataset, reporter, count
        self.stop = StopSignal()
        self.living: list[Session[PhaseType]] = []
        self._failures: list[UserError] = []
        self._all = ExitStack()
        self._exits: dict[Path, ExitStack] = {}

    def __enter__(self) -> Self:
        self._all.enter_context(self.stop.listening())
        return self

    def open(
        self, plan: RunPlan[Any], gateway: Gateway, phase: PhaseType, member: Member
    ) -> Session[PhaseType]:
        """Opens one more session, restored if its plan goes on from a checkpoint."""
        reporter, folder = self._reporter, plan.run.folder
        if self._count > 1:
            reporter = Voice(reporter, folder.name)
        with writing(folder):
            session = Session(plan, gateway, phase, member, self._dataset, reporter, self.stop)
            exits = self._exits[folder] = self._all.enter_context(ExitStack())
            exits.enter_context(open_session(session))
        self.living.append(session)
        if plan.saved is not None:
            session.restore(plan.saved)
        return session

    def each(
        self,
        action: Callable[Concatenate[Session[PhaseType], Arguments], object],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> None:
        """Calls `action(session, ...)` for each living session; a `UserError` fails that one."""
        for session in tuple(self.living):
            try:
                with writing(session.plan.run.folder):
                    action(session, *arguments, **options)
            except UserError as error:
                self._fail(session, error)

    def _fail(self, session: Session[PhaseType], error: UserError) -> None:
        # Before the session is closed, and its log with it.
        _log.error("The run has failed: %s", error)
        self.living.remove(session)
        self._failures.append(error)
        self._exits[session.plan.run.folder].__exit__(type(error), error, error.__traceback__)
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
            # The failures were reported when they happened.
            raise Interrupted([session.plan.run.folder for session in self.living])
        if self._failures:
            raise self._failures[0]
