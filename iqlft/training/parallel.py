"""Several runs in parallel, each in its own process; further ones wait for a free place.

A process does exactly what a command for its run alone would do (`child.py`), so the run is the
same, bit for bit. Its messages come through its standard output, one line of JSON each; a byte on
its standard input acts as Ctrl-C, and so does the end of that input, as when this process is gone.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iqlft.runs.errors import RunError, command
from iqlft.runs.folder import Run, has_checkpoint
from iqlft.training.interruption import Interrupted, StopSignal
from iqlft.training.progress import Status, Voice
from iqlft_workers.errors import Stopped, UserError
from iqlft_workers.launchers.local import exit_reason
from iqlft_workers.search_path import importing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iqlft.training.progress import Reporter

    Message = dict[str, Any] | None
    """A message of a process; None when the process has ended."""

LOOK_SECONDS = 0.2
"""Interval between two checks whether a stop is requested."""
LEAVE_SECONDS = 10.0
"""How long processes may take to end when this one ends, before they are killed."""


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        folder: folder of the run that it trains.
        command: the function that it calls.
        arguments: JSON; the settings of the command, or those that `resume` changes.
    """

    folder: Path
    command: Literal["pretrain", "finetune", "resume"]
    arguments: Mapping[str, Any]


class RunsFailedError(UserError):
    """Some of several parallel runs have failed; the others went on.

    Args:
        sentence: which ones, why, and what to do.
        exit_code: exit code of the first that failed.
    """

    def __init__(self, sentence: str, exit_code: int = 2) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class _Child:
    """The process of a job.

    Args:
        job: what it does.
        reporter: receives its status and events.
        inbox: receives its messages.

    Attributes:
        job: see above.
        voice: reports under the name of its run.
        failure: why it has failed; empty while it has not.
        exit_code: of the process, once it has ended.
    """

    def __init__(
        self, job: Job, reporter: Reporter, inbox: queue.SimpleQueue[tuple[_Child, Message]]
    ) -> None:
        self.job, self.voice = job, Voice(reporter, job.folder.name)
        self.failure, self.exit_code, self._asked = "", 0, False
        # In its own process group it does not get the terminal's Ctrl-C: `ask_to_stop` sends one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "iqlft.training.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=importing(Path(__file__).parents[2]), process_group=0,
        )  # fmt: skip
        order = {**vars(job), "folder": str(job.folder), "argv": sys.argv, "path": sys.path}
        self._write(json.dumps(order) + "\n")
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def _listen(self, inbox: queue.SimpleQueue[tuple[_Child, Message]]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                # A line may be cut short when the process is killed, or be printed by an import.
                with contextlib.suppress(ValueError):
                    inbox.put((self, json.loads(line)))
        inbox.put((self, None))

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def ask_to_stop(self) -> None:
        """Acts as Ctrl-C, once."""
        if not self._asked:
            self._asked = True
            self._write("\n")

    def hear(self, message: dict[str, Any]) -> None:
        """Passes on a message of the process."""
        match message:
            case {"status": status}:
                self.voice.status(Status.from_json(status))
            case {"event": sentence}:
                self.voice.event(sentence)
            case {"failure": sentence}:
                self.failure = sentence

    def reap(self) -> None:
        """Notes how the process has ended."""
        self.exit_code = self._process.wait()
        self.leave()
        if self.exit_code not in (0, Stopped.exit_code) and not self.failure:
            self.failure = f"Its process {exit_reason(self.exit_code)}."
            self.exit_code = UserError.exit_code

    def leave(self) -> None:
        """Closes the standard input of the process, which acts as one more Ctrl-C."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self, timeout_seconds: float) -> None:
        """Waits for the process to end, and kills it after the timeout."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Parallel:
    """Jobs in parallel.

    Args:
        jobs: one per run.
        at_once: how many processes may run at the same time; fewer if the machine has no room.
        reporter: receives status and events.
    """

    def __init__(self, jobs: Sequence[Job], at_once: int, reporter: Reporter) -> None:
        self._jobs, self._waiting = jobs, deque(jobs)
        self._at_once, self._reporter = at_once, reporter
        self._running: list[_Child] = []
        self._ended: list[_Child] = []
        self._inbox: queue.SimpleQueue[tuple[_Child, Message]] = queue.SimpleQueue()
        self._stop = StopSignal()

    def run(self) -> None:
        """Does all jobs; one that fails leaves the others at work.

        Raises:
            Interrupted: a stop was requested, and something is left to do.
            RunError: the machine has no room for a single process.
            RunsFailedError: runs have failed; the others are finished.
        """
        about = f"{len(self._waiting)} runs, each in a process of its own, {self._at_once} at once."
        self._reporter.event(about)
        for job in self._jobs:
            Voice(self._reporter, job.folder.name).status(_waiting(job))
        with self._stop.listening():
            try:
                while self._running or (self._waiting and not self._stop.requested):
                    self._proceed()
            finally:
                self._leave()
        self._conclude()

    def _proceed(self) -> None:
        if self._stop.requested:
            for child in self._running:
                child.ask_to_stop()
        elif self._waiting and len(self._running) < self._at_once:
            self._start(self._waiting.popleft())
            return
        with contextlib.suppress(queue.Empty):
            child, message = self._inbox.get(timeout=LOOK_SECONDS)
            if message is None:
                self._part_from(child)
            else:
                child.hear(message)

    def _start(self, job: Job) -> None:
        try:
            self._running.append(_Child(job, self._reporter, self._inbox))
        except OSError as error:
            self._waiting.appendleft(job)
            self._at_once, reason = len(self._running), error.strerror or str(error)
            if not self._at_once:
                raise RunError(
                    f"No process can be started for {job.folder} ({reason}); make room for it on "
                    "this machine, and repeat the command."
                ) from error
            self._reporter.event(
                f"This machine has no room for another process ({reason}); {self._at_once} at once "
                "from now on."
            )

    def _part_from(self, child: _Child) -> None:
        child.reap()
        self._running.remove(child)
        self._ended.append(child)
        if child.failure:
            rest = ", the others go on" if self._running or self._waiting else ""
            child.voice.event(f"It has failed{rest}. {child.failure}")

    def _leave(self) -> None:
        """Ends the processes that still run because this one leaves by an exception."""
        for child in self._running:
            child.leave()
        deadline = time.monotonic() + LEAVE_SECONDS
        for child in self._running:
            child.end(max(0.0, deadline - time.monotonic()))

    def _conclude(self) -> None:
        stopped = [each.job for each in self._ended if each.exit_code == Stopped.exit_code]
        if left := [job.folder for job in self._jobs if job in [*stopped, *self._waiting]]:
            # The failures were reported when they happened.
            begun = [folder for folder in left if _can_resume(folder)]
            raise Interrupted(begun, [folder for folder in left if folder not in begun])
        if failed := [each for each in self._ended if each.failure]:
            raise RunsFailedError(_failures(failed), failed[0].exit_code)


def _waiting(job: Job) -> Status:
    """The status of a run that has no process yet."""
    settings, task = job.arguments, job.folder.absolute().parent.name
    if job.command == "resume":
        run = Run.open(job.folder)
        settings, task = run.latest_settings, run.entry("task")
    phase, total = (
        ("online", "env_steps") if "env_steps" in settings else ("offline", "num_updates")
    )
    return Status(task, "", job.folder, phase, 0, settings.get(total, 0), waiting=True)


def _failures(failed: Sequence[_Child]) -> str:
    """Which runs have failed, why, and how to continue them."""
    lines = [f"{each.job.folder.name} has failed: {each.failure}" for each in failed]
    if begun := [each.job.folder for each in failed if _can_resume(each.job.folder)]:
        lines.append(f"When that is mended, continue with {command('resume', *begun)}.")
    return "\n".join(lines)


def _can_resume(folder: Path) -> bool:
    """Whether a run has a checkpoint, and has not finished."""
    begun = (folder / "meta.json").is_file() and has_checkpoint(folder)
    return begun and not Run.open(folder).finished
