"""One run of a sweep: which command it needs next, and running that in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqlft.cli.outputs import QUIET
from iqlft.runs.folder import ONLINE_SETTINGS, Run
from iqlft_workers.errors import UserError
from iqlft_workers.files import write_atomically
from iqlft_workers.search_path import importing

LEAVE_SIGNAL = "USR1"
"""Signal by which Slurm warns of a time limit; the run saves a checkpoint and exits."""


class CellFailedError(UserError):
    """A command of a run has failed; its own error message says why."""


@dataclass(frozen=True)
class Cell:
    """A run of a sweep.

    Attributes:
        folder: its run folder.
        arguments: arguments of `iqlft run`.
        settings: the resolved settings as YAML.
    """

    folder: Path
    arguments: tuple[str, ...]
    settings: str

    def next_step(self) -> list[str] | None:
        """The next command of the run, judged by its folder alone; None if it is finished.

        That of `finetune` reads the file of the run's online settings, which the caller writes.
        """
        if not (self.folder / "meta.json").is_file():
            return ["run", *self.arguments]
        run = Run(self.folder)
        if not run.finished:
            return ["resume", str(self.folder)]
        if not run.fine_tuned:
            file = self.folder / ONLINE_SETTINGS
            return ["finetune", str(self.folder), "--config", str(file)]
        return None


class Trainer:
    """Trains a cell to its end; submitit calls it, and `checkpoint` before a time limit.

    Args:
        cell: a new, interrupted or finished one.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._child: subprocess.Popen[bytes] | None = None
        self._leaving = False

    def __call__(self) -> None:
        """Runs the remaining commands of the run.

        Raises:
            CellFailedError: a command has failed.
        """
        if code := self.train():
            raise CellFailedError(f"{self.cell.folder} has failed with exit code {code}.")

    def train(self) -> int:
        """Runs the remaining commands; returns 0 or the exit code of the one that failed.

        Raises:
            CellFailedError: a command succeeded without bringing the run any further.
        """
        done = None
        while not self._leaving and (step := self.cell.next_step()) is not None:
            if step == done:
                raise CellFailedError(
                    f"{self.cell.folder} is no further after `iqlft {step[0]}`, which did not fail."
                )
            if code := self._do(step):
                return code
            done = step
        return 0

    def _do(self, step: list[str]) -> int:
        if step[0] == "finetune":
            write_atomically(self.cell.folder / ONLINE_SETTINGS, self.cell.settings)
        # In its own process group, it gets Ctrl-C only from here, and only once.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "iqlft", *step],
            env=importing(Path(__file__).parents[2]), process_group=0,
            # The sweep itself prints how everything ends; errors are still printed.
            stdout=subprocess.DEVNULL if QUIET.get() else None,
        )  # fmt: skip
        try:
            return self._child.wait()
        finally:
            self._child = None

    def tell(self, number: signal.Signals) -> None:
        """Passes a signal on to the running command, if any, and starts no further one."""
        self._leaving = True
        if self._child is not None:
            self._child.send_signal(number)

    def checkpoint(self) -> Any:  # noqa: ANN401 -- of an extra
        """Has the run save a checkpoint and exit; returns the job to submit again."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415 -- an extra

        if self._child is not None:
            self._child.send_signal(signal.Signals[f"SIG{LEAVE_SIGNAL}"])
            # Not `wait`, whose lock the interrupted call holds: this is a signal handler.
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Trainer(self.cell))
