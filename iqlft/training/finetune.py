"""`iqlft finetune`: a pretrained run goes on learning while workers step its environment."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from iqlft.config.layers import online_learner, to_dict
from iqlft.config.settings import ConfigError
from iqlft.config.validation import check, require_effect
from iqlft.runs.errors import RunError, writing
from iqlft.runs.finding import chosen_runs
from iqlft.runs.folder import ENDPOINT, Run, finetune_config, pretrain_config
from iqlft.training import loggers
from iqlft.training.appended import learn_on
from iqlft.training.beginning import begin, load_start, start_checkpoint
from iqlft.training.build import (
    flushed_denormals,
    load_task_dataset,
    require_environment,
    with_settled_precision,
)
from iqlft.training.dry_run import dry_run_finetuning
from iqlft.training.groups import train_groups
from iqlft.training.learner import build_learner, require_sendable
from iqlft.training.online import first_evaluation, train_online
from iqlft.training.online_gateway import invitation, load_keys, open_gateway, take_up
from iqlft.training.pacing import Pacing
from iqlft.training.parallel import Job, Parallel
from iqlft.training.phases import Online
from iqlft.training.plan import RunPlan
from iqlft.training.pretrain import require_same_dataset
from iqlft.training.progress import Silent
from iqlft.training.seeds import (
    alike,
    at_once,
    copy_folder,
    learned,
    require_alike,
    resumed,
    shares,
    stacked,
    with_settled_stack,
)
from iqlft.training.session import Session
from iqlft.training.sessions import Sessions
from iqlft.training.switch import switch
from iqlft_workers.discovery import write_finished

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iqlft.config.settings import FinetuneConfig, PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.gateway.gateway import Gateway
    from iqlft.gateway.journal import Journal
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Member, Stack
    from iqlft.training.switch import Switch

    FinetunePlan = RunPlan[FinetuneConfig]


def finetune(config: FinetuneConfig, reporter: Reporter | None = None) -> list[Path]:
    """Fine-tunes pretrained runs.

    Runs that differ only in their seeds learn in one stack, or each run in its own process
    (`config.stack`).

    Args:
        config: the settings; without runs, the newest pretrained one under `config.runs` is taken.
        reporter: receives status and events.

    Returns:
        The run folders.

    Raises:
        UserError: a setting, a run, its dataset or the port is unusable.
        Interrupted: stopped by a signal; the run can be resumed.
    """
    _require_sound(config)
    if config.append:
        return learn_on(config, reporter)
    config = with_settled_precision(config)
    runs = _startable(config)
    config = with_settled_stack(config, len(runs))
    reporter = reporter or Silent()
    if not stacked(config, len(runs)):
        jobs = _jobs(runs, config)
        Parallel(jobs, at_once(config, len(jobs)), reporter).run()
        return [job.folder for job in jobs]

    def train(group: Sequence[Run]) -> list[Path]:
        plans = [
            RunPlan(run, _learner(run, each), each, load_start(run, config))
            for run, each in zip(group, shares(config, len(group)), strict=True)
        ]
        return _train(plans, reporter, fresh=True)

    return train_groups(alike(runs), train, lambda run: copy_folder(run, config), reporter)


def _require_sound(config: FinetuneConfig) -> None:
    check(config)
    require_effect(config)
    loggers.require(config.loggers)


def _startable(config: FinetuneConfig) -> list[Run]:
    """The runs, every one checked before the first one trains for hours."""
    runs = [Run.open(folder) for folder in chosen_runs(config)]
    for run in runs:
        start_checkpoint(run, config)
        _require_its_time_limit(run, config)
    if len({copy_folder(run, config) for run in runs}) < len(runs):
        raise RunError(
            "Two of the runs are the same, or have the same seed and would be copied to the same "
            "folder; fine-tune them one at a time, with different --into."
        )
    return runs


def _jobs(runs: Sequence[Run], config: FinetuneConfig) -> list[Job]:
    """One job per run: the same command for that run alone."""
    jobs = []
    for run, part in zip(runs, shares(config, len(runs)), strict=True):
        target = copy_folder(run, config)
        into = target.name if config.into else ""
        alone = dataclasses.replace(part, run=(run.folder,), into=into)
        jobs.append(Job(target, "finetune", to_dict(alone)))
    return jobs


def _learner(run: Run, config: FinetuneConfig) -> PretrainConfig:
    """The learner's settings for the online phase of a run."""
    return online_learner(pretrain_config(run), config)


def dry_run(config: FinetuneConfig) -> list[tuple[str, str]]:
    """What `finetune` would do with the first group of runs, as pairs of name and text."""
    _require_sound(config)
    if config.append:
        raise ConfigError("--dry-run does not work with --append; leave one of them out.")
    runs = _startable(config)
    group = alike(runs)[0] if stacked(config, len(runs)) else runs
    together = group if stacked(config, len(group)) else group[:1]
    plans = [RunPlan(run, _learner(run, config), config) for run in together]
    dataset = load_task_dataset(plans[0].learned, trust=plans[0].config.trust)
    require_environment(dataset, pretrained=True)
    stack = _build(plans, dataset)
    return dry_run_finetuning(config, plans[0].learned.task, stack, dataset, len(group))


def resume_finetuning(
    runs: Sequence[Run],
    reporter: Reporter,
    *,
    accept_loss: bool,
    **changes: Any,  # noqa: ANN401
) -> None:
    """Continues the fine-tuning of runs in one stack from their last common checkpoint.

    Args:
        runs: runs that differ only in their seeds, claimed.
        reporter: receives status and events.
        accept_loss: whether to go on without the damaged parts of a journal.
        changes: settings that differ from before.
    """
    require_alike(runs, [learned(pretrain_config(run)) for run in runs])
    configs, saved = resumed(runs, finetune_config, changes)
    learners = map(_learner, runs, configs)
    plans = list(map(RunPlan, runs, learners, configs, saved))
    _train(plans, reporter, fresh=False, accept_loss=accept_loss)


@flushed_denormals()
def _train(
    plans: Sequence[FinetunePlan],
    reporter: Reporter,
    *,
    fresh: bool,
    accept_loss: bool = False,
) -> list[Path]:
    """Fine-tunes runs in one stack from their checkpoints.

    Args:
        plans: what the runs are to do.
        reporter: receives status and events.
        fresh: whether fine-tuning begins, rather than being resumed.
        accept_loss: whether to go on without the damaged parts of a journal.

    Returns:
        The run folders: those of the copies where copies are fine-tuned.
    """
    dataset = load_task_dataset(plans[0].learned, trust=plans[0].config.trust)
    require_environment(dataset, pretrained=True)
    reporter.event(f"Reading {dataset.id}.")
    for plan in plans:
        require_same_dataset(plan.run, dataset)
    stack = _build(plans, dataset)
    switched = switch(plans, stack, dataset)
    if switched.note:
        reporter.event(switched.note)
    for index, guide in enumerate(switched.guides):
        require_sendable(stack.member(index).actor_weights()._replace(guide=guide))
    plans = [
        dataclasses.replace(plan, saved=start)
        for plan, start in zip(plans, switched.starts, strict=True)
    ]
    with ExitStack() as opened:
        if not fresh:
            for plan in plans:
                # A waiting worker must not find the previous learner's address in this file.
                with writing(plan.run.folder):
                    (plan.run.folder / ENDPOINT).unlink(missing_ok=True)
        keys = load_keys(plans[0].config)
        gateways = [
            opened.enter_context(closing(open_gateway(each, dataset, keys))) for each in plans
        ]
        if fresh:
            plans = [
                dataclasses.replace(
                    each, run=begin(each, stack, keeps_policy=switched.keeps_policy)
                )
                for each in plans
            ]
        journals = [
            take_up(*each, resumed=not fresh, accept_loss=accept_loss)
            for each in zip(plans, gateways, strict=True)
        ]
        for plan in plans:
            opened.callback(_tell_finished, plan.run)
        with Sessions[Online](dataset, reporter, len(plans)) as sessions:
            for index, each in enumerate(zip(plans, gateways, journals, strict=True)):
                _open(sessions, stack.member(index), *each, _phase(each[0], switched, index))
            stack.begin_online()
            sessions.each(first_evaluation)
            sessions.each(Session.wait_for_evaluation)
            train_online(stack, sessions, plans[0].config)
            sessions.each(Session.finish)
    return [plan.run.folder for plan in plans]


def _require_its_time_limit(run: Run, config: FinetuneConfig) -> None:
    """Refuses another time limit of an episode than that of pretraining."""
    if config.max_episode_steps not in (0, pretrain_config(run).max_episode_steps):
        raise ConfigError(
            f"--max-episode-steps is {config.max_episode_steps}, but fine-tuning keeps the time "
            f"limit with which {run.folder} was pretrained; leave it out, or say it to `iqlft "
            "pretrain`."
        )


def _tell_finished(run: Run) -> None:
    """Lets a worker that still looks for a learner of a finished run read that it is finished."""
    try:
        finished = run.finished
    except RunError:
        return  # It is told of elsewhere.
    if finished:
        with writing(run.folder):
            write_finished(run.folder / ENDPOINT)


def _open(
    sessions: Sessions[Online],
    member: Member,
    plan: FinetunePlan,
    gateway: Gateway,
    journal: Journal,
    phase: Online,
) -> None:
    """Opens a run's session, with the new transitions that its journal restores."""
    session = sessions.open(plan, gateway, phase, member)
    for rows in journal.rows(member.layout):
        member.add_rows(rows)
    if journal.loss:
        session.incident(f"The run goes on without what is lost: {journal.loss}")
    if plan.config.remote_workers:
        session.tell(invitation(plan.run, plan.config, gateway))


def _phase(plan: FinetunePlan, switched: Switch, index: int) -> Online:
    assert plan.saved is not None
    config, state = plan.config, plan.saved.state
    slack = (
        0
        if config.lockstep
        else config.slack or max(512, 128 * (config.workers + config.remote_workers))
    )
    updates = state["updates"] - plan.learned.num_updates
    pacing = Pacing(
        config.utd_ratio,
        slack,
        config.env_steps,
        state["env_steps"],
        updates,
        config.warmup_steps,
    )
    return Online(
        pacing,
        fresh=state["phase"] == "offline",
        keeps_policy=switched.keeps_policy,
        guide=switched.guides[index] if switched.guides else None,
    )


def _build(plans: Sequence[FinetunePlan], dataset: OfflineDataset) -> Stack:
    """The learner, with this command's machine settings and room for new transitions."""
    config = plans[0].config
    learner = dataclasses.replace(
        plans[0].learned,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        cuda_graph=config.cuda_graph,
    )
    seeds = [plan.learned.seed for plan in plans]
    stack = build_learner(
        learner,
        dataset,
        seeds,
        capacity=config.env_steps,
        offline_ratio=config.offline_ratio,
        value_bounds=config.value_bounds,
    )
    require_sendable(stack.algorithm.actor_weights())
    return stack
