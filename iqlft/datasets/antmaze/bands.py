"""D4RL's figures: what the datasets made by its procedure should look like.

Measured on whole sets that D4RL's own ant policy walked under MuJoCo 4 by D4RL's procedure
(`results/data/README.md`), and rounded outwards: data made by an ant that is much better or worse
make another benchmark.
"""

from __future__ import annotations

from iqlft.datasets.antmaze.gait import GAITS
from iqlft.datasets.antmaze.tasks import TASKS
from iqlft.datasets.audit.findings import Band

REACH = "share of episodes that reach their goal"
"""How many episodes come within the success radius of their commanded goal."""
FIRST_HIT = "median first hit (steps)"
"""When those that do are there for the first time."""
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
"""How often the ant falls; it does not get up where these are no more than the episodes."""
STUCK = "share of steps to the goal that are stuck"
"""Steps on the way to the goal on which the ant, on its feet, hardly gets further."""
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
"""Of all mazes."""
_FAR = {FIRST_HIT: Band(150, 320)}
"""Where start and goal are far apart."""
_UMAZE = {REACH: Band(0.7, 0.9), TOUCH: Band(0.7, 0.9), REWARDED: Band(0.2, 0.3)}
"""Where there is one goal for all, of which D4RL's ant misses almost a quarter."""
_NEAR = {REACH: Band(0.85), REWARDED: Band(0.03, 0.07)}
"""Where the goal is hardly missed, for it is near."""
_HARD = {REACH: Band(0.6, 0.85), TOUCH: Band(0.03, 0.25)}
"""In the medium and the large maze."""

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
"""The band of a measurement, by the dataset's id and the measurement's name.

Start and goal of umaze-diverse are anywhere among seven cells, so that D4RL's own policy reaches
.91 of its goals, half of them within 50 steps: nothing is asked of the first hit there, nor of how
often the evaluation goal is touched; and nothing at all of the small maze for demonstrations.
"""
