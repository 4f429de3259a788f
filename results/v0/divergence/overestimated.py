"""Finds where V is past every possible return.

`python results/v0/divergence/overestimated.py NAME=RUN [CHECKPOINT]` prints a line of
`overestimated.md`: mean V over the run's whole dataset in a checkpoint (the one at which
pretraining ended unless another is named), how many transitions have V > 30, and of which episodes
most, the greatest V, and how many transitions and episodes have an ant on its back near the goal.
"""

import sys
from pathlib import Path

import gymnasium
import minari
import numpy as np
import torch

import iqlft
from iqlft.analysis.restored import end_of_pretraining, restored
from iqlft.runs.folder import Run
from iqlft.runs.policy import load_policy

FAR_ABOVE = 30.0
NEAR = 4.5
"""Metres from the goal."""


def line(name: str, run: Run, checkpoint: str) -> str:
    """The line of one run."""
    critics = restored(run, load_policy(run.folder), checkpoint)
    dataset_id = run.meta["dataset"]["id"]
    dataset = iqlft.load_dataset(dataset_id)
    observations, _, rewards = dataset.layout.unpack(torch.from_numpy(dataset.rows()))[:3]
    recorded = minari.load_dataset(dataset_id)
    details = recorded.storage.get_episode_metadata(recorded.episode_indices)
    lengths = [int(each["total_steps"]) for each in details]
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    with torch.no_grad():
        values = [critics.values(each[None])[0].numpy() for each in observations.split(65536)]
    value = np.concatenate(values)

    states = observations.numpy()
    environment = gymnasium.make(dataset.environment.id, **dataset.environment.kwargs)
    goal = environment.unwrapped.evaluation_goal
    near = np.hypot(*(states[:, :2] - goal).T) < NEAR
    # z of the torso's own upward axis, from its quaternion (w, x, y, z) at 3:7.
    on_its_back = 1 - 2 * (states[:, 4] ** 2 + states[:, 5] ** 2) < 0
    there = on_its_back & near & (rewards.numpy() < 0)
    high = value > FAR_ABOVE
    counts = np.bincount(episodes[high], minlength=1)
    most = [f"{counts[i]} of {i}" for i in np.argsort(-counts)[:3] if counts[i]]
    return (
        f"| {name} | {int(checkpoint[:9]):,} | {value.mean():.1f} "
        f"| {high.sum():,} ({', '.join(most) or '-'}) "
        f"| {value.max():.0f} | {there.sum():,} of {len(set(episodes[there]))} |"
    )


if __name__ == "__main__":
    title, _, path = sys.argv[1].partition("=")
    opened = Run.open(Path(path))
    print(line(title, opened, sys.argv[2] if len(sys.argv) > 2 else end_of_pretraining(opened)))
