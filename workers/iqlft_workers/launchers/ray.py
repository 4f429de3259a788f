"""Workers on a Ray cluster: `iqlft workers --engine ray`.

An actor starts the same process as everywhere else and looks after it, as a `WorkerPool` of one. So
a worker has its own signals, exit codes and memory, and a simulator that crashes takes no actor
with it. Ray moves an actor to another node when its own is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft_workers.errors import LOST, REJECTED, UNFIT
from iqlft_workers.launchers.local import (
    MAX_RESTARTS,
    ClusterError,
    Local,
    WorkerError,
    WorkerPool,
)
from iqlft_workers.launchers.processes import ids_of

try:
    import ray
    from ray.exceptions import ActorUnavailableError, RayError
except ImportError:
    ray = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CPUS = 0.5
"""CPUs that a worker reserves: it steps while its learner grants it steps, and often waits."""
LOOK_SECONDS = 0.5
"""Interval at which the actors are asked for reports."""
LINE_SECONDS = 30.0
"""Interval between two lines in the log while nothing changes."""
CONNECT_SECONDS = 2.0
"""How long the head may take to accept a connection."""
LOST_SECONDS = 10.0
"""A head that has accepted no connection for this long is gone."""
STOP_SECONDS = 2.5
"""How long workers may take to leave."""
_log = logging.getLogger(__name__)


class Report(NamedTuple):
    """What an actor reports of its worker.

    Attributes:
        node: id of the node where it is.
        steps: environment steps since this actor was started.
        events: what has happened since the last report, one sentence each.
        code: exit code of a worker that is not started again; None for one at work.
    """

    node: str
    steps: int
    events: list[str]
    code: int | None


class _OneWorker(WorkerPool):
    """A pool of one worker that is not started again when its learner does not need it any more."""

    def __init__(self, connect: str, worker_id: int | None, keys: Path | None) -> None:
        context = ray.get_runtime_context()
        folder = Path(context.get_temp_dir(), context.get_session_name(), "logs")
        super().__init__(0, connect, folder, keys)
        own = folder / f"iqlft-worker-{os.getpid()}"
        self._tally = own.with_suffix(".steps")
        named = () if worker_id is None else ("--worker-id", str(worker_id))
        arguments = (*named, "--tally", str(self._tally))
        self._locals = [Local(_name(worker_id), own.with_suffix(".log"), arguments, worker_id)]
        self.code: int | None = None

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        with suppress(FileNotFoundError):
            return int(self._tally.read_bytes() or 0)
        return 0

    def _reap(self, local: Local) -> list[str]:
        code = local.process.poll() if local.process else None
        if code in {0, LOST}:
            self.code = code
            return []
        # Whoever has its place is not going to leave.
        if code == REJECTED and local.rejections > MAX_RESTARTS:
            raise WorkerError(f"{local.name} cannot work: {local.sentence()}")
        return super()._reap(local)


def _name(worker_id: int | None) -> str:
    return "A worker" if worker_id is None else f"Worker {worker_id}"


class _Actor:
    """Looks after one worker on a node of the cluster."""

    def __init__(self, connect: str, worker_id: int | None, keys: Path | None) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._pool = _OneWorker(connect, worker_id, keys)
        self._pool.start()

    def look(self) -> Report:
        """Reports on the worker; starts it again if it has died."""
        try:
            events = self._pool.watch()
        except WorkerError as error:
            return Report(self._node, self._pool.steps, [str(error)], UNFIT)
        return Report(self._node, self._pool.steps, events, self._pool.code)

    def stop(self) -> None:
        """Ends the worker."""
        self._pool.stop(STOP_SECONDS - 1.0)


class RayWorkers:
    """Workers as actors of the Ray cluster that this machine is in, or that RAY_ADDRESS names.

    Args:
        connect: where the learner is, as every node sees it.
        count: how many workers.
        first_id: first of the ids to ask for; None for those of the keys, or any free ones.
        keys: folder of keys, as every node sees it; None for none.

    Raises:
        WorkerError: Ray is not installed.
        KeyFileError: the folder has too few workers' keys.
    """

    def __init__(
        self, connect: str, count: int, first_id: int | None = None, keys: Path | None = None
    ) -> None:
        if ray is None:
            raise WorkerError(
                "Workers on Ray need the package ray, here and on every node; install it with "
                "`pip install ray`."
            )
        where = connect if "://" in connect else str(Path(connect).absolute())
        folder = keys.absolute() if keys else None
        self._arguments = [(where, each, folder) for each in ids_of(count, first_id, keys)]
        self._workers: list[_Worker] = []
        self._head_at = self._said_at = time.monotonic()
        self._said, self._steps = (0, 0), 0
        self._refusals: list[str] = []

    def run(self, asked: Callable[[], bool]) -> int:
        """Runs until all workers have left.

        Args:
            asked: whether they are to leave.

        Returns:
            The exit code: 0 if a worker has worked to its end, or if they were asked to leave;
            `LOST` if the learner was away for too long.

        Raises:
            ClusterError: there is no cluster, or it is gone.
            WorkerError: none of the workers can do the work.
        """
        with _connected():
            # Ray moves an actor whose node is gone, and restarts one that was killed.
            kind = ray.remote(num_cpus=CPUS, max_restarts=-1, scheduling_strategy="SPREAD")(_Actor)
            self._workers = [_Worker(kind.remote(*each), each[1]) for each in self._arguments]
            try:
                while any(each.code is None for each in self._workers) and not asked():
                    self._look()
            finally:
                self._stop()
        codes = {each.code or 0 for each in self._workers}
        if codes <= {LOST, UNFIT} and self._refusals:
            raise WorkerError(self._refusals[-1])
        return 0 if 0 in codes else LOST

    def _look(self) -> None:
        """Asks every actor for a report, and logs what is new."""
        began = time.monotonic()
        waiting = {each.asked: each for each in self._workers if each.code is None}
        ready, _ = ray.wait([*waiting], num_returns=len(waiting), timeout=LOOK_SECONDS)
        for reference in ready:
            worker = waiting[reference]
            events = worker.take()
            if worker.code == UNFIT:
                self._handle_refusal(events.pop())
            for event in events:
                _log.warning("%s", event)
        self._require_head(began)
        self._tell(began)
        time.sleep(max(0.0, began + LOOK_SECONDS - time.monotonic()))

    def _handle_refusal(self, sentence: str) -> None:
        """Logs a refusal, once for each reason, unless the command ends with its sentence."""
        reason = sentence.partition(": ")[2]
        if all(each.partition(": ")[2] != reason for each in self._refusals):
            self._refusals.append(sentence)
            if any(each.code is None for each in self._workers):
                _log.warning("%s", sentence)

    def _require_head(self, now: float) -> None:
        """Raises `ClusterError` where the head is gone; Ray itself would abort this process."""
        address = ray.get_runtime_context().gcs_address
        if _answers(address):
            self._head_at = now
        elif now - self._head_at > LOST_SECONDS:
            raise ClusterError(
                f"The head of the Ray cluster at {address} is gone, and its nodes and workers with "
                "it; start the workers again when there is one."
            )

    def _tell(self, now: float) -> None:
        """Logs how many workers run and how fast, at every change and every `LINE_SECONDS`."""
        alive = [each.report for each in self._workers if each.report and each.code is None]
        nodes = len({report.node for report in alive})
        if (len(alive), nodes) == self._said and now < self._said_at + LINE_SECONDS:
            return
        steps = sum(each.steps for each in self._workers)
        rate = (steps - self._steps) / (now - self._said_at)
        self._said, self._said_at, self._steps = (len(alive), nodes), now, steps
        away = sum(each.code is None for each in self._workers) - len(alive)
        _log.info(
            "%d workers on %d nodes, %s env steps/s%s.", len(alive), nodes, f"{rate:,.0f}",
            f"; {away} wait for a place in the cluster" if away else "",
        )  # fmt: skip

    def _stop(self) -> None:
        leaving = [each.actor.stop.remote() for each in self._workers if each.code is None]
        if leaving:
            ray.wait(leaving, num_returns=len(leaving), timeout=STOP_SECONDS)


class _Worker:
    """An actor as its launcher sees it.

    Attributes:
        actor: handle of the Ray actor.
        asked: reference to the report that it was asked for.
        report: its last one; None while it has no place in the cluster.
        code: as in its reports.
        steps: environment steps, over all restarts of the actor.
    """

    def __init__(self, actor: Any, worker_id: int | None) -> None:  # noqa: ANN401 -- of Ray
        self.actor, self.asked = actor, actor.look.remote()
        self._name = _name(worker_id)
        self.report: Report | None = None
        self.code: int | None = None
        self.steps = 0

    def take(self) -> list[str]:
        """Takes the report, and asks for the next; returns its events, one sentence each."""
        try:
            report: Report = ray.get(self.asked)
        except ActorUnavailableError:
            events = [] if self.report is None else [f"{self._name} or its node is gone."]
            self.report = None
        except RayError as error:  # It could not even start, as when this package is missing.
            self.code = UNFIT
            return [f"{self._name} cannot work: {str(error).strip().splitlines()[-1]}"]
        else:
            before = self.report.steps if self.report else 0
            self.steps += max(0, report.steps - before)
            self.report, self.code, events = report, report.code, report.events
        self.asked = self.actor.look.remote()
        return events


def _answers(address: str) -> bool:
    """Whether anybody accepts a connection at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


@contextmanager
def _connected() -> Iterator[None]:
    """A connection to the cluster that prints nothing and leaves signals to this process.

    Raises:
        ClusterError: there is no cluster.
    """
    heard = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Else Ray warns of it.
    with ExitStack() as exits:
        nowhere = exits.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        exits.enter_context(redirect_stdout(nowhere))
        address = os.environ.get("RAY_ADDRESS", "auto")
        try:
            # Ray itself would try for minutes, and print that it does.
            if address != "auto" and not _answers(address):
                raise ConnectionError(address)
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError) as error:
            where = "here" if address == "auto" else f"at {address}, which RAY_ADDRESS names"
            raise ClusterError(
                f"There is no Ray cluster {where}; start one with `ray start --head`, on this "
                "machine or with this one in it, or let RAY_ADDRESS be HOST:PORT of its head."
            ) from error
        finally:
            for number, handler in heard.items():
                signal.signal(number, handler)
        exits.callback(ray.shutdown)
        yield
