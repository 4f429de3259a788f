"""Demonstration 2: the learner is killed at random instants, and what it had acknowledged stays."""

import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from chaos import slow_disk
from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig
from iqlft.gateway.journal import Entry, Journal
from iqlft.runs import checkpoint
from iqlft.runs.folder import ENDPOINT, JOURNAL, Run
from iqlft.runs.growing_files import METRICS
from waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OFFLINE = 300
KILLS, STEPS_PER_KILL, LAST_STEPS = 20, 500, 200
REJOIN_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
REMOTE_WORKERS = (1, 2)
UTD_RATIO, SLACK = 1.0, 256
DISTURBED: dict[str, object] = {
    "lockstep": False, "remote_workers": len(REMOTE_WORKERS), "utd_ratio": UTD_RATIO,
    "slack": SLACK, "checkpoint_every": 5, "log_every": 5,
}  # fmt: skip


class Learner:
    """A run that is trained by one process after the other, each of them killed but the last.

    Args:
        folder: of the run, pretrained.
        config: how it is fine-tuned.

    Attributes:
        journal: bytes of the whole records when the learner was killed last.
        torn_records: kills that left a part of a record.
        torn_checkpoints: kills that left a part of a checkpoint.
    """

    def __init__(self, folder: Path, config: FinetuneConfig) -> None:
        self.folder = folder
        self.journal = b""
        self.torn_records = self.torn_checkpoints = 0
        self._config = folder.parent / "finetune.yaml"
        self._config.write_text(to_yaml(config))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        begun = Run.open(self.folder).fine_tuned
        arguments = ["resume"] if begun else ["finetune", "--config", str(self._config)]
        self._began_at = time.time()
        self._process = subprocess.Popen(
            [sys.executable, slow_disk.__file__, *arguments, str(self.folder)],
            stdout=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kills the process and looks at what it has left behind."""
        assert self._process is not None
        assert self._process.poll() is None, "it was to be killed, but has ended"
        self._process.kill()
        self._process.wait()
        self._look_at_checkpoints()
        self._look_at_journal()
        self._look_at_pace()

    def _look_at_checkpoints(self) -> None:
        folder = self.folder / "checkpoints"
        parts = [path for path in folder.glob(".*") if path.stat().st_mtime > self._began_at]
        self.torn_checkpoints += bool(parts)
        saved = checkpoint.load(folder).state  # Refused where it is not what its manifest says.
        learned = [each for each in self.entries() if each.end <= saved["journal"]]
        assert saved["env_steps"] == count_steps(learned)

    def _look_at_journal(self) -> None:
        path = self.folder / JOURNAL
        with closing(Journal(path)) as journal:
            length = journal.length
        content = path.read_bytes()
        self.torn_records += len(content) > length
        assert content.startswith(self.journal)
        self.journal = content[:length]

    def _look_at_pace(self) -> None:
        """No row tells of more updates than the steps so far and the slack allow."""
        for row in self.rows():
            assert row["updates"] - OFFLINE <= UTD_RATIO * row["received_steps"] + SLACK

    def rows(self) -> list[dict[str, Any]]:
        """What the run says of its fine-tuning."""
        lines = (self.folder / METRICS).read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        return [row for row in rows if row["phase"] == "online"]

    def wait(self) -> int:
        """Lets the process come to its end; returns its exit code."""
        assert self._process is not None
        code = self._process.wait(PATIENCE_SECONDS)
        self._look_at_journal()
        self._look_at_pace()
        return code

    def entries(self, begin: int = 0) -> list[Entry]:
        """What is in the journal, from a position on."""
        # A copy, for the learner may be writing.
        copy = self.folder.parent / "journal"
        copy.write_bytes((self.folder / JOURNAL).read_bytes()[begin:])
        with closing(Journal(copy)) as journal:
            return list(journal.entries())

    def seconds_until_all_are_back(self) -> float:
        """Waits for something new of each remote worker, and counts from when it could join."""
        endpoint = self.folder / ENDPOINT
        wait_until(
            lambda: endpoint.is_file() and endpoint.stat().st_mtime > self._began_at,
            PATIENCE_SECONDS,
        )
        begin = len(self.journal)
        wait_until(
            lambda: {*REMOTE_WORKERS} <= {each.worker_id for each in self.entries(begin)},
            PATIENCE_SECONDS,
        )
        return time.time() - endpoint.stat().st_mtime


def count_steps(entries: Iterable[Entry]) -> int:
    return sum(len(entry.batch.rewards) for entry in entries)


@contextmanager
def remote_workers(folder: Path) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Workers that nobody restarts, and that look for the learner where its run says."""
    command = [sys.executable, "-m", "iqlft_workers", "--connect", str(folder / ENDPOINT)]
    processes = []
    for worker_id in REMOTE_WORKERS:
        with (folder.parent / f"remote-{worker_id}.log").open("wb") as log:
            processes.append(
                subprocess.Popen([*command, "--worker-id", str(worker_id)], stderr=log)
            )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_learner_that_is_killed_at_random_instants_forgets_nothing_and_doubles_nothing(
    fresh: Path,
    lockstep: FinetuneConfig,
    figure: Callable[..., None],
    scaled: Callable[[float], float],
) -> None:
    kills, rng = max(2, round(scaled(KILLS))), random.Random(0)
    env_steps = STEPS_PER_KILL * kills
    changes = {**DISTURBED, "env_steps": env_steps, "eval_every": env_steps}
    config = dataclasses.replace(lockstep, **changes)  # type: ignore[arg-type]
    back_seconds = []
    with remote_workers(fresh) as workers, Learner(fresh, config) as learner:
        for number in range(kills):
            learner.start()
            if number % 4 == 3:  # While it is starting.
                time.sleep(rng.uniform(0, 4))
            else:
                back_seconds.append(learner.seconds_until_all_are_back())
                time.sleep(rng.uniform(0, 0.5))
            learner.kill()
            assert [worker.poll() for worker in workers] == [None, None]
        learner.start()
        # Once more when all credit is given, of which the next learner knows nothing.
        wait_until(
            lambda: learner.rows()[-1]["env_steps"] >= env_steps - LAST_STEPS, PATIENCE_SECONDS
        )
        learner.kill()
        learner.start()
        assert learner.wait() == 0
        assert [worker.wait(10) for worker in workers] == [0, 0]
    entries = learner.entries()
    sequences: dict[str, list[int]] = {}
    for entry in entries:
        sequences.setdefault(entry.batch.session, []).append(entry.batch.sequence)
    assert all(each == list(range(1, len(each) + 1)) for each in sequences.values())
    survivors = {each.batch.session for each in entries if each.worker_id in REMOTE_WORKERS}
    assert len(survivors) == len(REMOTE_WORKERS)
    # A learner knows nothing of the credit that a killed one gave last: some steps are too many.
    accepted, state = count_steps(entries), checkpoint.load(fresh / "checkpoints").state
    assert env_steps <= state["env_steps"] <= accepted <= env_steps + LAST_STEPS
    assert state["updates"] == OFFLINE + UTD_RATIO * env_steps
    assert max(back_seconds) <= REJOIN_SECONDS
    demonstration = "2 learner killed"
    figure(demonstration, "learner killed with SIGKILL", f"{kills + 1}")
    figure(demonstration, "  in the middle of a checkpoint", f"{learner.torn_checkpoints}")
    figure(demonstration, "  in the middle of a record of the journal", f"{learner.torn_records}")
    figure(demonstration, "batches accepted, sessions", f"{len(entries):,}, {len(sequences)}")
    figure(demonstration, "duplicates, gaps", "0, 0", "0, 0")
    figure(
        demonstration, "steps accepted beyond the last", f"{accepted - env_steps}", f"{LAST_STEPS}"
    )
    figure(demonstration, "workers started again", "0", "0")
    bound = f"{REJOIN_SECONDS:.0f} s"
    figure(demonstration, "all workers back at work, at most", f"{max(back_seconds):.1f} s", bound)
