"""Does a dataset have the right form, and does it resemble D4RL's?

The bands are those measured with D4RL's own ant policy under MuJoCo 4 and D4RL's procedure,
widened by about a third for the chance of a small set and for the slower, noisier shipped gait:
data made by an ant that is much better or worse make another benchmark.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium import spaces

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.recorded import evaluation_goal, open_dataset, recorded_environment
from iqlft.datasets.tasks import TASKS

if TYPE_CHECKING:
    import minari

    from iqlft.datasets.recorded import Goal

Band = tuple[float, float]

_EXACT: Band = (0, 0)
_ANYTHING: Band = (-np.inf, np.inf)
_FORM = {
    "episodes without T+1 observations": _EXACT,
    "arrays of an unexpected dtype": _EXACT,
    "values that are not finite": _EXACT,
    "episodes of another length": _EXACT,
    "jumps over 0.5 m in one step": _EXACT,
}
_COMMON = _FORM | {
    "median first hit (steps)": (130, 400),
    "metres per step": (0.07, 0.11),
    "clipped action values": (0.05, 0.45),
    "upside down at the end": (0, 0.45),
}
_UMAZE = _COMMON | {
    "episodes reaching their goal": (0.85, 1),
    "episodes touching the evaluation goal": (0.8, 1),
    "rewarded transitions": (0.01, 0.9),
}
_OTHERS = _COMMON | {
    "episodes reaching their goal": (0.5, 0.97),
    "episodes touching the evaluation goal": (0.03, 0.3),
    "rewarded transitions": (0.0003, 0.05),
}
BANDS: dict[str, dict[str, Band]] = {
    task.dataset_id: {
        "antmaze-umaze": _UMAZE,
        "antmaze-umaze-diverse": _OTHERS
        | {"episodes touching the evaluation goal": _ANYTHING, "rewarded transitions": _ANYTHING},
        "antmaze-corner": _FORM,
    }.get(task.name, _OTHERS)
    for task in TASKS.values()
}
"""What each generated dataset should look like."""


class Finding(NamedTuple):
    """One line of an audit.

    Attributes:
        name: what was measured.
        value: the measurement.
        band: (least, greatest) that is expected, or None where nothing is.
        verdict: `ok`, `outside`, or `-` where there is no band.
    """

    name: str
    value: float
    band: Band | None
    verdict: str


def check(dataset_id: str) -> list[Finding]:
    """Measures a goal-maze dataset and compares it with D4RL's figures.

    Args:
        dataset_id: Minari id of a local dataset with `achieved_goal` and `desired_goal`.

    Raises:
        DatasetError: the dataset is absent, or has no goals.
    """
    dataset = open_dataset(dataset_id)
    space = dataset.observation_space
    if not isinstance(space, spaces.Dict) or "achieved_goal" not in space.spaces:
        raise DatasetError(f"{dataset_id} has no goals; only maze datasets can be checked so far.")
    _, target = evaluation_goal(recorded_environment(dataset, 1, 0))
    columns: dict[str, list[float]] = defaultdict(list)
    for episode in dataset.iterate_episodes():
        for name, value in _measure(dataset, episode, target).items():
            columns[name].append(value)
    bands = BANDS.get(dataset_id, _FORM)
    return [
        _judge(name, _summarise(name, values), bands.get(name)) for name, values in columns.items()
    ]


def _measure(
    dataset: minari.MinariDataset, episode: minari.EpisodeData, target: Goal
) -> dict[str, float]:
    """One episode's share of every finding."""
    positions, goals = (episode.observations[key] for key in ("achieved_goal", "desired_goal"))
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    hits = np.linalg.norm(positions - goals, axis=-1) <= target.radius
    touches = target.reached(positions[1:])
    limit = None if dataset.env_spec is None else dataset.env_spec.max_episode_steps
    orientation = episode.observations["observation"][-1, 1:5]
    return {
        "episodes without T+1 observations": len(positions) != len(episode.rewards) + 1,
        "arrays of an unexpected dtype": _wrong_dtypes(dataset, episode),
        "values that are not finite": sum(
            np.count_nonzero(~np.isfinite(array))
            for array in (*episode.observations.values(), episode.actions, episode.rewards)
        ),
        "episodes of another length": limit is not None and len(episode.rewards) != limit,
        "jumps over 0.5 m in one step": np.count_nonzero(steps > 0.5),
        "episodes reaching their goal": hits.any(),
        "median first hit (steps)": hits.argmax() if hits.any() else np.nan,
        "metres per step": steps.mean(),
        "episodes touching the evaluation goal": touches.any(),
        "rewarded transitions": touches.mean(),
        "clipped action values": np.mean(np.abs(episode.actions) >= 1),
        # The z axis of the torso points down: 1 - 2 (qx^2 + qy^2) < 0 for the unit quaternion.
        "upside down at the end": np.square(orientation[1:3]).sum()
        > 0.5 * np.square(orientation).sum(),
    }


def _wrong_dtypes(dataset: minari.MinariDataset, episode: minari.EpisodeData) -> int:
    recorded = [*(episode.observations[key] for key in dataset.observation_space), episode.actions]
    declared = [*dataset.observation_space.values(), dataset.action_space]
    return sum(a.dtype != s.dtype for a, s in zip(recorded, declared, strict=True))


def _summarise(name: str, values: list[float]) -> float:
    if name == "median first hit (steps)":
        return float(np.nanmedian(values)) if not np.isnan(values).all() else np.nan
    return float(np.sum(values) if name in _FORM else np.mean(values))


def _judge(name: str, value: float, band: Band | None) -> Finding:
    if band is None or band == _ANYTHING:
        return Finding(name, value, None, "-")
    return Finding(name, value, band, "ok" if band[0] <= value <= band[1] else "outside")
