"""Bands of measurements that datasets made by D4RL's procedure should fall into.

They were measured on whole datasets walked by D4RL's own ant policy under MuJoCo 4 by D4RL's
procedure (`results/data/README.md`), and rounded outwards: data of an ant that is much better or
worse would be another benchmark.
"""

from __future__ import annotations

from iqlft.datasets.antmaze.gait import GAITS
from iqlft.datasets.antmaze.tasks import TASKS
from iqlft.datasets.audit.findings import Band

REACH = "share of episodes that reach their goal"
"""How many episodes come within the success radius of their commanded goal."""
FIRST_HIT = "median first hit (steps)"
"""Step at which those episodes first do."""
PACE = "metres per step"
"""How fast the ant walks."""
TOUCH = "share of episodes that touch the evaluation goal"
"""How many episodes have a reward once rewards are relabelled."""
REWARDED = "share of transitions rewarded there"
"""How many transitions have a reward once rewards are relabelled."""
UPSIDE_DOWN = "share of episodes that end upside down"
"""How many episodes end with the ant on its back."""
FALLEN = "share of episodes with a fall before the goal"
"""How many episodes see the ant on its back before it has reached its goal."""
FALLS = "falls in 1,000 steps on its feet"
"""How often the ant falls; with no more falls than episodes, it does not get up again."""
STUCK = "share of steps to the goal that are stuck"
"""Steps on the way to the goal at which the ant, though on its feet, hardly moves on."""
AT_BOUNDS = "share of action values at their bounds"
"""How saturated the ant's policy is."""

_EVERY = {
    PACE: Band(0.075, 0.11),
    UPSIDE_DOWN: Band(0.15, 0.45),
    FALLEN: Band(0.02, 0.3),
    FALLS: Band(0.25, 0.6),
    STUCK: Band(0.1, 0.35),
    AT_BOUNDS: Band(0.27, 0.36),
}
"""For all mazes."""
_FAR = {FIRST_HIT: Band(150, 320)}
"""For tasks in which start and goal are far apart."""
_UMAZE = {REACH: Band(0.7, 0.9), TOUCH: Band(0.7, 0.9), REWARDED: Band(0.2, 0.3)}
"""For the task with one goal for all episodes; D4RL's ant misses it in almost a quarter."""
_NEAR = {REACH: Band(0.85), REWARDED: Band(0.03, 0.07)}
"""For the task whose goals are near and hardly ever missed."""
_HARD = {REACH: Band(0.6, 0.85), TOUCH: Band(0.03, 0.25)}
"""For the medium and the large maze."""

BANDS: dict[str, dict[str, Band]] = {
    TASKS[name].dataset_id(version): bands
    for version in GAITS
    for name, bands in {
        "antmaze-umaze": _EVERY | _FAR | _UMAZE,
        "antmaze-umaze-diverse": _EVERY | _NEAR,
        "antmaze-medium-play": _EVERY | _FAR | _HARD | {REWARDED: Band(0.002, 0.008)},
        "antmaze-medium-diverse": _EVERY | _FAR | _HARD,
        "antmaze-large-play": _EVERY | _FAR | _HARD | {REWARDED: Band(0.01, 0.05)},
        "antmaze-large-diverse": _EVERY | _FAR | _HARD,
    }.items()
}
"""The band of each measurement, by the dataset's id and the measurement's name.

Start and goal of umaze-diverse are anywhere among seven cells, so that D4RL's own policy reaches
0.91 of its goals, half of them within 50 steps: it has no bands for the first hit and for touching
the evaluation goal. The small maze for demonstrations has no bands at all.
"""
