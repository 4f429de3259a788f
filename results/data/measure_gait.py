"""Measures how an ant policy walks through a maze: `python results/data/measure_gait.py GAIT.npz`.

It generates episodes of a task as `iqlft data make` does, keeps none of them, and prints what
decides how the data are learned from: beside what `iqlft data check` measures, how often the ant
falls, whether it ever gets up, and how long it is stuck.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iqlft.datasets.antmaze.episodes import Episode, EpisodeMaker
from iqlft.datasets.antmaze.gait import GAITS, LATEST, load_gait
from iqlft.datasets.antmaze.tasks import find_task
from iqlft.datasets.audit.measures import upside_down

STUCK_STEPS, STUCK_METRES = 50, 0.7
"""An ant on its feet that gets less far in so many steps is stuck."""


class Walk(NamedTuple):
    """What one episode shows.

    Attributes:
        first_hit: step of the first success; None where there is none.
        metres: of the way up to there.
        steps: of that way.
        rewarded: steps on the commanded goal.
        fallen: whether the ant lay on its back on that way.
        upside_down: whether it does so at the end.
        falls: how often it fell in the whole episode.
        rises: how often it got up.
        on_feet: steps on its feet.
        stuck: steps of the way on which it is stuck.
        at_bounds: share of action values at their bounds.
    """

    first_hit: int | None
    metres: float
    steps: int
    rewarded: int
    fallen: bool
    upside_down: bool
    falls: int
    rises: int
    on_feet: int
    stuck: int
    at_bounds: float


def follow(episode: Episode) -> Walk:
    """Measures an episode."""
    positions, down = episode.qpos[:, :2], upside_down(episode.qpos[:, 3:7])
    hits = np.flatnonzero(episode.success)
    way = int(hits[0]) if len(hits) else len(episode.actions)
    ahead = positions[STUCK_STEPS : way + 1] - positions[: max(0, way + 1 - STUCK_STEPS)]
    slow = np.hypot(*ahead.T) < STUCK_METRES
    return Walk(
        first_hit=way if len(hits) else None,
        metres=float(np.hypot(*np.diff(positions[: way + 1], axis=0).T).sum()),
        steps=way,
        rewarded=int(episode.success[1:].sum()),
        fallen=bool(down[:way].any()),
        upside_down=bool(down[-1]),
        falls=int((down[1:] & ~down[:-1]).sum()),
        rises=int((~down[1:] & down[:-1]).sum()),
        on_feet=int((~down).sum()),
        stuck=int((slow & ~down[: len(slow)]).sum()),
        at_bounds=float((np.abs(episode.actions) >= 1).mean()),
    )


def describe(walks: list[Walk], episode_steps: int) -> dict[str, float]:
    """The figures of the tables in `results/data/README.md`."""
    hits = [walk.first_hit for walk in walks if walk.first_hit is not None]
    way = sum(walk.steps for walk in walks)
    return {
        "reach": len(hits) / len(walks),
        "first hit (median)": float(np.median(hits)) if hits else float("nan"),
        "metres a step on the way": sum(walk.metres for walk in walks) / max(way, 1),
        "rewarded": sum(walk.rewarded for walk in walks) / (len(walks) * episode_steps),
        "upside down at the end": float(np.mean([walk.upside_down for walk in walks])),
        "falls in 1,000 steps on its feet": 1000
        * sum(walk.falls for walk in walks)
        / sum(walk.on_feet for walk in walks),
        "times it got up": float(sum(walk.rises for walk in walks)),
        "fallen before the goal": float(np.mean([walk.fallen for walk in walks])),
        "stuck": sum(walk.stuck for walk in walks) / max(way, 1),
        "at bounds": float(np.mean([walk.at_bounds for walk in walks])),
    }


def main() -> None:
    """Runs the measurement from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gait", type=Path, nargs="?", default=GAITS[LATEST])
    parser.add_argument("--task", default="antmaze-umaze")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--noise", type=float, help="of the actions; none: the gait's own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    task, gait = find_task(options.task), load_gait(options.gait)
    noise = gait.noise if options.noise is None else options.noise
    maker = EpisodeMaker(task, gait, noise, options.seed)
    walks = [follow(maker.run(index)) for index in range(options.episodes)]
    print(f"{gait.name}, noise {noise:g}, {options.episodes} episodes of {task.name}")
    for name, value in describe(walks, task.episode_steps).items():
        print(f"  {name:34s}{value:10.3f}")


if __name__ == "__main__":
    main()
