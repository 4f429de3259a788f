"""A training run in progress: what pretraining and fine-tuning share around their loops.

The session owns the clock and the rhythm: after every update the loop calls `after_update`, which
logs, evaluates, checkpoints and reports when each is due, and stops politely when asked to.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
import torch

from iqlft.gateway.watchdog import Watchdog
from iqlft.runs import checkpoint
from iqlft.runs.policy import save_policy
from iqlft.training.divergence import impossible_value
from iqlft.training.evaluation import Evaluator, Score
from iqlft.training.metrics import MetricsLog
from iqlft.training.progress import Status
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqlft.algorithms.iql import UpdateResult
    from iqlft.config.settings import MachineConfig
    from iqlft.datasets.loading import OfflineDataset
    from iqlft.gateway.gateway import Gateway
    from iqlft.runs.folder import Run
    from iqlft.training.evaluation import Scoring
    from iqlft.training.interruption import StopSignal
    from iqlft.training.pacing import Pacing
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Member
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.pool import WorkerPool

STATUS_SECONDS = 0.5


class TrainingDivergedError(UserError):
    """A loss is no longer finite."""

    exit_code = 3


class SessionParts(TypedDict):
    """The members of a session that a command builds."""

    member: Member
    dataset: OfflineDataset
    reporter: Reporter
    config: MachineConfig
    phase: str
    task: str
    total: int


@dataclass
class Session:
    """Everything that a training loop works with; see `open_session`."""

    run: Run
    member: Member
    dataset: OfflineDataset
    gateway: Gateway
    pool: WorkerPool
    evaluator: Evaluator
    metrics: MetricsLog
    reporter: Reporter
    config: MachineConfig
    phase: str
    task: str
    total: int
    stop: StopSignal
    pacing: Pacing | None = None
    watchdog: Watchdog = field(default_factory=Watchdog)
    fresh: bool = True
    env_steps: int = 0
    before: Score | None = None
    last: Score | None = None
    _seconds_before: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _next_status: float = 0.0
    _obstacle: str = ""
    _diverged: bool = False

    @property
    def seconds(self) -> float:
        """Training time over all parts of the run."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def done(self) -> int:
        """Updates (offline) or environment steps (online) so far."""
        return self.member.updates if self.phase == "offline" else self.env_steps

    # -- rhythm -----------------------------------------------------------------------------

    def after_update(self, result: UpdateResult) -> None:
        """Logs when due and checkpoints when due.

        Raises:
            TrainingDivergedError: a loss is not finite; the last checkpoint is still good.
        """
        updates = self.member.updates
        if updates % self.config.log_every == 0:
            row = self.metrics.row(self, result)
            losses = ("value_loss", "actor_loss", "critic_loss")
            self._require_finite(all(math.isfinite(row[key]) for key in losses), "A loss is")
            self._report_divergence(impossible_value(row, self.member.possible_returns))
        if updates % self.config.checkpoint_every == 0:
            self.checkpoint()

    def tick(self) -> None:
        """Collects evaluations, watches the workers and reports; cheap, called at every turn."""
        now = time.monotonic()
        if now < self._next_status:
            return
        self._next_status = now + STATUS_SECONDS
        self._collect(self.evaluator.poll())
        workers = self.gateway.worker_status()
        for incident in self.watchdog.check(workers):
            if not self.pool.replace(incident.worker_id, incident.reason):
                self._incident(f"Worker {incident.worker_id} {incident.reason}.")
        for event in self.pool.watch():
            self._incident(event)
        self._report_obstacle(self.gateway.journal_error())
        self.metrics.observe_workers([each.state for each in workers])
        self.reporter.status(self.status())

    def _incident(self, sentence: str) -> None:
        """Tells what has gone wrong, here and in `metrics.jsonl`."""
        self.metrics.observe_incident(sentence)
        self.reporter.event(sentence)

    def _report_divergence(self, sentence: str) -> None:
        """Says once that values are impossible; the numbers go on changing."""
        if sentence and not self._diverged:
            self._incident(sentence)
        self._diverged = bool(sentence)

    def _report_obstacle(self, obstacle: str) -> None:
        """Says once that the journal cannot be written, and once that it can again."""
        if obstacle == self._obstacle:
            return
        self._obstacle = obstacle
        self._incident(
            f"The journal of {self.run.folder} cannot be written ({obstacle}): the workers wait, "
            "nothing is lost, and the run goes on when it can be written again."
            if obstacle
            else f"The journal of {self.run.folder} is written again."
        )

    def evaluate(self, env_steps: int = 0) -> None:
        """Begins an evaluation of the present weights, after the one under way.

        Args:
            env_steps: online environment steps that these weights have learned from.
        """
        self.wait_for_evaluation()
        # Also when a stop is requested: the checkpoint keeps it, and the resumed run finishes it.
        self.evaluator.begin(self.actor_weights(), self.phase, env_steps, self.seconds)

    def actor_weights(self) -> ActorWeights:
        """The present actor.

        Raises:
            TrainingDivergedError: a weight is not finite.
        """
        weights = self.member.actor_weights()
        arrays = (*weights.weights, *weights.biases, weights.log_std)
        self._require_finite(all(np.isfinite(each).all() for each in arrays), "The actor is")
        return weights

    def wait_for_evaluation(self) -> None:
        """Waits until no evaluation is under way, or a stop is requested."""
        while self.evaluator.busy and not self.stop.requested:
            self._collect(self.evaluator.poll(STATUS_SECONDS))
            self.tick()

    def adopt(self, score: Score) -> None:
        """Writes a score that is known without an evaluation."""
        self.run.append_curve(score.row())
        self._collect(score)

    def _collect(self, score: Score | None) -> None:
        if score is None:
            return
        self.last = score
        if score.phase == "offline" or score.env_steps == 0:
            self.before = score
        self.metrics.write_score(score)
        self.reporter.event(describe(score))

    def _require_finite(self, finite: bool, what: str) -> None:
        if not finite:
            raise TrainingDivergedError(
                f"{what} not finite after {self.member.updates:,} updates; the last checkpoint "
                f"in {self.run.folder}, if there is one, is from before: check rewards and "
                "learning rate."
            )

    # -- checkpoints ------------------------------------------------------------------------

    def checkpoint(self, *, keep: bool = False) -> None:
        """Writes everything that a resumed run needs to continue as if it had not stopped.

        Raises:
            TrainingDivergedError: a parameter is not finite; nothing is written.
            CheckpointError: it cannot be written; the last one still loads.
        """
        learned = self.member.state()
        finite = all(bool(torch.isfinite(each).all()) for each in learned.values())
        self._require_finite(finite, "A parameter is")
        evaluation_tensors, evaluation = self.evaluator.state()
        state = {
            "phase": self.phase,
            "updates": self.member.updates,
            "env_steps": self.env_steps,
            "seconds": self.seconds,
            "evaluation": evaluation,
            "journal": self.gateway.journal_position(),
            "sizes": self.run.sizes(),
            "before": self.before,
            "last": self.last,
        }
        content = checkpoint.Checkpoint(learned | evaluation_tensors, state)
        checkpoint.save(self.run.folder / "checkpoints", self.member.updates, content, keep=keep)
        self._save_policy()

    def finish(self) -> None:
        """Waits for the evaluation under way and checkpoints, for good unless a stop is requested.

        Raises:
            TrainingDivergedError: a parameter is not finite.
            CheckpointError: it cannot be written.
        """
        self.wait_for_evaluation()
        self.checkpoint(keep=not self.stop.requested)

    def _save_policy(self) -> None:
        about = {"task": self.task, "dataset": self.dataset.id, "phase": self.phase}
        weights, environment = self.member.actor_weights(), self.dataset.environment
        save_policy(self.run.folder / "policy", weights, environment, about)

    # -- reporting --------------------------------------------------------------------------

    def status(self) -> Status:
        """This moment, for the console."""
        evaluating = (self.evaluator.episodes_done, self.config.eval_episodes)
        return Status(
            task=self.task,
            device=str(self.member.device),
            folder=self.run.folder,
            phase=self.phase,
            done=self.done,
            total=self.total,
            updates_per_second=self.metrics.update_rate.per_second(self.member.updates),
            env_steps_per_second=self.metrics.env_step_rate.per_second(self.env_steps),
            dataset_size=self.dataset.num_transitions,
            new_size=self.member.new_size,
            workers={each.worker_id: each.state for each in self.gateway.worker_status()},
            policy_lag=self.metrics.policy_lag if self.phase == "online" else None,
            evaluation=evaluating if self.evaluator.busy else None,
            before=self.before,
            last=self.last,
        )


def describe(score: Score) -> str:
    """A score as a sentence."""
    where = f"{score.updates:,} updates"
    if score.phase == "online":
        where += f", {score.env_steps:,} environment steps"
    figure = f"return {score.mean_return:.1f}"
    if score.success is not None:
        figure = f"success {score.success:.0%}"
    return f"Evaluated after {where}: {figure} in {score.episodes} episodes."


def restore(session: Session, saved: checkpoint.Checkpoint) -> None:
    """Brings a session's member and counters to a checkpoint.

    Raises:
        CheckpointError: the checkpoint does not fit the run's configuration.
    """
    tensors, state = saved
    with checkpoint.fitting(session.run.folder):
        session.member.load_state(tensors)
    session.fresh = state["phase"] != session.phase
    session.env_steps = state["env_steps"]
    session._seconds_before = state["seconds"]
    session.before = Score(*state["before"]) if state["before"] else None
    session.last = Score(*state["last"]) if state["last"] else None
    session.evaluator.restore(tensors, state["evaluation"])


@contextmanager
def open_session(
    gateway: Gateway,
    pool: WorkerPool,
    run: Run,
    scoring: Scoring,
    stop: StopSignal,
    **parts: Unpack[SessionParts],
) -> Iterator[Session]:
    """Starts gateway and workers, and at the end stops them and writes how the run ended.

    Args:
        gateway: bound, not started; closed at the end.
        pool: local workers, not started; stopped at the end.
        run: the run folder.
        scoring: how episodes become a score.
        stop: says when to leave.
        parts: the other members of the `Session`.
    """
    config = parts["config"]
    log = logging.FileHandler(run.folder / "logs" / "learner.log", encoding="utf-8")
    own = {threading.main_thread().name, threading.current_thread().name, gateway.thread_name}
    log.addFilter(lambda record: record.threadName in own)
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("iqlft").addHandler(log)
    metrics = MetricsLog(run, tensorboard=config.tensorboard)
    evaluator = Evaluator(gateway, run, config.eval_episodes, scoring)
    session = Session(
        run=run,
        gateway=gateway,
        pool=pool,
        evaluator=evaluator,
        metrics=metrics,
        stop=stop,
        **parts,
    )
    status = "failed"
    run.write_meta({"status": "running", "phase": session.phase})
    try:
        gateway.start()
        pool.start()
        yield session
        status = "interrupted" if stop.requested else "finished"
    finally:
        # Workers leave when the gateway tells them to; the pool stops what is left after that.
        gateway.close(over=status == "finished")
        pool.stop(timeout_seconds=5.0)
        metrics.close()
        run.close()
        logging.getLogger("iqlft").removeHandler(log)
        log.close()
        # A full disk must not hide the error that it has caused before.
        with suppress(OSError):
            run.write_meta({"status": status, "seconds": round(session.seconds, 1)})
