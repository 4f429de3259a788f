"""A training run in progress: what pretraining and fine-tuning share around their loops.

The session owns the rhythm: after every update the loop calls `after_update`, which logs and
checkpoints when due, and on every iteration `tick`, which collects evaluations and reports.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch

from iqlft.config.settings import FinetuneConfig
from iqlft.gateway.attendance import Attendance
from iqlft.gateway.sockets import reachable
from iqlft.runs import checkpoint
from iqlft.runs.best import keep_if_best, settle_best
from iqlft.runs.policy import save_policy
from iqlft.runs.recorded import plain
from iqlft.runs.scores import Score
from iqlft.training.divergence import divergence
from iqlft.training.evaluation import Evaluator, Scoring
from iqlft.training.metrics import MetricsLog
from iqlft.training.oversight import Oversight
from iqlft.training.phases import Phase
from iqlft.training.progress import Status
from iqlft.training.suspects import suspects
from iqlft_workers.errors import UserError
from iqlft_workers.launchers.local import WorkerPool

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.gateway.gateway import Gateway
    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.training.interruption import StopSignal
    from iqlft.training.plan import RunPlan
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Member
    from iqlft_workers.actor import ActorWeights

_log = logging.getLogger(__name__)
STATUS_SECONDS = 0.5
"""Interval at which `tick` checks workers and evaluations and reports the status."""
PhaseType = TypeVar("PhaseType", bound=Phase)


class TrainingDivergedError(UserError):
    """A loss is no longer finite."""

    exit_code = 3


class Session(Generic[PhaseType]):
    """One run while it learns; see `opening.open_session`.

    Args:
        plan: what the run is to do.
        gateway: its sockets, bound and not started.
        phase: what it counts.
        member: its part of the learner.
        dataset: what it was pretrained on.
        reporter: receives status and events.
        stop: whether a stop was requested.

    Attributes:
        plan: see above.
        gateway: see above.
        phase: see above.
        member: see above.
        dataset: see above.
        reporter: see above.
        stop: see above.
        evaluator: runs its evaluations.
        metrics: writes its metrics.
        pool: its local workers.
        before: the newest score of the pretrained policy (the one at the switch), or None.
        last: the newest score, or None.
    """

    def __init__(
        self,
        plan: RunPlan[Any],
        gateway: Gateway,
        phase: PhaseType,
        member: Member,
        dataset: OfflineDataset,
        reporter: Reporter,
        stop: StopSignal,
    ) -> None:
        run, config, task = plan.run, plan.config, plan.learned
        self.plan, self.gateway, self.member = plan, gateway, member
        self.phase = phase
        self.dataset, self.reporter, self.stop = dataset, reporter, stop
        scoring = Scoring(task.score == "success", dataset.reference_scores)
        self.evaluator = Evaluator(gateway, run, config.eval_episodes, scoring)
        self.metrics = MetricsLog(
            run,
            ["tensorboard"] * config.tensorboard + [*config.loggers],
            lambda sentence: self.tell(sentence, logging.WARNING),
        )
        # Workers of pretraining do nothing but evaluate.
        idle = phase.name == "offline" and not config.eval_episodes
        self.pool = _pool(0 if idle else config.workers, gateway, run.folder / "logs", config)
        self.before: Score | None = None
        self.last: Score | None = None
        self._losses: dict[str, float] = {}
        self._oversight = Oversight(gateway, self.pool, run.folder, config.patience)
        self._attendance = Attendance(config.workers)
        self._seconds_before, self._started, self._next_tick = 0.0, time.monotonic(), 0.0
        self._diverged = 0
        # Read and verified once: if the file is edited while training, the next resume notices.
        self._configuration = plain(run.configuration())

    @property
    def seconds(self) -> float:
        """Training time over all parts of the run."""
        return self._seconds_before + time.monotonic() - self._started

    # -- rhythm -----------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the measurement of speeds."""
        self.metrics.start(self.member.updates, self.phase.env_steps)

    def after_update(self) -> None:
        """Logs when due and checkpoints when due.

        Raises:
            TrainingDivergedError: a loss is not finite; the last checkpoint is still good.
        """
        updates, config = self.member.updates, self.plan.config
        # After the last update too, so that even a short run has a row and every run ends in one.
        if updates % config.log_every == 0 or self.phase.updated:
            self._log()
        stays = bool(config.keep_every) and updates % config.keep_every == 0
        if stays or updates % config.checkpoint_every == 0:
            self.checkpoint(keep=stays)

    def _log(self) -> None:
        figures = self.member.figures() | self.member.estimates(new=False)
        if self.member.new_size:
            figures |= self.member.estimates(new=True)
        self._losses = {key: each for key, each in figures.items() if key.endswith("loss")}
        online = self.phase.name == "online"
        self.metrics.write(
            {
                "phase": self.phase.name,
                "updates": self.member.updates,
                "env_steps": self.phase.learned_steps,
                "seconds": round(self.seconds, 2),
                **figures,
            },
            self.phase.env_steps,
            self.gateway.counts() if online else None,
        )
        self._require_finite(all(map(math.isfinite, self._losses.values())), "A loss is")
        self._tell_divergence(figures)

    def _tell_divergence(self, figures: dict[str, float]) -> None:
        """Reports once when some values are impossible, and once more when their mean is."""
        if (returns := self.member.possible_returns) is None:
            return
        level, sentence = divergence(figures, returns)
        if level > self._diverged:
            self.incident(sentence)
        self._diverged = max(self._diverged, level)

    def tick(self) -> None:
        """Collects evaluations, watches the workers and reports; cheap enough for every turn."""
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + STATUS_SECONDS
        self._collect(self.evaluator.poll())
        workers = self.gateway.worker_status()
        for sentence in self._oversight.incidents(workers):
            self.incident(sentence)
        for sentence in self._attendance.changes(workers, now):
            self.tell(sentence)
        self.metrics.observe_workers([each.state for each in workers])
        self.reporter.status(self.status())

    def tell(self, sentence: str, level: int = logging.INFO) -> None:
        """Reports a sentence worth a line of its own, to the reporter and in `learner.log`."""
        _log.log(level, "%s", sentence)
        self.reporter.event(sentence)

    def incident(self, sentence: str) -> None:
        """Reports what has gone wrong, as `tell` does, and also in `metrics.jsonl`."""
        self.metrics.observe_incident(sentence)
        self.tell(sentence, logging.WARNING)

    def _require_finite(self, finite: bool, what: str) -> None:
        if not finite:
            raise TrainingDivergedError(
                f"{what} not finite after {self.member.updates:,} updates; the last checkpoint "
                f"in {self.plan.run.folder}, if there is one, is from before: check rewards and "
                f"learning rate.{suspects(self.plan, self.dataset)}"
            )

    # -- evaluations ------------------------------------------------------------------------

    def evaluate(self, env_steps: int = 0) -> None:
        """Begins an evaluation of the present weights, after waiting for the one in progress.

        Args:
            env_steps: online environment steps that these weights have learned from.
        """
        if not self.plan.config.eval_episodes:
            return
        self.wait_for_evaluation()
        # Even if a stop is requested: the checkpoint keeps it, and the resumed run finishes it.
        self.evaluator.begin(self.actor_weights(), self.phase.name, env_steps, self.seconds)

    def actor_weights(self) -> ActorWeights:
        """The present actor.

        Raises:
            TrainingDivergedError: a weight is not finite.
        """
        weights = self.member.actor_weights()
        finite = all(np.isfinite(each).all() for each in weights.arrays.values())
        self._require_finite(finite, "The actor is")
        return weights

    def wait_for_evaluation(self) -> None:
        """Waits until no evaluation is in progress, or a stop is requested."""
        while self.evaluator.busy and not self.stop.requested:
            self._collect(self.evaluator.poll(STATUS_SECONDS))
            self.tick()

    def adopt(self, score: Score) -> None:
        """Records a score of the present policy that is known without a new evaluation."""
        self.plan.run.files.append_score(score)
        self.evaluator.scored_weights = self.actor_weights()
        self._collect(score)

    def _collect(self, score: Score | None) -> None:
        if score is None:
            return
        self.last = score
        if self.phase.keeps_policy and score.env_steps == 0:
            self.before = score
        self.metrics.write_score(score)
        if not math.isfinite(score.mean_return):
            self.incident(
                f"In the evaluation after {score.updates:,} updates an episode ended at a value "
                "that is not finite, so that it has no return; the workers' logs say which."
            )
        self.tell(describe(score))
        if self.plan.config.keep_best and (weights := self.evaluator.scored_weights) is not None:
            environment = self.dataset.environment
            keep_if_best(self.plan.run.folder, self._about(), score, weights, environment)
        self.reporter.status(self.status())  # The console's panel must not lag behind the event.

    # -- checkpoints ------------------------------------------------------------------------

    def checkpoint(self, *, keep: bool = False) -> None:
        """Writes everything that a resumed run needs to continue as if it had not stopped.

        Raises:
            TrainingDivergedError: a parameter is not finite; nothing is written.
            CheckpointError: the checkpoint cannot be written; the last one still loads.
        """
        run, learned = self.plan.run, self.member.state()
        finite = all(bool(torch.isfinite(each).all()) for each in learned.values())
        self._require_finite(finite, "A parameter is")
        evaluation_tensors, evaluation = self.evaluator.state()
        state = {
            "phase": self.phase.name,
            "updates": self.member.updates,
            "env_steps": self.phase.env_steps,
            "seconds": self.seconds,
            "evaluation": evaluation,
            "journal": self.gateway.journal_position(),
            "sizes": run.files.sizes(),
            "digests": run.files.digests(),
            "config": self._configuration,
            "metrics": self.metrics.state(),
            "diverged": self._diverged,
            "before": self.before,
            "last": self.last,
        }
        content = checkpoint.Checkpoint(learned | evaluation_tensors, state)
        checkpoint.save(
            run.folder / "checkpoints",
            self.member.updates,
            content,
            keep=keep,
            kept=self.plan.config.keep_checkpoints,
        )
        settle_best(run.folder)
        weights, environment = self.member.actor_weights(), self.dataset.environment
        save_policy(run.folder / "policy", weights, environment, self._about())
        run.record()

    def _about(self) -> dict[str, str]:
        """What the folder of one of its policies says besides the policy."""
        return {
            "task": self.plan.learned.task,
            "algorithm": self.plan.learned.algorithm,
            "dataset": self.dataset.id,
            "phase": self.phase.name,
        }

    def restore(self, saved: Checkpoint) -> None:
        """Restores member, scores, evaluations, metrics and clock from a checkpoint.

        Raises:
            CheckpointError: the checkpoint does not fit the run's configuration.
        """
        tensors, state = saved
        with checkpoint.fitting(self.plan.run.folder):
            self.member.load_state(tensors)
        self._seconds_before = state["seconds"]
        self.before = Score(*state["before"]) if state["before"] else None
        self.last = Score(*state["last"]) if state["last"] else None
        self.evaluator.restore(tensors, state["evaluation"])
        if "metrics" in state:  # Version 0.1 did not save them.
            self.metrics.restore(state["metrics"])
            # New critics may have come with the switch, and whoever fine-tunes is told anew.
            self._diverged = 0 if self.phase.fresh else state["diverged"]

    def finish(self) -> None:
        """Waits for the evaluation in progress, then writes the last checkpoint.

        It is kept for good, unless a stop is requested.

        Raises:
            TrainingDivergedError: a parameter is not finite.
            CheckpointError: the checkpoint cannot be written.
        """
        self.wait_for_evaluation()
        self.checkpoint(keep=not self.stop.requested)
        self.reporter.status(self.status())

    # -- reporting --------------------------------------------------------------------------

    def status(self) -> Status:
        """The present status, for the console."""
        online = self.phase.name == "online"
        evaluating = (self.evaluator.episodes_done, self.evaluator.episodes)
        workers = self.gateway.worker_status()
        return Status(
            task=self.plan.learned.task,
            device=str(self.member.device),
            folder=self.plan.run.folder,
            phase=self.phase.name,
            done=self.phase.done,
            total=self.phase.total,
            updates_per_second=self.metrics.update_rate.per_second(self.member.updates),
            env_steps_per_second=self.metrics.env_step_rate.per_second(self.phase.env_steps),
            dataset_size=self.dataset.num_transitions,
            new_size=self.member.new_size,
            workers={each.worker_id: each.state for each in workers},
            policy_lag=self.metrics.policy_lag if online else None,
            evaluation=evaluating if self.evaluator.busy else None,
            before=self.before,
            last=self.last,
            losses=self._losses,
            training_success=self.metrics.training_success if online else None,
        )


def describe(score: Score) -> str:
    """A score as a sentence."""
    where = f"{score.updates:,} updates"
    if score.phase == "online":
        where += f", {score.env_steps:,} environment steps"
    finite = math.isfinite(score.mean_return)
    figure = f"return {score.mean_return:.1f}" if finite else "no finite return"
    if score.success is not None:
        figure = f"success {score.success:.0%}"
    return f"Evaluated after {where}: {figure} in {score.episodes} episodes."


def _pool(num_workers: int, gateway: Gateway, logs: Path, config: object) -> WorkerPool:
    """The workers of a run; in pretraining, which only evaluates, they run on this machine."""
    if not isinstance(config, FinetuneConfig):
        return WorkerPool(num_workers, gateway.endpoint, logs, gateway.own_keys)
    here = config.engine == "local"
    endpoint = gateway.endpoint if here else reachable(gateway.endpoint, config.host)
    keys = config.keys or gateway.own_keys
    return WorkerPool(num_workers, endpoint, logs, keys, config.engine)
