"""`iqlft finetune`: a pretrained run goes on learning while workers step its environment."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from iqlft.analysis.restored import end_of_pretraining, pretrained_for
from iqlft.config.layers import online_learner, override, to_dict
from iqlft.config.settings import ConfigError, FinetuneConfig
from iqlft.config.validation import check, require_effect
from iqlft.datasets.value_bounds import ValueBounds
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft.gateway.service import Service
from iqlft.gateway.sockets import reachable, require_safe_host
from iqlft.runs import checkpoint
from iqlft.runs.errors import RunError, writing
from iqlft.runs.finding import newest_pretrained
from iqlft.runs.folder import ENDPOINT, JOURNAL, Run, pretrain_config, refuse_existing
from iqlft.runs.recorded import require_recorded
from iqlft.runs.surroundings import surroundings
from iqlft.training import loggers
from iqlft.training.appended import learn_on
from iqlft.training.build import (
    flushed_denormals,
    load_task_dataset,
    require_environment,
    with_settled_precision,
)
from iqlft.training.copies import pretrained_as
from iqlft.training.dry_run import dry_run_finetuning
from iqlft.training.online import first_evaluation, train_online
from iqlft.training.pacing import Pacing, updates_for
from iqlft.training.parallel import Job, Parallel
from iqlft.training.phases import Online
from iqlft.training.plan import RunPlan
from iqlft.training.pretrain import build, learner_machine, require_same_dataset
from iqlft.training.progress import Silent
from iqlft.training.seeds import (
    alike,
    apportion,
    at_once,
    copy_folder,
    learned,
    load_together,
    require_alike,
    rewind,
    shared,
    shares,
    stacked,
    with_settled_stack,
)
from iqlft.training.session import Session
from iqlft.training.sessions import Sessions
from iqlft.training.switch import switch
from iqlft_workers.discovery import write_endpoint, write_finished
from iqlft_workers.keys import LearnerKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from iqlft.config.settings import PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.training.progress import Reporter
    from iqlft.training.stack import Member, Stack
    from iqlft.training.switch import Switch

    FinetunePlan = RunPlan[FinetuneConfig]


def finetune(config: FinetuneConfig, reporter: Reporter | None = None) -> list[Path]:
    """Fine-tunes pretrained runs.

    Those that differ in their seeds alone learn in one stack, or each run in a process of its own
    (`config.stack`).

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
    require_effect(config)
    loggers.require(config.loggers)
    if config.append:
        return learn_on(config, reporter)
    config = with_settled_precision(config)
    runs = [Run.open(folder) for folder in _chosen(config)]
    config = with_settled_stack(config, len(runs))
    # All mistakes show before the first run's hours.
    for run in runs:
        _start(run, config)
    if len({copy_folder(run, config) for run in runs}) < len(runs):
        raise RunError(
            "Two of the runs are the same, or have the same seed and would be copied to the same "
            "folder; fine-tune them one at a time, with different --into."
        )
    if not stacked(config, len(runs)):
        jobs = _jobs(runs, config)
        Parallel(jobs, at_once(config, len(jobs)), reporter or Silent()).run()
        return [job.folder for job in jobs]
    folders = []
    for group in alike(runs):
        plans = [
            RunPlan(run, _learner(run, each), each, _load_start(run, config))
            for run, each in zip(group, shares(config, len(group)), strict=True)
        ]
        folders += _train(plans, reporter or Silent(), fresh=True)
    return folders


def _jobs(runs: Sequence[Run], config: FinetuneConfig) -> list[Job]:
    """The same command for each run alone."""
    jobs = []
    for run, part in zip(runs, shares(config, len(runs)), strict=True):
        target = copy_folder(run, config)
        into = target.name if config.into else ""
        alone = dataclasses.replace(part, run=(run.folder,), into=into)
        jobs.append(Job(target, "finetune", to_dict(alone)))
    return jobs


def _chosen(config: FinetuneConfig) -> tuple[Path, ...]:
    """The named runs, or the newest pretrained one that is not fine-tuned yet."""
    return config.run or (newest_pretrained(config.runs, config.task),)


def _learner(run: Run, config: FinetuneConfig) -> PretrainConfig:
    """What a run learns online."""
    return online_learner(pretrain_config(run), config)


def dry_run(config: FinetuneConfig) -> list[tuple[str, str]]:
    """What `finetune` would do with the first runs that learn together, as names and texts."""
    check(config)
    if config.append:
        raise ConfigError("--dry-run tells nothing of --append; leave one of them out.")
    runs = [Run.open(folder) for folder in _chosen(config)]
    group = alike(runs)[0] if stacked(config, len(runs)) else runs
    for run in group:
        _pretrained(run, config)
    together = group if stacked(config, len(group)) else group[:1]
    plans = [RunPlan(run, _learner(run, config), config) for run in together]
    dataset = load_task_dataset(plans[0].learned, trust=plans[0].config.trust)
    require_environment(dataset, pretrained=True)
    stack = _build(plans, dataset)
    return dry_run_finetuning(config, plans[0].learned.task, stack, dataset, len(group))


def resume_finetuning(
    runs: Sequence[Run],
    reporter: Reporter | None = None,
    *,
    accept_loss: bool = False,
    **changes: Any,  # noqa: ANN401
) -> None:
    """Continues the fine-tuning of runs in one stack from their last common checkpoint.

    Args:
        runs: that differ in their seeds alone.
        reporter: told what happens meanwhile.
        accept_loss: whether to go on without what is damaged in a journal.
        changes: settings that differ from before.
    """
    configs = []
    for index, run in enumerate(runs):
        recorded = run.config("finetune") or {}
        config = override(FinetuneConfig(), recorded, f"{run.folder}/config.yaml")
        configs.append(override(config, apportion(changes, index, len(runs)), "resume"))
    check(configs[0])
    loggers.require(configs[0].loggers)
    require_alike(runs, [learned(pretrain_config(run)) for run in runs])
    require_alike(runs, [shared(each) for each in configs])
    saved = load_together(runs, configs[0].checkpoint_every)
    learners = map(_learner, runs, configs)
    plans = list(map(RunPlan, runs, learners, configs, saved))
    _train(plans, reporter or Silent(), fresh=False, accept_loss=accept_loss)


def _start(run: Run, config: FinetuneConfig) -> str:
    """Name of the checkpoint from which a run is to be fine-tuned.

    Raises:
        RunError: pretraining is not finished, fine-tuning has begun already, or the copy exists.
    """
    start = _pretrained(run, config)
    if config.into:
        refuse_existing(copy_folder(run, config), "--into")
    elif run.config("finetune") is not None:
        finished = run.meta.get("status") == "finished"
        resume = "" if finished else f"continue it with `iqlft resume {run.folder}`, or "
        raise RunError(
            f"{run.folder} has been fine-tuned already{'' if finished else ', at least in part'}: "
            f"{resume}fine-tune a copy from the end of its pretraining with --into NAME."
        )
    return start


def _pretrained(run: Run, config: FinetuneConfig) -> str:
    """Name of the checkpoint at which pretraining ended, or is taken to have ended.

    Raises:
        ConfigError: no copy is asked for, or the actor's learning rate follows a schedule.
        RunError: there is no such checkpoint.
    """
    before = pretrain_config(run)
    if config.checkpoint in {0, before.num_updates}:
        return end_of_pretraining(run)
    if not config.into:
        raise ConfigError(
            "--checkpoint begins before the end of a run's pretraining, which it keeps: name a "
            "copy with --into NAME."
        )
    if before.hyperparameters.scheduled:
        raise ConfigError(
            f"{run.folder} was pretrained with a schedule over all its updates, such as "
            "--actor-schedule cosine, so at an earlier checkpoint it is no run of "
            f"{config.checkpoint:,} updates; pretrain one."
        )
    return pretrained_for(run, config.checkpoint)


def _load_start(run: Run, config: FinetuneConfig) -> Checkpoint:
    """The checkpoint from which a run is to be fine-tuned; see `_start`."""
    name = _start(run, config)
    saved = checkpoint.load(run.folder / "checkpoints", name)
    advice = "Put these values back; other ones need another pretraining."
    require_recorded(run, name, saved.state, advice)
    return saved


def _claim(plan: FinetunePlan, stack: Stack) -> Run:
    """Makes the run, or a copy where one is asked for, one that is being fine-tuned.

    It happens when all else is ready, so that a run stays as it is when something is missing.
    """
    run, config = plan.run, plan.config
    start = _start(run, config)
    if config.into:
        run = run.copy(copy_folder(run, config), start, _ends_earlier(plan, start))
    else:
        run.claim()
        _start(run, config)  # Another process may have begun since this was asked first.
    with writing(run.folder, "repeat the command"):
        if not config.into:
            checkpoint.make_last(run.folder / "checkpoints", start)
        # The status first: without it nothing would continue a run that is killed in between.
        learner = {"algorithm": plan.learned.algorithm} | learner_machine(stack)
        run.write_meta({"status": "running", "finetune": learner | surroundings()})
        own = dataclasses.replace(config, run=(), into="", checkpoint=0)
        run.write_config("finetune", to_dict(own))
    return run


def _ends_earlier(plan: FinetunePlan, start: str) -> Callable[[Run], None] | None:
    """What makes of a copy one whose pretraining ended at an earlier checkpoint, if it is to."""
    before, learned = pretrain_config(plan.run), plan.learned
    if learned.num_updates == before.num_updates:
        return None
    learner = dataclasses.replace(before, num_updates=learned.num_updates)
    # Not the plan's, which is in what is learned online.
    saved = checkpoint.load(plan.run.folder / "checkpoints", start)
    return lambda made: pretrained_as(made, learner, saved, keep=True)


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
        reporter: told what happens meanwhile.
        fresh: whether this is the first time.
        accept_loss: whether to go on without what is damaged in a journal.
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
    plans = [
        dataclasses.replace(plan, saved=start)
        for plan, start in zip(plans, switched.starts, strict=True)
    ]
    with ExitStack() as opened:
        if not fresh:
            for plan in plans:
                opened.callback(plan.run.close)
                plan.run.claim()
                # A worker that waits here must not take the next learner for the last one.
                with writing(plan.run.folder):
                    (plan.run.folder / ENDPOINT).unlink(missing_ok=True)
        keys = _keys(plans[0].config)
        gateways = [
            opened.enter_context(closing(_open_gateway(each, dataset, keys))) for each in plans
        ]
        if fresh:
            plans = [dataclasses.replace(each, run=_claim(each, stack)) for each in plans]
        for plan in plans:
            plan.run.claim()
        journals = [
            _take_up(*each, accept_loss=accept_loss) for each in zip(plans, gateways, strict=True)
        ]
        with Sessions[Online](dataset, reporter, len(plans)) as sessions:
            for index, each in enumerate(zip(plans, gateways, journals, strict=True)):
                _open(sessions, stack.member(index), *each, _phase(each[0], switched, index))
            stack.begin_online()
            sessions.each(first_evaluation)
            sessions.each(Session.wait_for_evaluation)
            train_online(stack, sessions, plans[0].config)
            sessions.each(Session.finish)
        for plan in plans:
            # A worker that had not found this learner again by now looks here for the next one.
            with writing(plan.run.folder):
                write_finished(plan.run.folder / ENDPOINT)
    return [plan.run.folder for plan in plans]


def _take_up(plan: FinetunePlan, gateway: Gateway, *, accept_loss: bool) -> Journal:
    """Brings a run's files to its checkpoint, and gateway and workers to its journal."""
    assert plan.saved is not None
    path, state = plan.run.folder / JOURNAL, plan.saved.state
    with writing(plan.run.folder):
        # First, for it may be refused, and nothing is to be changed then.
        journal = Journal(path, state["journal"], accept_loss=accept_loss)
        gateway.recover(journal, state["env_steps"])
        rewind(plan.run, plan.saved)
        endpoint = reachable(gateway.endpoint, plan.config.host)
        write_endpoint(plan.run.folder / ENDPOINT, endpoint, gateway.own_keys)
        if plan.config.remote_workers:  # Which look for the next learner there.
            plan.run.write_meta({"port": gateway.port})
    return journal


def _open(
    sessions: Sessions[Online],
    member: Member,
    plan: FinetunePlan,
    gateway: Gateway,
    journal: Journal,
    phase: Online,
) -> None:
    """Opens a run's session, with the new transitions that it had."""
    session = sessions.open(plan, gateway, phase, member)
    for rows in journal.rows(member.layout):
        member.add_rows(rows)
    if journal.loss:
        session.incident(f"The run goes on without what is lost: {journal.loss}")
    if plan.config.remote_workers:
        session.tell(_invitation(plan.run, plan.config, gateway))


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


def _invitation(run: Run, config: FinetuneConfig, gateway: Gateway) -> str:
    """How further workers join."""
    keys, file = " --keys DIR" if config.keys else "", run.folder / ENDPOINT
    if gateway.own_keys:
        return f"Further workers, on this machine: iqlft worker --connect {file}"
    endpoint = reachable(gateway.endpoint, config.host)
    return (
        f"Further workers: iqlft worker --connect {endpoint}{keys} (or --connect {file}{keys}, "
        "where they can read it)."
    )


def _keys(config: FinetuneConfig) -> LearnerKeys | None:
    """The keys that the user names; says once what it means that nobody needs any."""
    keys = LearnerKeys.load(config.keys) if config.keys else None
    require_safe_host(config.host, keys, insecure=config.insecure)
    return keys


def _open_gateway(plan: FinetunePlan, dataset: OfflineDataset, keys: LearnerKeys | None) -> Gateway:
    """The learner's sockets, bound."""
    config = plan.config
    service = Service(
        environment=dataset.environment,
        layout=dataset.layout,
        run_id=copy_folder(plan.run, config).name,
        seed=plan.learned.seed,
        num_workers=config.workers + config.remote_workers,
        local_workers=config.workers,
        evaluation_seconds=config.eval_deadline_seconds,
        patience_seconds=config.patience,
        eval_environment=config.eval_environment,
        lockstep=config.lockstep,
        last_version=plan.learned.num_updates
        + updates_for(config.env_steps, config.utd_ratio, config.warmup_steps),
        bounds=ValueBounds.of_dataset(dataset.statistics, dataset.layout, config.value_bounds),
    )
    return Gateway(
        service,
        host=config.host,
        port=config.port,
        last_port=plan.run.meta.get("port", 0) if config.remote_workers else 0,
        keys=keys,
        insecure=config.insecure,
    )


def _build(plans: Sequence[FinetunePlan], dataset: OfflineDataset) -> Stack:
    """As for pretraining, with the machine of this command and room for new transitions."""
    config = plans[0].config
    learner = dataclasses.replace(
        plans[0].learned,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        cuda_graph=config.cuda_graph,
    )
    seeds = [plan.learned.seed for plan in plans]
    return build(
        learner,
        dataset,
        seeds,
        capacity=config.env_steps,
        offline_ratio=config.offline_ratio,
        value_bounds=config.value_bounds,
    )
