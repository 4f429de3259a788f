"""A journal that is damaged or poisoned: what is said, and how a run goes on."""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq

from iqlft.cli import main as cli
from iqlft.config.settings import FinetuneConfig
from iqlft.datasets.value_bounds import Range, ValueBounds
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal, read_entries
from iqlft.runs import checkpoint
from iqlft.runs.folder import JOURNAL, Run
from iqlft.runs.growing_files import METRICS
from iqlft.training import session
from iqlft.training.finetune import finetune
from iqlft.training.interruption import Interrupted
from iqlft.training.oversight import Oversight
from iqlft.training.progress import Silent, Status
from iqlft_workers.actor import ActorWeights
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.messages import Ack, Welcome
from iqlft_workers.session import WorkerSession
from iqlft_workers.transition import RowLayout
from iqlft_workers.wire import decode, encode

OFFLINE, STEPS = 300, 100
LAYOUT = RowLayout(3, 1)
"""Of the pendulum."""


class Impatient(Silent):
    """Presses Ctrl-C, once, when some steps are made."""

    pressed = False

    def status(self, status: Status) -> None:
        if status.phase == "online" and status.done >= STEPS // 3 and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def stopped(fresh: Path, lockstep: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped in its fine-tuning."""
    config = dataclasses.replace(lockstep, run=(fresh,), env_steps=STEPS, eval_every=STEPS)
    with monkeypatch.context() as patch:
        patch.setattr(session, "STATUS_SECONDS", 0.02)
        with pytest.raises(Interrupted):
            finetune(config, Impatient())
    return fresh


def names(run: Path) -> list[str]:
    return [str(each.name) for each in read_entries(run / JOURNAL)]


def contents(run: Path) -> dict[Path, bytes]:
    """Of all but the logs."""
    return {each: each.read_bytes() for each in run.rglob("*") if each.suffix not in {"", ".log"}}


def test_a_damaged_journal_stops_a_resume_that_says_what_is_lost_and_goes_on_when_it_may(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = stopped / JOURNAL, checkpoint.load(stopped / "checkpoints").state
    before = names(stopped)
    lost = [each for each in read_entries(path) if each.end <= state["journal"]][7]
    with path.open("r+b") as file:
        file.seek(lost.end - 30)
        file.write(b"!")
    damaged, all_else = path.read_bytes(), contents(stopped)

    assert cli.main(["resume", str(stopped)]) == 2
    told = capsys.readouterr().err
    assert "is damaged. 1 place in it cannot be read: batch 8 of worker 0 in its episode 0" in told
    assert "1 step (learned from already" in told
    assert "--accept-loss" in told
    assert path.read_bytes() == damaged
    assert contents(stopped) == all_else

    assert cli.main(["resume", str(stopped), "--accept-loss"]) == 0
    state = checkpoint.load(stopped / "checkpoints").state
    assert (state["env_steps"], state["updates"]) == (STEPS, OFFLINE + STEPS // 2)
    # All that there was is there once but the lost one, and the rest of the run behind it.
    kept = [each for each in before if each != str(lost.name)]
    assert names(stopped)[: len(kept)] == kept
    assert len(names(stopped)) == STEPS - 1
    rows = [json.loads(line) for line in (stopped / METRICS).read_text().splitlines()]
    told = " ".join(each for row in rows for each in row.get("incidents", []))
    assert "The run goes on without what is lost" in told


def test_a_run_that_was_poisoned_names_the_batch_and_goes_on_when_it_is_dropped(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = next(read_entries(stopped / JOURNAL))
    rows = {
        name: np.repeat(array, 900, 0) for name, array in entry.batch.transitions._asdict().items()
    }
    rows["observations"] = np.full_like(rows["observations"], 1e30)
    poison = dataclasses.replace(entry.batch, session="evil", sequence=1, episode=7, **rows)
    journal = Journal(stopped / JOURNAL)
    journal.append(0, encode(poison))
    journal.close()
    for _ in range(2):
        assert cli.main(["resume", str(stopped)]) == 3
        told = capsys.readouterr().err
        assert "1 of the new batches hold values far outside of the dataset's range" in told
        assert f"iqlft clean {stopped} --drop-batches 0:7:1" in told

    before, content = names(stopped), (stopped / JOURNAL).read_bytes()
    for wrong, sentence in (
        (["0:7:2"], "There is no batch 0:7:2"),
        (["0:7:1", "x"], "'x' does not name a batch"),
        (["0:7:1:1"], "does not name a batch"),
    ):
        assert cli.main(["clean", str(stopped), "--drop-batches", *wrong]) == 2
        assert sentence in capsys.readouterr().err
    other = Run.open(stopped)
    other.claim()
    assert cli.main(["clean", str(stopped), "--drop-batches", "0:7:1"]) == 2
    assert "Another process is training" in capsys.readouterr().err
    other.close()
    assert cli.main(["clean", str(stopped), "--drop-batches", "0:7", "--dry-run"]) == 0
    assert "would drop 1 batches of 900 steps: 0:7:1" in capsys.readouterr().out
    assert (stopped / JOURNAL).read_bytes() == content
    assert cli.main(["clean", str(stopped), "--drop-batches", "0:7:1"]) == 0
    assert "dropped 1 batches of 900 steps: 0:7:1" in capsys.readouterr().out
    assert names(stopped) == [each for each in before if each != "0:7:1"]
    assert cli.main(["resume", str(stopped)]) == 0
    assert checkpoint.load(stopped / "checkpoints").state["env_steps"] == STEPS


def test_a_refused_batch_is_told_to_its_peer_and_to_the_user_and_is_in_no_journal(
    serve: Callable[..., tuple[Gateway, WorkerPool]],
    make_weights: Callable[..., ActorWeights],
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    bounds = ValueBounds(Range(-1e3, 1e3), Range(-100, 100))
    gateway, pool = serve(0, journal=Journal(path), bounds=bounds, insecure=True)
    gateway.publish(make_weights(3, 1))
    gateway.allow(100)
    oversight = Oversight(gateway, pool, tmp_path)
    peer, transitions = WorkerSession(None), LAYOUT.transitions(np.zeros((5, 11), np.float32))
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.LINGER, 0)
        dealer.connect(gateway.endpoint)
        sent = 0
        while peer.outcome is None:
            peer.tick(time.monotonic())
            for message in peer.outbox:
                dealer.send_multipart(encode(message))
            peer.outbox.clear()
            while peer.outcome is None and dealer.poll(50):
                message = decode([frame.bytes for frame in dealer.recv_multipart(copy=False)])
                peer.receive(message, time.monotonic())
                if isinstance(message, Welcome):
                    peer.ready(3, 1)
                if isinstance(message, Ack) and sent < 2:
                    sent += 1
                    rewards = transitions.rewards + np.float32(1e30 if sent == 2 else 1)
                    peer.send_batch(0, None, transitions._replace(rewards=rewards), 0.1)
    assert peer.outcome == "rejected"
    assert "The rewards hold 1e+30, far outside of the dataset's range" in peer.sentence
    (incident,) = oversight.incidents(gateway.worker_status())
    assert incident.startswith("Batch 2 of worker 0, of its episode 0, is refused")
    assert list(oversight.incidents(gateway.worker_status())) == []
    assert gateway.counts().refused_batches.total == 1
    assert [each.name.sequence for each in read_entries(path)] == [1]
