"""`iqlft finetune`: a pretrained run goes on learning while workers step its environment."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from iqlft import checkpoint
from iqlft.config import FinetuneConfig, override, to_dict
from iqlft.dry_run import dry_run_finetuning
from iqlft.files import write_atomically
from iqlft.gateway import Gateway
from iqlft.journal import Journal
from iqlft.learning import flushed_denormals, load_task_dataset
from iqlft.pacing import Pacing
from iqlft.pretrain import (
    build,
    pretrain_config,
    require_same_dataset,
    scoring_of,
)
from iqlft.reporting import Silent
from iqlft.runs import ENDPOINT, JOURNAL, Run, RunError, newest_pretrained, refuse_existing
from iqlft.session import SessionParts, open_session, restore
from iqlft.sockets import reachable, require_safe_host
from iqlft.validation import check
from workers.keys import LearnerKeys
from workers.pool import WorkerPool

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.checkpoint import Checkpoint
    from iqlft.config import PretrainConfig
    from iqlft.reporting import Reporter
    from iqlft.session import Session

WAIT_SECONDS = 0.1
"""The longest wait for transitions before the session may tick."""


def finetune(config: FinetuneConfig, reporter: Reporter | None = None) -> list[Path]:
    """Fine-tunes pretrained runs, one after the other.

    Args:
        config: what to do; without runs the newest under `config.runs` is taken.
        reporter: told what happens meanwhile.

    Returns:
        The run folders.

    Raises:
        UserError: a setting, a run, its dataset or the port is not as needed.
        Interrupted: stopped by a signal; the run can be resumed.
    """
    check(config)
    runs = [Run.open(folder) for folder in _chosen(config)]
    # All mistakes show before the first run's hours.
    starts = [_start(run, config) for run in runs]
    targets = {run.folder.with_name(config.into) if config.into else run.folder for run in runs}
    if len(targets) < len(runs):
        raise RunError(
            "Two of the runs are the same, or would be copied to the same folder; fine-tune them "
            "one at a time, with different --into."
        )
    folders = []
    for run, start in zip(runs, starts, strict=True):
        saved = checkpoint.load(run.folder / "checkpoints", start)
        folders.append(_train(run, config, saved, reporter or Silent(), start))
    return folders


def _chosen(config: FinetuneConfig) -> tuple[Path, ...]:
    """The named runs, or the newest pretrained one that is not fine-tuned yet."""
    return config.run or (newest_pretrained(config.runs, config.task),)


def dry_run(config: FinetuneConfig) -> list[tuple[str, str]]:
    """What `finetune` would do with its first run, as names and texts."""
    check(config)
    run = Run.open(_chosen(config)[0])
    end_of_pretraining(run)
    pretrained = pretrain_config(run)
    return dry_run_finetuning(config, pretrained, _build(config, pretrained, Silent()))


def resume_finetuning(
    run: Run,
    reporter: Reporter | None = None,
    **changes: Any,  # noqa: ANN401
) -> Path:
    """Continues a run's fine-tuning from its last checkpoint, with some settings changed.

    Returns:
        The run folder.
    """
    source = f"{run.folder}/config.yaml"
    config = override(FinetuneConfig(), run.config("finetune") or {}, source)
    config = override(config, changes, "resume")
    check(config)
    return _train(run, config, checkpoint.load(run.folder / "checkpoints"), reporter or Silent())


def _start(run: Run, config: FinetuneConfig) -> str:
    """Name of the checkpoint from which a run is to be fine-tuned.

    Raises:
        RunError: pretraining is not finished, fine-tuning has begun already, or the copy exists.
    """
    start = end_of_pretraining(run)
    if config.into:
        refuse_existing(run.folder.with_name(config.into), "--into")
    elif run.config("finetune") is not None:
        raise RunError(
            f"{run.folder} has been fine-tuned already, at least in part: continue it with "
            f"`iqlft resume {run.folder}`, or fine-tune a copy from the end of its pretraining "
            "with --into NAME."
        )
    return start


def _begin(run: Run, config: FinetuneConfig, start: str) -> Run:
    """Makes the run, or a copy where one is asked for, one that is being fine-tuned.

    It happens when all else is ready, so that a run stays as it is when something is missing.
    """
    if config.into:
        run = run.copy(run.folder.with_name(config.into), start)
    else:
        run.claim()
        _start(run, config)  # Another process may have begun since this was asked first.
    checkpoint.make_last(run.folder / "checkpoints", start)
    # The status first: without it nothing would continue a run that is killed in between.
    run.write_meta({"status": "running"})
    run.write_config("finetune", to_dict(dataclasses.replace(config, run=(), into="")))
    return run


def end_of_pretraining(run: Run) -> str:
    """Name of the checkpoint at which a run's pretraining ended.

    Raises:
        RunError: pretraining is not finished.
    """
    total = pretrain_config(run).num_updates
    folder = run.folder / "checkpoints"
    found = [name for name in checkpoint.names(folder) if int(name.split("-")[0]) == total]
    for name in reversed(found):
        if checkpoint.read_state(folder, name)["phase"] == "offline":
            return name
    raise RunError(
        f"The pretraining of {run.folder} has not reached its {total:,} updates; finish it with "
        f"`iqlft resume {run.folder}`."
    )


@flushed_denormals()
def _train(
    run: Run,
    config: FinetuneConfig,
    saved: Checkpoint,
    reporter: Reporter,
    start: str | None = None,
) -> Path:
    """Fine-tunes from a checkpoint, for the first time when its name `start` is given."""
    pretrained = pretrain_config(run)
    parts = _build(config, pretrained, reporter)
    require_same_dataset(run, parts["dataset"])
    scoring = scoring_of(pretrained, parts["dataset"])
    with closing(_open_gateway(config, run, pretrained, parts)) as gateway:
        run = run if start is None else _begin(run, config, start)
        run.truncate(saved.state["sizes"])
        journal = Journal(run.folder / JOURNAL, saved.state["journal"])
        gateway.take_up(journal)
        write_atomically(run.folder / ENDPOINT, reachable(gateway.endpoint, config.host) + "\n")
        pool = WorkerPool(config.workers, gateway.endpoint, run.folder / "logs", config.keys)
        with open_session(gateway, pool, run, scoring, **parts) as session:
            restore(session, saved)
            if config.remote_workers:
                session.reporter.event(_invitation(run, config, gateway))
            pacing = _pacing(config, session, pretrained.num_updates)
            for rows in journal.rows(session.replay.layout):
                session.replay.add_rows(rows)
            if saved.state["phase"] == "offline":
                _first_evaluation(session)
            _loop(session, config, pacing, pretrained.batch_size)
            session.wait_for_evaluation()
            session.checkpoint(keep=not session.stop.requested)
    return run.folder


def _invitation(run: Run, config: FinetuneConfig, gateway: Gateway) -> str:
    """How further workers join."""
    keys = " --keys DIR" if config.keys else ""
    endpoint = reachable(gateway.endpoint, config.host)
    return (
        f"Further workers: iqlft worker --connect {endpoint}{keys} (or --connect "
        f"{run.folder / ENDPOINT}, where they can read it)."
    )


def _open_gateway(
    config: FinetuneConfig, run: Run, pretrained: PretrainConfig, parts: SessionParts
) -> Gateway:
    """The learner's sockets, bound."""
    keys = LearnerKeys.load(config.keys) if config.keys else None
    require_safe_host(config.host, keys, insecure=config.insecure)
    return Gateway(
        environment=parts["dataset"].environment,
        layout=parts["dataset"].layout,
        run_id=config.into or run.folder.name,
        seed=pretrained.seed,
        host=config.host,
        port=config.port,
        keys=keys,
        num_workers=config.workers + config.remote_workers,
        lockstep=config.lockstep,
        last_version=pretrained.num_updates + int(config.utd_ratio * config.env_steps),
    )


def _build(config: FinetuneConfig, pretrained: PretrainConfig, reporter: Reporter) -> SessionParts:
    """As for pretraining, with the machine of this command and room for new transitions."""
    learner = dataclasses.replace(
        pretrained,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        actor_schedule="constant",  # A cosine has reached 0 where fine-tuning begins.
    )
    parts = build(
        learner,
        load_task_dataset(pretrained),
        reporter,
        capacity=config.env_steps,
        offline_ratio=config.offline_ratio,
    )
    changes = {"config": config, "phase": "online", "total": config.env_steps}
    return SessionParts(**{**parts, **changes})  # type: ignore[typeddict-item]


def _pacing(config: FinetuneConfig, session: Session, offline_updates: int) -> Pacing:
    slack = (
        0
        if config.lockstep
        else config.slack or max(512, 128 * (config.workers + config.remote_workers))
    )
    updates = session.algorithm.updates - offline_updates
    return Pacing(config.utd_ratio, slack, config.env_steps, session.env_steps, updates)


def _first_evaluation(session: Session) -> None:
    """Evaluates before the first online update, unless these very episodes were just run.

    A result depends on weights and seeds alone, so the last offline evaluation, if it had as many
    episodes and these weights, is this one.
    """
    last = session.last
    if last is None or (last.updates, last.episodes) != (
        session.algorithm.updates,
        session.config.eval_episodes,
    ):
        session.evaluate()
        session.wait_for_evaluation()
    else:
        session.adopt(last._replace(phase="online", seconds=session.seconds))


def _loop(session: Session, config: FinetuneConfig, pacing: Pacing, batch_size: int) -> None:
    """Receives, updates and publishes until every step and update of the run is made."""
    algorithm, replay, gateway = session.algorithm, session.replay, session.gateway
    session.metrics.start(algorithm.updates, session.env_steps)
    gateway.publish(session.actor_weights())
    gateway.allow(pacing.allowance())
    while not pacing.finished() and not session.stop.requested:
        receive(session, pacing)
        if pacing.may_update():
            result = algorithm.update(replay.sample(batch_size))
            pacing.updates += 1
            passed = pacing.passed(config.eval_every)
            if passed is not None or pacing.updates == pacing.total_updates:
                session.evaluate(passed or config.env_steps)
            # In lockstep nothing is under way here: the next step is allowed below.
            session.after_update(result)
            if config.lockstep or algorithm.updates % config.publish_every == 0:
                gateway.publish(session.actor_weights())
            gateway.allow(pacing.allowance())
        session.tick()


def receive(session: Session, pacing: Pacing) -> None:
    """Moves what workers have sent into the replay; waits for it when no update is possible."""
    waiting = not pacing.may_update()
    began = time.monotonic()
    for transitions in session.gateway.receive(WAIT_SECONDS if waiting else 0.0):
        session.metrics.observe_transitions(transitions, session.algorithm.updates)
        session.replay.add(transitions)
        pacing.env_steps += transitions.num_transitions
    session.env_steps = pacing.env_steps
    if waiting:
        session.metrics.waited(time.monotonic() - began)
    if episodes := session.gateway.training_episodes():
        session.metrics.observe_episodes([each.success for each in episodes])
        session.run.append_episodes(
            [
                (e.env_steps, e.worker_id, e.version, e.episode_return, e.length, int(e.success))
                for e in episodes
            ]
        )
