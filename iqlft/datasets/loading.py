"""Opens Minari datasets, checks that they fit together, and finds their environment and goal.

The *goal mode* decides which observations are used and which goal the rewards are for; nothing here
depends on an environment's name.
"""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.offline_dataset import OfflineDataset
from iqlft.datasets.recorded import (
    Goal,
    ends_at_success,
    evaluation_goal,
    has_mirrored_map,
    open_dataset,
    recorded_environment,
    records_environment,
    required_radius,
    success_radius,
)
from iqlft.datasets.source import AfterSuccess, GoalMode, Source, observed
from iqlft_workers import environment as environments
from iqlft_workers.environment import EnvironmentMismatchError, EnvironmentSpec
from iqlft_workers.registration import FIXED_GOAL_MAZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import minari

    from iqlft_workers.environment import Environment


RETURN_RANGE = 1000.0
"""Range that `reward_scale="return_range"` scales returns to (IQL's authors, locomotion)."""


def load_dataset(
    *dataset_ids: str,
    goal: GoalMode = "evaluation",
    after_success: AfterSuccess = "keep",
    environment: EnvironmentSpec | None = None,
    environment_kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
    reward_scale: float | Literal["return_range"] = 1.0,
    reward_shift: float = 0.0,
    reference_scores: tuple[float, float] | None = None,
    success_key: str = "",
    observation_keys: Sequence[str] = (),
    appended: Sequence[str] = (),
) -> OfflineDataset:
    """Opens Minari datasets from the local Minari folder.

    Args:
        dataset_ids: Minari ids, such as `iqlft/antmaze/medium-play-v1`; several are read one after
            another and must fit together.
        goal: the goal mode.
        after_success: `drop` ends every episode at its first success (goal modes `evaluation` and
            `observed`), for datasets that mostly sit on the goal.
        environment: evaluation environment that replaces the recorded one; its observation keys are
            set by the goal mode, its reward transform by the arguments below.
        environment_kwargs: arguments of the environment, which override its own.
        trust: whether the recorded environment may be run even if no installed package registers
            it; see `iqlft_workers.trust`.
        reward_scale: factor on rewards; `return_range`: 1000 / (greatest - least return of an
            episode), as IQL's authors do for locomotion.
        reward_shift: added to rewards after scaling.
        reference_scores: returns that score 0 and 100; None: those recorded in the first dataset.
        success_key: see `EnvironmentSpec`.
        observation_keys: keys of a Dict observation to use, in this order; empty: those of the goal
            mode, which are all of them for `stored`.
        appended: ids of data that were added later; they are read after the others, but do not
            affect environment, normalisation and reward scale.

    Raises:
        DatasetError: a dataset is missing, or does not fit the goal mode or the other datasets.
        EnvironmentMismatchError: the environment is unknown.
    """
    if not dataset_ids:
        raise DatasetError("No dataset is named; give the Minari id of at least one.")
    if goal == "stored" and after_success == "drop":
        raise DatasetError(
            "after_success is `drop`, but in the goal mode `stored` nothing tells success; "
            "use the goal mode `evaluation` or `observed`, or `keep`."
        )
    own, dataset_ids = len(dataset_ids), (*dataset_ids, *appended)
    datasets = [open_dataset(each) for each in dataset_ids]
    # Raises here if there are no goals, before they are looked for below.
    observed(datasets[0], goal, observation_keys)
    spec, target = _evaluation(datasets[:own], goal, environment, environment_kwargs or {}, trust)
    radius = _radius(spec, needed=after_success == "drop") if goal == "observed" else None
    sources = [
        Source(each, goal, target, radius, after_success, observation_keys) for each in datasets
    ]
    _require_alike(dataset_ids, sources)
    if by_range := reward_scale == "return_range":
        reward_scale = _return_range_scale(sources[:own])
    leaves = sources[0].leaves
    spec = dataclasses.replace(
        spec,
        observation_keys=sources[0].keys,
        observation_leaves=leaves,
        action_shape=None if len(sources[0].action_shape) == 1 else sources[0].action_shape,
        reward_scale=reward_scale,
        reward_shift=reward_shift,
        action_low=tuple(sources[0].action_range.low.tolist()),
        action_high=tuple(sources[0].action_range.high.tolist()),
        success_key=success_key,
    )
    scores = reference_scores or _reference_scores(datasets[0].storage.metadata)
    labels = (_label(name, each) for name, each in zip(dataset_ids, datasets, strict=True))
    return OfflineDataset(
        dataset_ids,
        sources,
        environment=spec,
        goal=goal,
        num_episodes=sum(int(each.total_episodes) for each in datasets),
        reference_scores=scores,
        label=" + ".join(dict.fromkeys(labels)),
        notes=_notes(datasets, spec, scores, relabelled=by_range and goal == "evaluation"),
        num_appended=len(appended),
    )


def check_fits(dataset: OfflineDataset, environment: Environment) -> None:
    """Raises `EnvironmentMismatchError` unless data and environment have the same spaces.

    Action bounds are not compared here, but when the environment is made.
    """
    for name, recorded, actual in (
        ("observations", dataset.layout.observation_dim, environment.observation_dim),
        ("actions", dataset.layout.action_dim, environment.action_dim),
    ):
        if recorded != actual:
            raise EnvironmentMismatchError(
                f"The {name} of {dataset.id} (goal mode {dataset.goal}) have {recorded} values, "
                f"but those of {environment.spec.id} have {actual}; choose the dataset's own "
                "environment, or another goal mode."
            )
    bounds = zip(dataset.observation_bounds, environment.observation_bounds, strict=True)
    places = [np.flatnonzero(~np.isclose(recorded, actual)) for recorded, actual in bounds]
    if (place := next((int(each[0]) for each in places if len(each)), None)) is not None:
        ranges = (
            "[{:g}, {:g}]".format(*(end[place] for end in each.observation_bounds))
            for each in (dataset, environment)
        )
        raise EnvironmentMismatchError(
            f"Value {place} of the observations of {dataset.id} lies in {next(ranges)}, but in "
            f"{environment.spec.id} in {next(ranges)}; choose the dataset's own environment, "
            "or wrap this one so that it observes the same."
        )


def _evaluation(
    datasets: Sequence[minari.MinariDataset],
    goal: GoalMode,
    environment: EnvironmentSpec | None,
    arguments: Mapping[str, Any],
    trust: bool,
) -> tuple[EnvironmentSpec, Goal | None]:
    """The environment to evaluate in, and the goal that rewards are relabelled to, if any.

    The environment's id is empty if the data record none and the goal mode is `stored`.
    """
    if environment is None and goal == "stored" and not any(map(records_environment, datasets)):
        return EnvironmentSpec(""), None
    if environment is None:
        environment, *others = [recorded_environment(each, trust=trust) for each in datasets]
        for dataset, other in zip(datasets[1:], others, strict=True):
            if other != environment:
                raise DatasetError(
                    f"{dataset.id} belongs to {_described(other)}, but {datasets[0].id} to "
                    f"{_described(environment)}; read them apart, or name one environment for "
                    "both in the configuration (environment)."
                )
    kwargs = {**environment.kwargs, **arguments}
    environment = dataclasses.replace(environment, kwargs=kwargs)
    if goal == "evaluation":
        return evaluation_goal(environment)
    if goal == "observed" and environment.kwargs.get("continuing_task", False):
        return ends_at_success(environment), None
    return environment, None


def _described(environment: EnvironmentSpec) -> str:
    """An environment's id, arguments and wrappers, for messages."""
    wrappers = [f"{each.name} {dict(each.kwargs or {})}" for each in environment.wrappers]
    inside = f" in {', '.join(wrappers)}" if wrappers else ""
    return f"{environment.id} {dict(environment.kwargs)}{inside}"


def _radius(spec: EnvironmentSpec, *, needed: bool) -> float | None:
    """Success radius of an episode's own goal; None if the environment does not define one.

    Raises:
        DatasetError: a radius is needed, but not defined.
    """
    with closing(environments.make(spec)) as environment:
        return required_radius(environment) if needed else success_radius(environment)


def _require_alike(dataset_ids: Sequence[str], sources: Sequence[Source]) -> None:
    first = sources[0]
    for name, source in zip(dataset_ids[1:], sources[1:], strict=True):
        if difference := _difference(source, first):
            raise DatasetError(
                f"{name} has other observations or actions than {dataset_ids[0]} ({difference}); "
                "they cannot be read as one dataset."
            )


def _difference(source: Source, first: Source) -> str:
    """How two sources differ, in words; empty if they are alike."""
    widths = {
        "observations": (source.layout.observation_dim, first.layout.observation_dim),
        "actions": (source.layout.action_dim, first.layout.action_dim),
    }
    told = [
        f"{name} of {own} values against {other}"
        for name, (own, other) in widths.items()
        if own != other
    ]
    if not told and source.leaves != first.leaves:
        told.append("observations of other parts")
    ranges = zip(source.action_range, first.action_range, strict=True)
    if not told and not all(np.array_equal(*pair) for pair in ranges):
        told.append("other bounds of actions")
    return " and ".join(told)


def _return_range_scale(sources: Sequence[Source]) -> float:
    returns = np.concatenate([each.returns() for each in sources])
    spread = float(returns.max() - returns.min())
    # Of float32 rewards, sums that should be equal differ by about 1e-7 of their size.
    if not spread > 1e-6 * np.abs(returns).max():
        raise DatasetError(
            f"All episodes have the return {returns[0]:g}, so that its range cannot scale the "
            "rewards; give reward_scale a number."
        )
    return RETURN_RANGE / spread


def _label(dataset_id: str, dataset: minari.MinariDataset) -> str:
    return str(dataset.storage.metadata.get("iqlft", {}).get("label", dataset_id))


def _reference_scores(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """The recorded returns that score 0 and 100; None if they are missing or in the wrong order."""
    low, high = _recorded_scores(metadata)
    return None if low is None or high is None or low >= high else (float(low), float(high))


def _recorded_scores(metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    return metadata.get("ref_min_score"), metadata.get("ref_max_score")


def _notes(
    datasets: Sequence[minari.MinariDataset],
    environment: EnvironmentSpec,
    scores: tuple[float, float] | None,
    *,
    relabelled: bool,
) -> tuple[str, ...]:
    in_a_map = "maze_map" in environment.kwargs
    notes = [
        f"The evaluation map recorded in {each.id} mirrors the map in which its data were made; "
        "evaluations use the latter."
        for each in datasets
        if in_a_map and has_mirrored_map(each)
    ]
    if environment.id == FIXED_GOAL_MAZE:
        notes.append(
            "This is a maze of Gymnasium-Robotics, another benchmark than D4RL's: another ant, "
            "other goals and other data (docs/datasets.md); scores do not compare."
        )
    if relabelled:
        notes.append(
            "The rewards are scaled by the range of the recorded returns, but are those of another "
            "goal."
        )
    ids = [each.id for each in datasets]
    notes += [
        f"{each} is learned from {ids.count(each)} times." for each in {*ids} if ids.count(each) > 1
    ]
    low, high = _recorded_scores(datasets[0].storage.metadata)
    if scores is None and low is not None and high is not None:
        notes.append(
            f"The recorded reference scores, {low:g} and {high:g}, cannot be used, because the "
            "first must be lower: returns are not normalised. --reference-scores LOW HIGH sets "
            "others."
        )
    return tuple(notes)
