"""The best policy is kept, and goes with its evaluation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.runs.best import BEST, cut_best, keep_if_best, settle_best
from iqlft.runs.curves import read_run
from iqlft.runs.policy import load_policy
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec

MakeRun = Callable[..., Path]
MakeWeights = Callable[..., ActorWeights]
Evaluate = Callable[[int], None]
SCORES = [0.2, 0.5, 0.4, 0.8, 0.9]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run(offline=SCORES)


@pytest.fixture
def evaluate(run: Path, make_weights: MakeWeights) -> Evaluate:
    """Does what the learner does when one of the run's evaluations comes."""
    lines = (run / "curves.csv").read_text().splitlines(keepends=True)
    environment = EnvironmentSpec("Pendulum-v1", action_low=(-2.0,), action_high=(2.0,))

    def do(index: int) -> None:
        (run / "curves.csv").write_text("".join(lines[: 2 + index]))
        keep_if_best(run, {"task": "x"}, read_run(run).rows[-1], make_weights(3, 1), environment)

    return do


def kept(run: Path) -> float | None:
    """The success of the kept policy."""
    if not (run / BEST).is_dir():
        return None
    success: float = load_policy(run / BEST).about["score"]["success"]
    return success


def cut(run: Path, evaluations: int) -> None:
    """Cuts a run back to its first evaluations."""
    lines = (run / "curves.csv").read_text().splitlines(keepends=True)
    (run / "curves.csv").write_text("".join(lines[: 1 + evaluations]))
    cut_best(run)


def test_only_a_better_policy_replaces_it(run: Path, evaluate: Evaluate) -> None:
    found = []
    for index in range(4):
        evaluate(index)
        found.append(kept(run))
    assert found == [0.2, 0.5, 0.5, 0.8]


def test_what_a_killed_run_goes_back_behind_is_forgotten(run: Path, evaluate: Evaluate) -> None:
    evaluate(1)
    settle_best(run)  # Here is a checkpoint.
    evaluate(3)
    evaluate(4)
    assert kept(run) == 0.9
    cut(run, 3)
    assert kept(run) == 0.5
    cut(run, 1)
    assert kept(run) is None


def test_without_one_a_policy_that_is_worse_than_another_evaluation_is_not_the_best(
    run: Path, evaluate: Evaluate
) -> None:
    evaluate(2)
    assert kept(run) is None  # 0.5 came before.
    evaluate(3)
    assert kept(run) == 0.8


def test_of_two_kills_the_second_finds_the_best_of_before(run: Path, evaluate: Evaluate) -> None:
    evaluate(0)
    settle_best(run)
    evaluate(1)
    cut_best(run)  # Killed behind the next checkpoint, and resumed from it.
    evaluate(3)
    cut(run, 3)
    assert kept(run) == 0.5


def test_after_a_checkpoint_there_is_one_alone(run: Path, evaluate: Evaluate) -> None:
    evaluate(1)
    evaluate(3)
    settle_best(run)
    assert [path.name for path in run.glob("best*")] == [BEST]
    cut(run, 4)
    assert kept(run) == 0.8
