"""`iqlft finetune`: a pretrained run goes on learning while workers step its environment."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from iqlft.analysis.restored import end_of_pretraining
from iqlft.config.settings import FinetuneConfig, override, to_dict, with_settings
from iqlft.config.validation import check
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft.gateway.sockets import reachable, require_safe_host
from iqlft.runs import checkpoint
from iqlft.runs.files import write_atomically
from iqlft.runs.folder import (
    ENDPOINT,
    JOURNAL,
    Run,
    RunError,
    newest_pretrained,
    refuse_existing,
    surroundings,
)
from iqlft.training.build import flushed_denormals, load_task_dataset, with_settled_precision
from iqlft.training.dry_run import dry_run_finetuning
from iqlft.training.online import first_evaluation, train_online
from iqlft.training.pacing import Pacing
from iqlft.training.pretrain import build, learner_machine, require_same_dataset, scoring_of
from iqlft.training.progress import Silent
from iqlft.training.seeds import (
    alike,
    apportion,
    learned,
    load_together,
    pretrain_config,
    require_alike,
    rewind,
    shared,
    shares,
)
from iqlft.training.session import Session, restore
from iqlft.training.sessions import Sessions
from iqlft_workers.keys import LearnerKeys
from iqlft_workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iqlft.config.settings import PretrainConfig
    from iqlft.datasets.loading import OfflineDataset
    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Stack


def finetune(config: FinetuneConfig, reporter: Reporter | None = None) -> list[Path]:
    """Fine-tunes pretrained runs: those that differ in their seeds alone in one stack.

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
    config = with_settled_precision(config)
    runs = [Run.open(folder) for folder in _chosen(config)]
    # All mistakes show before the first run's hours.
    starts = [_start(run, config) for run in runs]
    if len({_target(run, config) for run in runs}) < len(runs):
        raise RunError(
            "Two of the runs are the same, or have the same seed and would be copied to the same "
            "folder; fine-tune them one at a time, with different --into."
        )
    folders = []
    for group in alike(runs):
        chosen = [starts[runs.index(run)] for run in group]
        saved = [
            checkpoint.load(run.folder / "checkpoints", start)
            for run, start in zip(group, chosen, strict=True)
        ]
        configs = shares(config, len(group))
        folders += _train(group, configs, saved, reporter or Silent(), chosen)
    return folders


def _chosen(config: FinetuneConfig) -> tuple[Path, ...]:
    """The named runs, or the newest pretrained one that is not fine-tuned yet."""
    return config.run or (newest_pretrained(config.runs, config.task, config.algorithm),)


def _target(run: Run, config: FinetuneConfig) -> Path:
    """The folder in which a run is fine-tuned: its own, or its copy's."""
    several = f"-s{run.meta['seed']}" if len(config.run) > 1 else ""
    return run.folder.with_name(config.into + several) if config.into else run.folder


def dry_run(config: FinetuneConfig) -> list[tuple[str, str]]:
    """What `finetune` would do with the first runs that learn together, as names and texts."""
    check(config)
    group = alike([Run.open(folder) for folder in _chosen(config)])[0]
    for run in group:
        end_of_pretraining(run)
    pretrained = [pretrain_config(run) for run in group]
    dataset = load_task_dataset(pretrained[0])
    stack = _build(config, pretrained[0], dataset, [each.seed for each in pretrained])
    return dry_run_finetuning(config, pretrained[0], stack, dataset)


def resume_finetuning(
    runs: Sequence[Run],
    reporter: Reporter | None = None,
    **changes: Any,  # noqa: ANN401
) -> None:
    """Continues the fine-tuning of runs in one stack from their last common checkpoint.

    Args:
        runs: that differ in their seeds alone.
        reporter: told what happens meanwhile.
        changes: settings that differ from before.
    """
    configs = []
    for index, run in enumerate(runs):
        recorded = run.config("finetune") or {}
        config = override(FinetuneConfig(), recorded, f"{run.folder}/config.yaml")
        configs.append(override(config, apportion(changes, index, len(runs)), "resume"))
    check(configs[0])
    require_alike(runs, [learned(pretrain_config(run)) for run in runs])
    require_alike(runs, [shared(each) for each in configs])
    saved = load_together(runs, configs[0].checkpoint_every)
    _train(runs, configs, saved, reporter or Silent())


def _start(run: Run, config: FinetuneConfig) -> str:
    """Name of the checkpoint from which a run is to be fine-tuned.

    Raises:
        RunError: pretraining is not finished, fine-tuning has begun already, or the copy exists.
    """
    start = end_of_pretraining(run)
    if config.into:
        refuse_existing(_target(run, config), "--into")
    elif run.config("finetune") is not None:
        raise RunError(
            f"{run.folder} has been fine-tuned already, at least in part: continue it with "
            f"`iqlft resume {run.folder}`, or fine-tune a copy from the end of its pretraining "
            "with --into NAME."
        )
    return start


def _begin(run: Run, config: FinetuneConfig, start: str, stack: Stack) -> Run:
    """Makes the run, or a copy where one is asked for, one that is being fine-tuned.

    It happens when all else is ready, so that a run stays as it is when something is missing.
    """
    if config.into:
        run = run.copy(_target(run, config), start)
    else:
        run.claim()
        _start(run, config)  # Another process may have begun since this was asked first.
    checkpoint.make_last(run.folder / "checkpoints", start)
    # The status first: without it nothing would continue a run that is killed in between.
    run.write_meta({"status": "running", "finetune": learner_machine(stack) | surroundings()})
    run.write_config("finetune", to_dict(dataclasses.replace(config, run=(), into="")))
    return run


@flushed_denormals()
def _train(
    runs: Sequence[Run],
    configs: Sequence[FinetuneConfig],
    saved: Sequence[Checkpoint],
    reporter: Reporter,
    starts: Sequence[str] = (),
) -> list[Path]:
    """Fine-tunes from checkpoints, for the first time when their names `starts` are given."""
    pretrained = [pretrain_config(run) for run in runs]
    dataset = load_task_dataset(pretrained[0])
    for run in runs:
        require_same_dataset(run, dataset)
    stack = _build(configs[0], pretrained[0], dataset, [each.seed for each in pretrained])
    with ExitStack() as opened:
        gateways = [
            opened.enter_context(closing(_open_gateway(each, run, offline, dataset)))
            for each, run, offline in zip(configs, runs, pretrained, strict=True)
        ]
        if starts:
            runs = [_begin(*each, stack) for each in zip(runs, configs, starts, strict=True)]
        for run in runs:
            run.claim()
        journals = [_take_up(*each) for each in zip(gateways, runs, configs, saved, strict=True)]
        with Sessions(len(runs)) as sessions:
            for index, (gateway, run, config) in enumerate(
                zip(gateways, runs, configs, strict=True)
            ):
                offline = pretrained[index]
                session = sessions.open(
                    gateway,
                    WorkerPool(config.workers, gateway.endpoint, run.folder / "logs", config.keys),
                    run,
                    scoring_of(offline, dataset),
                    member=stack.member(index),
                    dataset=dataset,
                    reporter=reporter,
                    config=config,
                    phase="online",
                    task=offline.task,
                    total=config.env_steps,
                )
                restore(session, saved[index])
                session.pacing = _pacing(config, session, offline.num_updates)
                for rows in journals[index].rows(session.member.layout):
                    session.member.add_rows(rows)
                if config.remote_workers:
                    session.reporter.event(_invitation(run, config, gateway))
            sessions.each(first_evaluation)
            sessions.each(Session.wait_for_evaluation)
            train_online(stack, sessions, configs[0])
            sessions.each(Session.finish)
    return [run.folder for run in runs]


def _take_up(gateway: Gateway, run: Run, config: FinetuneConfig, saved: Checkpoint) -> Journal:
    """Brings a run's files to its checkpoint, and gateway and workers to its journal."""
    rewind(run, saved)
    journal = Journal(run.folder / JOURNAL, saved.state["journal"])
    gateway.take_up(journal)
    write_atomically(run.folder / ENDPOINT, reachable(gateway.endpoint, config.host) + "\n")
    return journal


def _invitation(run: Run, config: FinetuneConfig, gateway: Gateway) -> str:
    """How further workers join."""
    keys = " --keys DIR" if config.keys else ""
    endpoint = reachable(gateway.endpoint, config.host)
    return (
        f"Further workers: iqlft worker --connect {endpoint}{keys} (or --connect "
        f"{run.folder / ENDPOINT}, where they can read it)."
    )


def _open_gateway(
    config: FinetuneConfig, run: Run, pretrained: PretrainConfig, dataset: OfflineDataset
) -> Gateway:
    """The learner's sockets, bound."""
    keys = LearnerKeys.load(config.keys) if config.keys else None
    require_safe_host(config.host, keys, insecure=config.insecure)
    return Gateway(
        environment=dataset.environment,
        layout=dataset.layout,
        run_id=_target(run, config).name,
        seed=pretrained.seed,
        host=config.host,
        port=config.port,
        keys=keys,
        num_workers=config.workers + config.remote_workers,
        lockstep=config.lockstep,
        last_version=pretrained.num_updates + int(config.utd_ratio * config.env_steps),
    )


def _build(
    config: FinetuneConfig,
    pretrained: PretrainConfig,
    dataset: OfflineDataset,
    seeds: Sequence[int],
) -> Stack:
    """As for pretraining, with the machine of this command and room for new transitions."""
    learner = dataclasses.replace(
        _with_online_schedule(pretrained),
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        cuda_graph=config.cuda_graph,
    )
    return build(
        learner, dataset, seeds, capacity=config.env_steps, offline_ratio=config.offline_ratio
    )


def _with_online_schedule(pretrained: PretrainConfig) -> PretrainConfig:
    """A cosine has reached 0 where fine-tuning begins, unless it is the one that climbs back."""
    if getattr(pretrained.hyperparameters, "actor_schedule", "constant") != "cosine":
        return pretrained
    return with_settings(pretrained, actor_schedule="constant")


def _pacing(config: FinetuneConfig, session: Session, offline_updates: int) -> Pacing:
    slack = (
        0
        if config.lockstep
        else config.slack or max(512, 128 * (config.workers + config.remote_workers))
    )
    updates = session.member.updates - offline_updates
    return Pacing(config.utd_ratio, slack, config.env_steps, session.env_steps, updates)
