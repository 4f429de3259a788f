"""Local workers: start, watch, restart and stop N processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from subprocess import DEVNULL, Popen
from typing import IO, TYPE_CHECKING, Literal

from iqlft_workers.errors import FAILED, HUNG, LOST, REJECTED, SENTENCE, UNFIT, UserError
from iqlft_workers.search_path import importing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

Engine = Literal["local", "ray"]
"""What starts workers: this machine, or a Ray cluster."""
MAX_RESTARTS = 5
"""A worker that dies more often than this, with little time in between, ends the run."""
HEALTHY_SECONDS = 60.0
"""Lifetime after which a worker's restarts are forgotten."""
BACK_OFF_SECONDS = 0.5
"""Pause before the second restart in a row; it doubles with each further one."""
LOG_BYTES = 10 * 2**20
"""A worker's log that grows longer is moved to `worker-<i>.log.1`, which replaces an older one.
"""
_TAIL_BYTES = 16_384
"""Bytes at the end of a log in which its last lines are looked for."""
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that limit a worker to one thread."""
REJECTED_BACK_OFF_SECONDS = 60.0
"""The longest pause before a worker is tried again that was rejected, or could not be started."""


class WorkerError(UserError):
    """A local worker cannot work; the message ends with the last lines of its log."""


class ClusterError(UserError):
    """The machines of an engine are not available, which may pass."""

    worker_exit_code = REJECTED


@dataclass
class Restarts:
    """Counts how often in a row a process has died that should have lived.

    Attributes:
        count: of restarts with little time in between.
    """

    count: int = 0

    def forget(self, lived_seconds: float) -> None:
        """Forgets the restarts of a process that has lived long."""
        if lived_seconds > HEALTHY_SECONDS:
            self.count = 0

    def pause(self) -> float | None:
        """Seconds before the next restart, 0 for the first; None if the process dies too often."""
        if self.count == MAX_RESTARTS:
            return None
        self.count += 1
        return BACK_OFF_SECONDS * 2 ** (self.count - 2) if self.count > 1 else 0.0


@dataclass
class Local:
    """A process of a pool.

    Attributes:
        name: begins sentences about it.
        log: file that it writes to.
        arguments: besides those that all processes have.
        worker_id: None for a process that is no worker.
    """

    name: str
    log: Path
    arguments: tuple[str, ...] = ()
    worker_id: int | None = None
    process: Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: Restarts = field(default_factory=Restarts)
    rejections: int = 0
    restart_at: float = 0.0
    reason: str = ""
    idle_seconds: float = 0.0

    def last_lines(self) -> str:
        """The end of the log, for an error message."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-8:])

    def rotate(self, longest: int) -> None:
        """Moves the content of a log that is too long aside; its process can go on writing."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > longest:
                # If there is no room for the copy, the content is lost.
                with contextlib.suppress(OSError):
                    shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
                os.truncate(self.log, 0)

    def sentence(self) -> str:
        """The sentence with which the worker ended; the end of its log if there is none."""
        _, found, said = self.last_lines().rpartition(SENTENCE)
        return said.partition("\n")[0] if found else self.last_lines()


class WorkerPool:
    """Processes that work for a learner on this machine; they never outlive it.

    Args:
        num_workers: how many; their ids are 0 to `num_workers - 1`.
        endpoint: `tcp://host:port` of the learner.
        log_folder: worker i writes to `worker-<i>.log` there, and so does its environment.
        keys: folder with the workers' keys; None for a learner without keys.
        engine: what starts them; unless it is `local`, a single process here asks it to.
    """

    def __init__(
        self,
        num_workers: int,
        endpoint: str,
        log_folder: Path,
        keys: Path | None = None,
        engine: Engine = "local",
    ) -> None:
        self._endpoint, self._keys = endpoint, keys
        ids = range(num_workers)
        self._locals = [
            Local(f"Worker {i}", log_folder / f"worker-{i}.log", ("--worker-id", str(i)), i)
            for i in ids
        ]
        if engine != "local":
            # A process of its own, so that the learner survives the loss of it or of the cluster.
            arguments = ("--engine", engine, "--num", str(num_workers), "--worker-id", "0")
            log = log_folder / f"{engine}.log"
            self._locals = [Local(f"The launcher on {engine}", log, arguments)] if ids else []

    @property
    def num_workers(self) -> int:
        """How many processes there are, running or about to be started again."""
        return len(self._locals)

    @property
    def process_ids(self) -> list[int]:
        """Ids of the processes started last, in the order of their worker ids."""
        return [local.process.pid for local in self._locals if local.process]

    def start(self) -> None:
        """Starts all workers."""
        for local in self._locals:
            local.log.parent.mkdir(parents=True, exist_ok=True)
            local.rotate(0)  # The log of a run that is resumed.
            local.log.touch()
            self._launch(local)

    def _launch(self, local: Local) -> list[str]:
        """Starts a process; returns a sentence if the machine has no room for it at present."""
        keys = ("--keys", str(self._keys)) if self._keys else ()
        arguments = "--connect", self._endpoint, *local.arguments, *keys
        local.started_at = time.monotonic()
        try:
            with local.log.open("ab") as log:
                local.process = start_worker(arguments, log)
        except OSError as error:
            reason = error.strerror or str(error)
            return [self._try_later(local, local.started_at, "cannot be started", reason)]
        return []

    def watch(self) -> list[str]:
        """Restarts workers that have died; to be called often.

        Returns:
            What has happened since the last call, one sentence each.

        Raises:
            WorkerError: a worker cannot do the work or keeps dying.
        """
        events = [event for local in self._locals for event in self._reap(local)]
        for local in self._locals:
            local.rotate(LOG_BYTES)
            if local.process is None and time.monotonic() >= local.restart_at:
                events += self._launch(local)
        return events

    def _reap(self, local: Local) -> list[str]:
        if local.process is None or (code := local.process.poll()) is None:
            return []
        now = time.monotonic()
        if code == UNFIT:
            raise WorkerError(f"{local.name} cannot work: {local.sentence()}")
        # The time for which it hung before it was killed does not count.
        lived, local.idle_seconds = now - local.started_at - local.idle_seconds, 0.0
        local.restarts.forget(lived)
        if lived > HEALTHY_SECONDS:
            local.rejections = 0
        if code == REJECTED:
            was = "was rejected" if local.worker_id is not None else "cannot begin"
            return [self._try_later(local, now, was, local.sentence())]
        if code == FAILED:
            local.reason = f"has failed: {local.sentence().rstrip('.')}"
        reason, local.reason = local.reason or exit_reason(code), ""
        pause = local.restarts.pause()
        if pause is None and code == FAILED:
            raise WorkerError(
                f"{local.name} failed {MAX_RESTARTS + 1} times in a row (its log "
                f"is {local.log}): {local.sentence()}"
            )
        if pause is None:
            raise WorkerError(
                f"{local.name} died {MAX_RESTARTS + 1} times in a row; the last time "
                f"it {reason}. Its log {local.log} ends so:\n{local.last_lines()}"
            )
        local.process, local.restart_at = None, now + pause
        return [f"{local.name} {reason}; it is started again."]

    def _try_later(self, local: Local, now: float, what: str, reason: str) -> str:
        """Schedules another try, because the reason may pass; returns a sentence about it."""
        pause = min(REJECTED_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2 ** min(local.rejections, 9))
        local.process, local.restart_at = None, now + pause
        local.rejections += 1
        return f"{local.name} {what}, and is started again in {pause:.1f} s: {reason}"

    def replace(self, worker_id: int, reason: str, seconds: float = 0.0) -> bool:
        """Kills a worker that does not work as it should; `watch` starts it again.

        Args:
            worker_id: any id; nothing happens if it is not one of ours, or has died already.
            reason: what `watch` will say of it, after its name.
            seconds: how long that has lasted; a younger process is not the one meant, and this time
                does not count as life, so that a worker that soon hangs again uses up its restarts.

        Returns:
            Whether the worker was killed.
        """
        local = next((each for each in self._locals if each.worker_id == worker_id), None)
        if local is None or local.process is None or local.process.poll() is not None:
            return False
        if time.monotonic() - local.started_at < seconds:
            return False
        local.reason = f"{reason}, and was killed by the learner"
        local.idle_seconds = seconds
        local.process.kill()
        return True

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ends all workers; idempotent.

        A worker that the learner has told to stop is leaving already; SIGTERM is for one that has
        not joined yet, or cannot hear.

        Args:
            timeout_seconds: for leaving, before a worker is killed.
        """
        end([local.process for local in self._locals if local.process], timeout_seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_worker(arguments: Sequence[str], log: IO[bytes] | None = None) -> Popen[bytes]:
    """Starts a worker that leaves when this process does.

    Args:
        arguments: of its command.
        log: what it writes to; None: to where this process does.
    """
    # -P: no file of the current folder stands in for a module of the worker.
    command = [sys.executable, "-P", "-m", "iqlft_workers", *arguments]
    # In a group of its own it does not see the terminal's Ctrl-C: this process receives it, and
    # tells it to stop.
    return Popen(
        [*command, "--parent", str(os.getpid())], stdin=DEVNULL, stdout=log, stderr=log,
        env=environment_variables(), process_group=0,
    )  # fmt: skip


def end(processes: Sequence[Popen[bytes]], seconds: float) -> None:
    """Ends processes by SIGTERM; those that have not left after some seconds are killed."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.terminate()
    while any(each.poll() is None for each in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in processes:
        process.kill()
        process.wait()


def exit_reason(code: int) -> str:
    """How a process ended, in words."""
    if code == -signal.SIGKILL:
        return "was killed (signal 9), perhaps because the machine ran out of memory"
    if code == HUNG:
        return "was told to leave because its environment hung"
    if code == LOST:
        return "has not found its learner for an hour"
    if code < 0:
        named = {each.value: each.name for each in signal.Signals}  # Real-time ones have none.
        return f"was ended by {named.get(-code, f'signal {-code}')}"
    return f"died with exit code {code}"


def environment_variables() -> dict[str, str]:
    """This process's variables, with one thread per worker and this package importable."""
    return {**importing(), **dict.fromkeys(_ONE_THREAD, "1")}
