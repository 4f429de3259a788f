"""`iqlft finetune`: a pretrained run goes on learning while workers step its environment."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from iqlft import checkpoint
from iqlft.config import FinetuneConfig, check, override, to_dict
from iqlft.dry_run import dry_run_finetuning
from iqlft.gateway import Gateway
from iqlft.learning import build_replay, load_task_dataset
from iqlft.pacing import Pacing
from iqlft.pretrain import (
    build,
    pretrain_config,
    require_same_dataset,
    save_run_policy,
    scoring_of,
)
from iqlft.reporting import Silent
from iqlft.runs import Run, RunError, newest
from iqlft.session import SessionParts, open_session, restore, worker_progress

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
    folders = []
    for folder in config.run or (newest(config.runs),):
        run, saved = _choose(Run.open(folder), config)
        _train(run, config, saved, reporter or Silent())
        folders.append(run.folder)
    return folders


def dry_run(config: FinetuneConfig) -> list[tuple[str, str]]:
    """What `finetune` would do with its first run, as names and texts."""
    check(config)
    run = Run.open((config.run or (newest(config.runs),))[0])
    end_of_pretraining(run)
    pretrained = pretrain_config(run)
    return dry_run_finetuning(config, pretrained, _build(config, pretrained, Silent()))


def resume_finetuning(run: Run, reporter: Reporter | None = None) -> Path:
    """Continues a run's fine-tuning from its last checkpoint.

    Returns:
        The run folder.
    """
    source = f"{run.folder}/config.yaml"
    config = override(FinetuneConfig(), run.config("finetune") or {}, source)
    _train(run, config, checkpoint.load(run.folder / "checkpoints"), reporter or Silent())
    return run.folder


def _choose(run: Run, config: FinetuneConfig) -> tuple[Run, Checkpoint]:
    """The run to train, a copy where one is asked for, and the end of its pretraining.

    Raises:
        RunError: pretraining is not finished, or fine-tuning has begun already.
    """
    pretrained = end_of_pretraining(run)
    if config.into:
        run = run.copy(run.folder.parent / config.into)
        run.write_meta({"copied_from": run.folder.name})
    elif run.config("finetune") is not None:
        raise RunError(
            f"{run.folder} has been fine-tuned already, at least in part: continue it with "
            f"`iqlft resume {run.folder}`, or fine-tune a copy from the end of its pretraining "
            "with --into NAME."
        )
    checkpoints = run.folder / "checkpoints"
    saved = checkpoint.load(checkpoints, pretrained)
    checkpoint.make_last(checkpoints, pretrained)
    run.write_config("finetune", to_dict(dataclasses.replace(config, run=(), into="")))
    return run, saved


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


def _train(run: Run, config: FinetuneConfig, saved: Checkpoint, reporter: Reporter) -> None:
    pretrained = pretrain_config(run)
    parts = _build(config, pretrained, reporter)
    require_same_dataset(run, parts["dataset"])
    resuming = saved.state["phase"] == "online"
    gateway = Gateway(
        environment=parts["dataset"].environment,
        layout=parts["dataset"].layout,
        run_id=run.folder.name,
        seed=pretrained.seed,
        port=config.port,
        num_workers=config.workers,
        lockstep=config.lockstep,
        progress=worker_progress(saved) if resuming else None,
    )
    run.truncate(saved.state["sizes"])
    scoring = scoring_of(pretrained, parts["dataset"])
    with open_session(gateway, config.workers, run, scoring, **parts) as session:
        restore(session, saved)
        pacing = _pacing(config, session, pretrained.num_updates)
        if resuming:
            session.replay.add_rows(run.read_rows(session.replay.layout.width))
        else:
            _first_evaluation(session)
        _loop(session, config, pacing, pretrained.batch_size)
        session.wait_for_evaluation()
        session.checkpoint(keep=not session.stop.requested)
        save_run_policy(session, run.folder / "policy")


def _build(config: FinetuneConfig, pretrained: PretrainConfig, reporter: Reporter) -> SessionParts:
    """As for pretraining, with the machine of this command and room for new transitions."""
    machine = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name in ("device", "precision", "threads")
    }
    dataset = load_task_dataset(pretrained)
    parts = build(dataclasses.replace(pretrained, **machine), dataset, reporter)
    replay = build_replay(
        dataset,
        [pretrained.seed],
        capacity=config.env_steps,
        offline_ratio=config.offline_ratio,
        device=parts["algorithm"].observation_mean.device,
    )
    changes = {"replay": replay, "config": config, "phase": "online", "total": config.env_steps}
    return SessionParts(**{**parts, **changes})  # type: ignore[typeddict-item]


def _pacing(config: FinetuneConfig, session: Session, offline_updates: int) -> Pacing:
    slack = 0 if config.lockstep else config.slack or max(512, 128 * config.workers)
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
    gateway.publish(algorithm.actor_weights())
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
                gateway.publish(algorithm.actor_weights())
            gateway.allow(pacing.allowance())
        session.tick()


def receive(session: Session, pacing: Pacing) -> None:
    """Moves what workers have sent into the replay; waits for it when no update is possible."""
    waiting = not pacing.may_update()
    began = time.monotonic()
    for transitions in session.gateway.receive(WAIT_SECONDS if waiting else 0.0):
        session.metrics.observe_transitions(transitions, session.algorithm.updates)
        session.run.append_rows(session.replay.add(transitions))
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
