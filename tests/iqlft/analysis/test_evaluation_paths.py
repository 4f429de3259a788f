"""Paths are those of the evaluations that are in `curves.csv`."""

import csv
from pathlib import Path

import numpy as np

from iqlft.analysis.evaluation_paths import evaluation_paths
from iqlft.runs.policy import load_policy
from iqlft.training.evaluation import FIRST_SEED
from iqlft_workers.actor import GaussianActor
from iqlft_workers.environment import Environment
from iqlft_workers.rollout import evaluate_episode


def test_a_path_is_the_episode_that_a_worker_evaluates(finetuned: Path) -> None:
    policy = load_policy(finetuned)
    seeds = [FIRST_SEED, FIRST_SEED + 1]
    paths = evaluation_paths(policy, slice(0, 2), seeds)
    environment = Environment(policy.environment)
    results = [evaluate_episode(environment, GaussianActor(policy.weights), s) for s in seeds]
    environment.close()
    for path, result in zip(paths, results, strict=True):
        assert path.success == result.success
        assert len(path.positions) == result.length + 1
        assert tuple(path.positions[0]) == result.start
        assert tuple(path.positions[-1]) == result.end
    with (finetuned / "curves.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert int(last["episodes"]) == len(seeds)
    assert np.mean([path.success for path in paths]) == float(last["success"])
