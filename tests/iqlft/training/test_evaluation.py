"""Evaluations keep their order and survive a checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iqlft.gateway.gateway import Gateway
from iqlft.runs.folder import Run
from iqlft.runs.policy import save_policy
from iqlft.runs.scores import Score
from iqlft.training.evaluate import evaluation
from iqlft.training.evaluation import FIRST_SEED, Evaluator, Scoring
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.observation import EnvironmentMismatchError

MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]
PLACES = "offline,11,0", "online,12,40"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "task" / "run", {}, {})


def collect(evaluator: Evaluator, count: int) -> list[Score]:
    scores: list[Score] = []
    for _ in range(200):
        if len(scores) < count and (score := evaluator.poll(0.1)) is not None:
            scores.append(score)
    return scores


def test_evaluations_under_way_at_a_checkpoint_are_repeated_with_the_same_results(
    serve: Serve, make_weights: MakeWeights, run: Run
) -> None:
    gateway, _ = serve(1)
    first = Evaluator(gateway, run, 2, Scoring(success=False, reference_scores=(-2000.0, 0.0)))
    assert first.poll() is None
    one, two = (make_weights(3, 1, seed=seed, version=10 + seed) for seed in (1, 2))
    first.begin(one, "offline", 0, 1.5)
    first.begin(two, "online", 40, 2.5)
    tensors, data = first.state()
    assert first.busy
    expected = collect(first, 2)
    assert not first.busy
    assert first.state() == ({}, [])
    assert [(score.updates, score.env_steps) for score in expected] == [(11, 0), (12, 40)]
    assert expected[0].success is None
    assert expected[0].normalized_score == pytest.approx(
        100 * (expected[0].mean_return + 2000) / 2000
    )

    # What was begun is repeated as it was, whatever evaluations are like from now on.
    second = Evaluator(gateway, run, 0, Scoring(success=False, reference_scores=(-2000.0, 0.0)))
    second.restore(tensors, data)
    assert collect(second, 2) == expected
    run.close()
    rows = (run.folder / "curves.csv").read_text().splitlines()[1:]
    assert rows[:2] == rows[2:]
    assert rows[0].startswith("offline,11,0,1.5,,")
    episodes = (run.folder / "evaluations.csv").read_text().splitlines()[1:]
    assert episodes[:4] == episodes[4:]
    places = [",".join(each.split(",")[:4]) for each in episodes[:4]]
    assert places == [f"{place},{FIRST_SEED + i}" for place in PLACES for i in range(2)]
    returns = [float(each.split(",")[4]) for each in episodes[:4]]
    means = [each.mean_return for each in expected]
    assert np.mean(np.reshape(returns, (2, 2)), 1) == pytest.approx(means)


def test_a_score_is_the_share_of_successes_and_the_mean_return() -> None:
    results = [
        EpisodeResult(
            seed=FIRST_SEED, episode_return=episode_return, length=3, success=success,
            start=(0.0, 0.0), end=(0.0, 0.0), first_hit=-1,
        )
        for episode_return, success in ((1.0, True), (0.0, False), (0.5, True), (0.0, False))
    ]  # fmt: skip
    assert Scoring(True, (0.0, 1.0)).summarize(results) == (0.5, 0.375, pytest.approx(37.5))
    assert Scoring(False, None).summarize(results) == (None, 0.375, None)
    silent = [each._replace(success=None) for each in results]
    assert Scoring(True, None).summarize(silent) == (None, 0.375, None)
    assert Scoring(True, None).summarize([*results, *silent])[0] == 0.25


@pytest.mark.parametrize("steps", [0, 3])
def test_a_policy_of_data_without_an_environment_is_refused_before_workers_start(
    steps: int, make_weights: MakeWeights, tmp_path: Path
) -> None:
    save_policy(tmp_path, make_weights(3, 1), EnvironmentSpec(""), {})
    with pytest.raises(EnvironmentMismatchError, match="record no environment"):
        evaluation(tmp_path, 2, 1, max_episode_steps=steps)
