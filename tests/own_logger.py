"""Loggers of one's own, as a user writes them."""

import json
from collections.abc import Mapping
from typing import Any

from iqlft.training.loggers import LoggedRun


class Lines:
    """A line for each row, in the run's folder."""

    def __init__(self, run: LoggedRun) -> None:
        self.file = (run.folder / "logs" / "lines").open("a")
        self.say(begun=run.id, task=run.task, discount=run.settings["pretrain.discount"])

    def write(self, row: Mapping[str, Any], updates: int) -> None:
        self.say(updates=updates, evaluation="evaluation/return" in row)

    def close(self) -> None:
        self.say(closed=True)
        self.file.close()

    def say(self, **what: object) -> None:
        self.file.write(json.dumps(what) + "\n")
        self.file.flush()


class Broken(Lines):
    """One that fails at its second row."""

    def write(self, row: Mapping[str, Any], updates: int) -> None:
        if updates > 10:
            raise RuntimeError("no room")
        super().write(row, updates)


class Unable(Lines):
    """One that cannot begin."""

    def __init__(self, run: LoggedRun) -> None:
        raise RuntimeError(f"no key for {run.folder.name}")
