"""Values that no return can reach are told, others are not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Spec, algorithm_class
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.config.layers import with_settings
from iqlft.config.settings import PretrainConfig
from iqlft.datasets.value_bounds import Range
from iqlft.training.divergence import (
    bound_targets,
    divergence,
    impossible_share,
    possible_returns,
)
from iqlft.training.pretrain import pretrain
from iqlft.training.replay import Replay
from iqlft_workers.transition import RowLayout


@pytest.mark.parametrize(
    ("rewards", "discount", "expected"),
    [
        (Range(-1, 0), 0.99, (-100, 0)),
        (Range(0, 1), 0.9, (0, 10)),
        (Range(-2, 5), 0.5, (-4, 10)),
        (Range(-3, -1), 0.5, (-6, -1)),
        (Range(0, 1), 1.0, (0, math.inf)),
    ],
)
def test_returns_lie_between_the_rewards_sums(
    rewards: Range, discount: float, expected: tuple[float, float]
) -> None:
    assert possible_returns(rewards, discount) == pytest.approx(expected)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"dataset/q": -99.0},
        {"dataset/q": 2.0, "new/q": -104.0},
        {"dataset/q": -50.0, "dataset/impossible_share": 0.009},
    ],
)
def test_what_is_possible_or_nearly_so_is_not_told(row: dict[str, float]) -> None:
    assert divergence(row, Range(-100, 0)) == (0, "")


def test_what_is_impossible_is_told_with_its_bounds() -> None:
    row = {"dataset/q": -29.0, "new/q": 7.95, "new/impossible_share": 0.5}
    level, told = divergence(row, Range(-100, 0))
    assert level == 2
    assert told.startswith("Q of new transitions is 7.95 on average, where no return lies outside ")
    assert "[-100, 0]" in told
    assert "Q of dataset" in divergence({"dataset/q": -106.0}, Range(-100, 0)).sentence


def test_a_share_of_impossible_values_is_told_before_their_mean_is_one() -> None:
    q = torch.full((1024,), -50.0)
    q[:6], q[6:12] = 4.9, -104.9  # Within the margin.
    assert impossible_share(q, Range(-100, 0)) == 0
    q[:6], q[6:13] = 500.0, -106.0
    assert impossible_share(q, Range(-100, 0)) == 13 / 1024
    row = {"new/q": float(q.mean()), "new/impossible_share": 13 / 1024}
    level, told = divergence(row, Range(-100, 0))
    assert level == 1
    assert told.startswith("Q of 1.3 % of new transitions lies outside [-100, 0], where no return")
    assert impossible_share(q, Range(0, math.inf)) == 0


def test_where_all_rewards_are_0_the_values_of_initial_weights_are_no_divergence() -> None:
    row = {"dataset/q": -0.2213, "dataset/impossible_share": 0.0}
    assert divergence(row, possible_returns(Range(0, 0), 0.99)) == (0, "")
    assert impossible_share(torch.tensor([-0.2, 0.3]), Range(0, 0)) == 0


def test_the_replay_knows_the_rewards_of_dataset_and_new_transitions() -> None:
    layout = RowLayout(1, 1)
    rows = np.zeros((4, layout.width), np.float32)
    layout.unpack(rows)[2][:] = [-1, 0, -1, -0.5]
    replay = Replay([rows[:2], rows[2:3]], 3, layout, capacity=2)
    assert replay.rewards() == (-1, 0)
    layout.unpack(rows)[2][:] = 3
    replay.add_rows(rows[:0])
    assert replay.rewards() == (-1, 0)
    replay.add_rows(rows[:1])
    assert replay.rewards() == (-1, 3)
    # What cannot be a reward of the task must not make diverged critics seem sound.
    layout.unpack(rows)[2][:] = [1e30, 4, -1e30, -102]
    replay.add_rows(rows)
    assert replay.rewards() == (-1, 4)
    assert replay.new_size() == 2


def test_targets_are_clipped_to_the_returns_that_a_member_s_rewards_allow() -> None:
    layout = RowLayout(1, 1)
    rows = np.zeros((2, layout.width), np.float32)
    layout.unpack(rows)[2][:] = [-1, 0]
    replay = Replay([rows], 2, layout, (0, 1), capacity=2)
    settings = IQLHyperparameters(hidden_size=4, discount=0.9, clip_targets=True)
    algorithm = algorithm_class("iql")(Spec(1, 1), settings, (0, 1))
    targets = torch.tensor([[-99.0, 99.0], [-99.0, 99.0]])
    assert torch.equal(algorithm.clipped(targets), targets)
    bound_targets(algorithm, replay)
    torch.testing.assert_close(algorithm.clipped(targets), torch.tensor([[-10.0, 0.0]] * 2))
    layout.unpack(rows)[2][:] = 3
    replay.add_rows(rows, 1)
    bound_targets(algorithm, replay)
    expected = torch.tensor([[-10.0, 0.0], [-10.0, 30.0]])
    torch.testing.assert_close(algorithm.clipped(targets), expected)


def test_a_run_with_impossible_values_says_so_once(
    corner: str, pretraining: PretrainConfig, tmp_path: Path
) -> None:
    assert corner
    # Returns between 0 and 1e-7 are less than what untrained networks say.
    config = with_settings(
        pretraining, runs=tmp_path, reward_scale=1e-9, reward_shift=0.0, learning_rate=1e-6,
        num_updates=30, eval_every=30, log_every=10,
    )  # fmt: skip
    (folder,) = pretrain(config)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [each.get("incidents", []) for each in rows]
    assert [len(each) for each in told] == [0, 1, 0]  # What one row shows is told in the next.
    assert "the critics have diverged" in told[1][0]
    assert "--clip-targets" in told[1][0]
