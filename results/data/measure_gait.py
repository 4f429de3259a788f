"""Measures how an ant policy walks through a maze: `python results/data/measure_gait.py GAIT.npz`.

It generates episodes of a task as `iqlft data make` does, keeps none of them, and prints what
matters for learning from them: besides what `iqlft data check` measures, how often the ant falls,
whether it ever gets up, and how long it is stuck.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iqlft.datasets.antmaze.episodes import Episode, EpisodeMaker
from iqlft.datasets.antmaze.gait import GAITS, LATEST, load_gait
from iqlft.datasets.antmaze.tasks import find_task
from iqlft.datasets.audit.ant_walk import AntWalk, follow_ant


class Walk(NamedTuple):
    """Measurements of one episode.

    Attributes:
        first_hit: step of the first success; None where there is none.
        metres: length of the way up to there.
        rewarded: steps on the commanded goal.
        ant: falls, and being stuck.
        at_bounds: share of action values at their bounds.
    """

    first_hit: int | None
    metres: float
    rewarded: int
    ant: AntWalk
    at_bounds: float


def follow(episode: Episode) -> Walk:
    """Measures an episode."""
    positions = episode.qpos[:, :2]
    hits = np.flatnonzero(episode.success)
    first_hit = int(hits[0]) if len(hits) else None
    ant = follow_ant(positions, episode.qpos[:, 3:7], first_hit)
    return Walk(
        first_hit=first_hit,
        metres=float(np.hypot(*np.diff(positions[: ant.steps + 1], axis=0).T).sum()),
        rewarded=int(episode.success[1:].sum()),
        ant=ant,
        at_bounds=float((np.abs(episode.actions) >= 1).mean()),
    )


def describe(walks: list[Walk], episode_steps: int) -> dict[str, float]:
    """The figures of the tables in `results/data/README.md`."""
    hits = [walk.first_hit for walk in walks if walk.first_hit is not None]
    way = sum(walk.ant.steps for walk in walks)
    return {
        "reach": len(hits) / len(walks),
        "first hit (median)": float(np.median(hits)) if hits else float("nan"),
        "metres a step on the way": sum(walk.metres for walk in walks) / max(way, 1),
        "rewarded": sum(walk.rewarded for walk in walks) / (len(walks) * episode_steps),
        "upside down at the end": float(np.mean([walk.ant.upside_down for walk in walks])),
        "falls in 1,000 steps on its feet": 1000
        * sum(walk.ant.falls for walk in walks)
        / sum(walk.ant.on_feet for walk in walks),
        "times it got up": float(sum(walk.ant.rises for walk in walks)),
        "fallen before the goal": float(np.mean([walk.ant.fallen for walk in walks])),
        "stuck": sum(walk.ant.stuck for walk in walks) / max(way, 1),
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
