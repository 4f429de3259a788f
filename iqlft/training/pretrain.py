"""`iqlft pretrain`: an algorithm on an offline dataset, evaluated by workers while it learns."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from iqlft.config.layers import to_dict
from iqlft.config.validation import check
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.service import Service
from iqlft.runs.errors import RunError, writing
from iqlft.runs.folder import Run, name_without_seed, pretrain_config, refuse_existing
from iqlft.training import loggers
from iqlft.training.build import (
    flushed_denormals,
    load_task_dataset,
    require_environment,
    with_settled_precision,
)
from iqlft.training.learner import build_learner, learner_machine, require_sendable
from iqlft.training.parallel import Job, Parallel
from iqlft.training.phases import Offline
from iqlft.training.plan import RunPlan
from iqlft.training.progress import Silent
from iqlft.training.seeds import (
    at_once,
    member_configs,
    resumed,
    rewind,
    run_folder,
    stacked,
    with_settled_stack,
)
from iqlft.training.session import Session
from iqlft.training.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iqlft.config.settings import PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Stack

_log = logging.getLogger(__name__)


@flushed_denormals()
def pretrain(config: PretrainConfig, reporter: Reporter | None = None) -> list[Path]:
    """Pretrains from scratch in new run folders, one per seed.

    Several seeds learn in one stack, or each in its own process (`config.stack`).

    Args:
        config: the settings.
        reporter: receives status and events.

    Returns:
        The run folders.

    Raises:
        UserError: a setting, the dataset, a run folder or the port is unusable; or a run has
            failed, which is raised after the other runs have finished.
        Interrupted: stopped by a signal; the runs can be resumed.
    """
    check(config)
    loggers.require(config.loggers)
    config = with_settled_stack(with_settled_precision(config), len(config.seeds) or 1)
    configs = member_configs(config)
    folders = [run_folder(each) for each in configs]
    for folder in folders:
        refuse_existing(folder)
    dataset, reporter = load_for_pretraining(config), reporter or Silent()
    if not stacked(config, len(configs)):
        jobs = [
            Job(folder, "pretrain", to_dict(each))
            for folder, each in zip(folders, configs, strict=True)
        ]
        Parallel(jobs, at_once(config, len(jobs)), reporter).run()
        return folders
    reporter.event(f"Reading {dataset.id}.")
    stack = build_learner(config, dataset, [each.seed for each in configs])
    require_sendable(stack.algorithm.actor_weights())
    with ExitStack() as opened:
        gateways = [
            opened.enter_context(closing(open_gateway(each, dataset, folder.name)))
            for folder, each in zip(folders, configs, strict=True)
        ]
        plans = [
            RunPlan(Run.create(folder, to_dict(each), about(each, stack, dataset)), each, each)
            for folder, each in zip(folders, configs, strict=True)
        ]
        _train(stack, dataset, reporter, plans, gateways)
    return folders


@flushed_denormals()
def resume_pretraining(
    runs: Sequence[Run],
    reporter: Reporter,
    **changes: Any,  # noqa: ANN401
) -> None:
    """Continues the pretraining of runs in one stack from their last common checkpoint.

    Args:
        runs: runs that differ only in their seeds.
        reporter: receives status and events.
        changes: settings that differ from before.
    """
    configs, saved = resumed(runs, pretrain_config, changes)
    dataset = load_for_pretraining(configs[0])
    reporter.event(f"Reading {dataset.id}.")
    stack = build_learner(configs[0], dataset, [each.seed for each in configs])
    with ExitStack() as opened:
        gateways = []
        for run, each in zip(runs, configs, strict=True):
            require_same_dataset(run, dataset)
            gateway = open_gateway(each, dataset, run.folder.name)
            gateways.append(opened.enter_context(closing(gateway)))
        for run, content in zip(runs, saved, strict=True):
            with writing(run.folder):
                rewind(run, content)
        _train(
            stack, dataset, reporter, list(map(RunPlan, runs, configs, configs, saved)), gateways
        )


def load_for_pretraining(config: PretrainConfig) -> OfflineDataset:
    """The dataset of a task; it must have an environment if there are to be evaluations."""
    dataset = load_task_dataset(config)
    if config.eval_episodes:
        require_environment(dataset)
    return dataset


def open_gateway(config: PretrainConfig, dataset: OfflineDataset, run_id: str) -> Gateway:
    """The learner's sockets, bound; in pretraining workers only evaluate."""
    service = Service(
        environment=dataset.environment,
        layout=dataset.layout,
        run_id=run_id,
        seed=config.seed,
        num_workers=config.workers,
        local_workers=config.workers,
        evaluation_seconds=config.eval_deadline_seconds,
        patience_seconds=config.patience,
        # No training episodes, so evaluations need no environment of their own.
        eval_environment="training",
    )
    return Gateway(service, port=config.port)


def about(config: PretrainConfig, stack: Stack, dataset: OfflineDataset) -> dict[str, Any]:
    """What `meta.json` says about a run."""
    known_as = config.hyperparameters.known_as
    return {
        "task": config.task,
        "algorithm": config.algorithm,
        **({"known_as": known_as} if known_as else {}),
        "variant": name_without_seed(config.name, config.seed),
        "seed": config.seed,
        **described(dataset),
        "environment": dataset.environment.to_dict(),
        **learner_machine(stack),
    }


def described(dataset: OfflineDataset) -> dict[str, Any]:
    """What `meta.json` says about a run's data."""
    return {
        "dataset": {
            "id": dataset.id,
            "hash": dataset.statistics.hash,
            "published": dataset.published,
        },
        "dataset_label": dataset.label,
    }


def require_same_dataset(run: Run, dataset: OfflineDataset) -> None:
    """Refuses to continue a run on other data than it began with.

    Raises:
        RunError: the dataset has changed since.
    """
    recorded = run.entry("dataset", "hash")
    found = dataset.statistics.hash
    if recorded != found:
        raise RunError(
            f"The dataset {dataset.id} is not the one that {run.folder} was trained on (hash "
            f"{found}, recorded {recorded}); restore it, or start a new run."
        )


def _train(
    stack: Stack,
    dataset: OfflineDataset,
    reporter: Reporter,
    plans: Sequence[RunPlan[PretrainConfig]],
    gateways: Sequence[Gateway],
) -> None:
    """Trains every member, from checkpoints where there are any."""
    with Sessions[Offline](dataset, reporter, len(plans)) as sessions:
        for index, (plan, gateway) in enumerate(zip(plans, gateways, strict=True)):
            member = stack.member(index)
            phase = Offline(member, plan.config.num_updates)
            session = sessions.open(plan, gateway, phase, member)
            if plan.saved is None:
                session.checkpoint()  # So that a run can be resumed from the very beginning.
        for note in stack.notes:
            _log.info("%s", note)  # In the log of every session.
            reporter.event(note)
        _loop(stack, sessions, plans[0].config)
        sessions.each(Session.finish)


def _loop(stack: Stack, sessions: Sessions[Offline], config: PretrainConfig) -> None:
    sessions.each(Session.start)
    while stack.updates < config.num_updates and sessions.living and not sessions.stop.requested:
        stack.update()
        last = stack.updates == config.num_updates
        if last or stack.updates % config.eval_every == 0:
            sessions.each(Session.evaluate)
        sessions.each(Session.after_update)
        sessions.each(Session.tick)
