"""How a session begins and ends: its gateway, workers and log, and the record of how it ended."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

from iqlft.runs.errors import RunError
from iqlft_workers.text import PlainFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqlft.runs.folder import Run
    from iqlft.training.session import PhaseType, Session


@contextmanager
def open_session(session: Session[PhaseType]) -> Iterator[Session[PhaseType]]:
    """Starts gateway and workers, and at the end stops them and records how the run ended.

    Whatever fails at the start or at the end, the rest is still stopped and closed.

    Args:
        session: its gateway is bound but not started, and its workers are not started.
    """
    run, gateway, pool = session.plan.run, session.gateway, session.pool
    status = "failed"
    with ExitStack() as exits:
        exits.callback(run.close)
        exits.callback(lambda: _write_end(session, status))  # While the run is still claimed.
        exits.callback(_record_end, run)
        exits.enter_context(_own_log(session))
        # Opened after the run's log, which takes the messages about a failing logger.
        exits.enter_context(session.metrics)
        run.write_meta({"status": "running", "phase": session.phase.name})
        # Workers leave when the gateway tells them to; the pool stops what is left after that.
        exits.callback(pool.stop, timeout_seconds=5.0)
        exits.callback(lambda: gateway.close(over=status == "finished"))
        gateway.start()
        pool.start()
        yield session
        status = "interrupted" if session.stop.requested else "finished"


class _LastingLog(logging.FileHandler):
    """A log file that drops what a full disk cannot take, and never raises because of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Ignores the error."""

    def close(self) -> None:
        """Closes the file even if the rest of it cannot be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def _own_log(session: Session[PhaseType]) -> Iterator[None]:
    """Writes what the learner and this run's gateway log to the run's folder."""
    path = session.plan.run.folder / "logs" / "learner.log"
    path.parent.mkdir(exist_ok=True)
    with closing(_LastingLog(path, encoding="utf-8")) as log:
        own = {threading.main_thread().name, threading.current_thread().name}
        own.add(session.gateway.thread_name)
        log.addFilter(lambda record: record.threadName in own)
        log.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("iqlft")
        logger.setLevel(logging.INFO)
        logger.addHandler(log)
        try:
            yield
        finally:
            logger.removeHandler(log)


def _record_end(run: Run) -> None:
    with suppress(OSError, RunError):
        run.record()


def _write_end(session: Session[PhaseType], status: str) -> None:
    # A full disk must not hide the error that it caused earlier.
    with suppress(OSError):
        session.plan.run.write_meta({"status": status, "seconds": round(session.seconds, 1)})
