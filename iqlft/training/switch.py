"""The switch from what a run was pretrained with to what it learns online."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.config.algorithms import title
from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import ALGORITHM_PREFIX, algorithm_tensors
from iqlft.runs.curves import keeps_policy
from iqlft.runs.folder import pretrain_config
from iqlft.runs.pretrained import end_of_pretraining
from iqlft.training.build import build_algorithm
from iqlft_workers.actor import Guide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.algorithms.base import Algorithm
    from iqlft.config.settings import FinetuneConfig, PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.runs.checkpoint import Checkpoint
    from iqlft.training.plan import RunPlan
    from iqlft.training.stack import Stack

    FinetunePlan = RunPlan[FinetuneConfig]


_NAMES = {"mean": "the actor's mean"}
"""How the note calls what was taken over, where that is not a network's name."""


class Switch(NamedTuple):
    """What runs come online with.

    Attributes:
        starts: each run's checkpoint to go on from, with the tensors of what it learns online.
        keeps_policy: whether they begin with the policy of pretraining.
        guides: each run's guide, the policy of pretraining; empty, or None for each, without.
        note: what was taken over, for the user; empty where nothing has changed.
    """

    starts: list[Checkpoint]
    keeps_policy: bool = True
    guides: Sequence[Guide | None] = ()
    note: str = ""


def switch(plans: Sequence[FinetunePlan], stack: Stack, dataset: OfflineDataset) -> Switch:
    """Carries the end of pretraining over into what is learned online, and makes the guides.

    Args:
        plans: plans of the runs of one stack, with the checkpoints from which they go on.
        stack: what they learn online with, fresh.
        dataset: what they were pretrained on.

    Raises:
        CheckpointError: the end of pretraining is damaged or does not fit.
    """
    config, starts = plans[0].config, [_start(plan) for plan in plans]
    learned = [pretrain_config(plan.run) for plan in plans]
    other = _learner(plans[0].learned) != _learner(learned[0])
    # Of a stack that was killed, some members may have been saved online already.
    fresh = [each.state["phase"] == "offline" for each in starts]
    keeps = all(now or keeps_policy(plan.run.meta) for now, plan in zip(fresh, plans, strict=True))
    changes = any(fresh) and (config.reset_optimizers or other)
    if not (changes or config.guide_steps):
        return Switch(starts, keeps)
    before = _pretrained(plans, learned, dataset)
    guides = [
        Guide(config.guide_steps, before.actor_weights(index)) if config.guide_steps else None
        for index in range(len(plans))
    ]
    if not changes:
        return Switch(starts, keeps, guides)
    carried = stack.algorithm.carry_over(before)
    if config.reset_optimizers:
        stack.algorithm.reset_optimizers()
    starts = [
        _renewed(start, stack.algorithm, index) if fresh[index] else start
        for index, start in enumerate(starts)
    ]
    note = _note(learned[0], plans[0].learned, carried) if other else ""
    return Switch(starts, "actor" in carried, guides, note)


def _start(plan: FinetunePlan) -> Checkpoint:
    assert plan.saved is not None
    return plan.saved


def _learner(config: PretrainConfig) -> tuple[Any, ...]:
    return config.algorithm, config.hyperparameters


def _pretrained(
    plans: Sequence[FinetunePlan], learned: Sequence[PretrainConfig], dataset: OfflineDataset
) -> Algorithm[Any]:
    """The algorithm that the runs were pretrained with, as it was at the end of pretraining."""
    algorithm = build_algorithm(
        learned[0].algorithm,
        learned[0].hyperparameters,
        dataset,
        [each.seed for each in learned],
        normalize_observations=learned[0].normalize_observations,
        num_updates=learned[0].num_updates,
    )
    for index, plan in enumerate(plans):
        saved = _start(plan)
        if saved.state["phase"] != "offline":
            name = end_of_pretraining(plan.run)
            saved = checkpoint.load(plan.run.folder / "checkpoints", name)
        with checkpoint.fitting(plan.run.folder):
            algorithm.load_state(algorithm_tensors(saved.tensors), index)
    return algorithm


def _renewed(saved: Checkpoint, algorithm: Algorithm[Any], member: int) -> Checkpoint:
    """A checkpoint with another algorithm's tensors."""
    kept = {
        key: each for key, each in saved.tensors.items() if not key.startswith(ALGORITHM_PREFIX)
    }
    new = {ALGORITHM_PREFIX + key: each for key, each in algorithm.state(member).items()}
    return saved._replace(tensors=kept | new)


def _note(learned: PretrainConfig, learns: PretrainConfig, carried: Sequence[str]) -> str:
    """A sentence about what an algorithm took over from the previous one."""
    before, after = title(learned.algorithm), title(learns.algorithm)
    names = [_NAMES.get(name, name.replace("_", " ")) for name in carried]
    networks = ", ".join(names) or "no network, the data alone"
    name = f"{after} goes on from {before}" if before != after else f"{after} goes on otherwise"
    return f"{name}: taken over are {networks}."
