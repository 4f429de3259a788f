"""`iqlft finetune --append`: continues pretraining with data that were logged since.

A copy of the run, with more data and more updates, is marked as interrupted and then resumed. What
the run's own data determine stays: normalisation, the scale of rewards, the environment.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.config.layers import config_fields, override
from iqlft.config.settings import (
    ConfigError,
    FinetuneConfig,
    MachineConfig,
    OutputConfig,
)
from iqlft.runs.errors import RunError
from iqlft.runs.finding import chosen_runs
from iqlft.runs.folder import Run, pretrain_config, refuse_existing
from iqlft.runs.inherited import ONLINE_ONLY, inherited
from iqlft.runs.pretrained import end_of_pretraining, load_pretrained
from iqlft.runs.surroundings import surroundings
from iqlft.training.build import with_settled_precision
from iqlft.training.copies import pretrained_as
from iqlft.training.groups import train_groups
from iqlft.training.pacing import updates_for
from iqlft.training.parallel import Job, Parallel
from iqlft.training.pretrain import (
    described,
    load_for_pretraining,
    require_same_dataset,
    resume_pretraining,
)
from iqlft.training.progress import Silent
from iqlft.training.seeds import alike, at_once, copy_folder, shares, stacked, with_settled_stack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iqlft.config.settings import PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.training.progress import Reporter

_OWN = {"runs", "dry_run"}
"""Settings of machine and output that keep their values of pretraining."""


class _Copy(NamedTuple):
    """The planned copy of one run."""

    run: Run
    folder: Path
    start: str
    before: PretrainConfig
    learner: PretrainConfig
    dataset: OfflineDataset
    new: int


def learn_on(config: FinetuneConfig, reporter: Reporter | None = None) -> list[Path]:
    """Continues pretraining from its end, on a run's own data and appended ones.

    Args:
        config: `append`, `utd_ratio`, `into`, and settings of machine and output; other settings
            of online learning, or of the learner, must be the defaults or those of the runs.
        reporter: receives status and events.

    Returns:
        The folders of the copies.

    Raises:
        UserError: a setting, a run or a dataset is unusable; then nothing is made.
        Interrupted: stopped by a signal; the copies can be resumed.
    """
    if not config.into:
        raise ConfigError("Appending data makes another run; name this copy with --into NAME.")
    if config.checkpoint:
        raise ConfigError(
            "--append continues from the end of pretraining, --checkpoint from before it; leave "
            "one of them out."
        )
    folders = chosen_runs(config)
    _require_offline(config, folders)
    _require_beside(config)
    config = with_settled_precision(dataclasses.replace(config, run=folders))
    config = with_settled_stack(config, len(folders))
    runs = [Run.open(folder) for folder in folders]
    parts = shares(config, len(runs))
    copies = [_planned(*each) for each in zip(runs, parts, strict=True)]
    if len({each.folder for each in copies}) < len(copies):
        raise RunError("Two of the runs are the same, or have the same seed; name each once.")
    reporter = reporter or Silent()
    for each in copies:
        _make(each, config.append)
    _resume([Run.open(each.folder) for each in copies], config, reporter)
    return [each.folder for each in copies]


def _require_offline(config: FinetuneConfig, folders: Sequence[Path]) -> None:
    """Refuses settings of online learning, and settings of the learner that the runs do not have.

    Raises:
        ConfigError: there are some; the message names their flags.
    """
    usual = FinetuneConfig()
    own = override(usual, dict(inherited(folders).values), "the pretrained run")
    surplus = {
        name
        for name in ONLINE_ONLY
        if getattr(config, name) not in (getattr(usual, name), getattr(own, name))
    }
    for before in (pretrain_config(Run.open(folder)) for folder in folders):
        if config.algorithm not in ("", before.algorithm):
            surplus.add("algorithm")
        elif config.hyperparameters is not None:
            had = vars(before.hyperparameters)
            given = vars(config.hyperparameters)
            surplus |= {name for name, value in given.items() if had.get(name, value) != value}
    if surplus:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(surplus))
        raise ConfigError(
            f"With --append a run learns on offline, as it was pretrained: leave out {flags}, or "
            "the --preset or the --config that brings it."
        )


def _require_beside(config: FinetuneConfig) -> None:
    """Refuses --runs where it is neither the folder of the runs that are named nor the default.

    Raises:
        ConfigError: the copies would not be there.
    """
    if config.runs == FinetuneConfig.runs:
        return
    for folder in config.run:
        place = Run.open(folder).folder.absolute().parents[1]
        if place.resolve() != config.runs.resolve():
            raise ConfigError(
                f"--runs is {config.runs}, but a copy is made beside its run, under {place}; leave "
                "--runs out where runs are named."
            )


def _planned(run: Run, config: FinetuneConfig) -> _Copy:
    """The plan of a copy; checks that all is there, before anything is made."""
    folder, start = copy_folder(run, config), end_of_pretraining(run)
    refuse_existing(folder, "--into")
    before = pretrain_config(run)
    own = (*before.dataset, *before.appended)
    if twice := [name for name in config.append if name in own or config.append.count(name) > 1]:
        raise ConfigError(f"{twice[0]} would be learned from twice; append it once.")
    kept = (config_fields(MachineConfig).keys() | config_fields(OutputConfig).keys()) - _OWN
    learner = dataclasses.replace(
        before,
        **{name: getattr(config, name) for name in kept},
        workers=config.workers,
        appended=(*before.appended, *config.append),
        trust=before.trust or config.trust,
        max_episode_steps=config.max_episode_steps or before.max_episode_steps,
    )
    dataset = load_for_pretraining(learner)
    old = load_for_pretraining(dataclasses.replace(learner, appended=before.appended))
    require_same_dataset(run, old)
    new = dataset.num_transitions - old.num_transitions
    more = max(1, updates_for(new, config.utd_ratio))
    learner = dataclasses.replace(
        learner,
        num_updates=before.num_updates + more,
        # A cosine schedule has ended, so the further updates have none.
        hyperparameters=before.hyperparameters.unscheduled,
    )
    return _Copy(run, folder, start, before, learner, dataset, new)


def _make(copy: _Copy, appended: Sequence[str]) -> None:
    """Makes the copy: a run that looks interrupted, just before its further updates."""
    saved = load_pretrained(copy.run, copy.start)
    before, learner = copy.before, copy.learner
    entry = {
        "dataset": list(appended),
        "transitions": copy.new,
        "after_updates": before.num_updates,
        "num_updates": learner.num_updates - before.num_updates,
        **surroundings(),
    }
    about: dict[str, Any] = {
        **described(copy.dataset),
        "appended": [*copy.run.meta.get("appended", []), entry],
        "status": "interrupted",
    }

    def change(made: Run) -> None:
        pretrained_as(made, learner, saved, keep=False)
        made.write_meta(about, without="finetune")

    copy.run.copy(copy.folder, copy.start, change)


def _resume(runs: Sequence[Run], config: FinetuneConfig, reporter: Reporter) -> None:
    if stacked(config, len(runs)):

        def learn_on(group: Sequence[Run]) -> list[Path]:
            resume_pretraining(group, reporter)
            return [run.folder for run in group]

        train_groups(alike(runs), learn_on, lambda run: run.folder, reporter, begun=True)
        return
    jobs = [Job(run.folder, "resume", {}) for run in runs]
    Parallel(jobs, at_once(config, len(jobs)), reporter).run()
