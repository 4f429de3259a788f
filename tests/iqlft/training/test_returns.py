"""Returns to go, of a dataset and of transitions that come from several workers by turns."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iqlft.config.settings import PretrainConfig
from iqlft.training.build import load_task_dataset
from iqlft.training.replay import Replay
from iqlft.training.returns import OpenEpisodes, dataset_returns, returns_to_go
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import Environment
from iqlft_workers.rollout import Rollout
from iqlft_workers.transition import RowLayout, Transitions

LAYOUT = RowLayout(1, 1)


def episode(
    number: int, rewards: list[float], *, terminated: bool = False, truncated: bool = False
) -> np.ndarray:
    """Rows of an episode whose observations occur in no other one."""
    n = len(rewards)
    places = (1000 * number + np.arange(n + 1, dtype=np.float32))[:, None]
    last = np.arange(n) == n - 1
    return LAYOUT.pack(
        Transitions(
            observations=places[:-1],
            actions=np.zeros((n, 1), np.float32),
            rewards=np.array(rewards, np.float32),
            next_observations=places[1:],
            terminated=last & terminated,
            truncated=last & truncated,
            versions=np.zeros(n, np.uint32),
        )
    )


def test_a_return_is_the_discounted_sum_until_the_termination() -> None:
    # 2 + 0.5 * (4 + 0.5 * 8), 4 + 0.5 * 8, 8.
    found = returns_to_go([2, 4, 8], [0, 0, 1], [False, False], 0.5)
    assert found.tolist() == [6, 8, 8]


def test_behind_an_end_that_is_no_termination_the_last_reward_goes_on() -> None:
    # 8 for ever is 16; 4 + 0.5 * 16, 2 + 0.5 * 12.
    assert returns_to_go([2, 4, 8], [0, 0, 0], [False, False], 0.5).tolist() == [8, 12, 16]
    assert returns_to_go([2, 4, 8], [0, 0, 0], [False, False], 1.0).tolist() == [14, 12, 8]


def test_a_failed_episode_of_a_sparse_task_returns_what_failing_for_ever_does() -> None:
    # -5 / (1 - 0.99), whatever its length: Cal-QL's authors.
    found = returns_to_go([-5.0] * 700, [0.0] * 700, [False] * 699, 0.99)
    np.testing.assert_allclose(found, -500, rtol=1e-6)


def test_a_dataset_s_episodes_do_not_run_into_each_other() -> None:
    rows = [
        episode(0, [-1, 0], terminated=True),
        episode(1, [-1, -1], truncated=True),
        episode(2, [-1, -1]),  # A gap: the next one begins elsewhere.
        episode(3, [0], terminated=True),
    ]
    found = dataset_returns(torch.from_numpy(np.concatenate(rows)), LAYOUT, 0.5)
    assert found.tolist() == [-1, 0, -2, -2, -2, -2, 0]


def test_an_agent_that_goes_on_after_the_goal_begins_anew_there() -> None:
    rows = episode(0, [-1, 0, -1, -1], truncated=True)
    LAYOUT.unpack(rows)[4][1] = 1
    found = dataset_returns(torch.from_numpy(rows), LAYOUT, 0.5)
    assert found.tolist() == [-1, 0, -2, -2]


def known(replay: Replay, places: list[int]) -> list[float]:
    """The returns of rows of the block, -inf where they are not known."""
    batch = replay.gather(torch.tensor(places))
    assert batch.returns_to_go is not None
    return [float(each) for each in batch.returns_to_go[0]]


def test_an_episode_under_way_has_no_returns_until_it_ends() -> None:
    replay = Replay([episode(0, [1.0], terminated=True)], 1, LAYOUT, capacity=8)
    replay.compute_returns(0.5)
    rows = episode(1, [2, 4, 8], terminated=True)
    replay.add_rows(rows[:2])
    assert known(replay, [0, 1, 2]) == [1, -np.inf, -np.inf]
    replay.add_rows(rows[2:])
    assert known(replay, [0, 1, 2, 3]) == [1, 6, 8, 8]


def test_without_need_batches_have_no_returns() -> None:
    replay = Replay([episode(0, [1.0], terminated=True)], 1, LAYOUT, capacity=8)
    assert replay.sample(4).returns_to_go is None


def test_what_a_full_ring_has_overwritten_gets_no_return_and_spoils_none() -> None:
    replay = Replay([episode(0, [1.0], terminated=True)], 1, LAYOUT, capacity=2)
    replay.compute_returns(0.5)
    replay.add_rows(episode(1, [2, 4, 8], terminated=True))
    assert known(replay, [1, 2]) == [8, 8]  # Row 2 (of return 8) and, where row 0 was, row 2.
    replay.add_rows(episode(2, [16, 32])[:1])
    assert known(replay, [1, 2]) == [8, -np.inf]


def test_members_follow_their_episodes_apart() -> None:
    replay = Replay([episode(0, [1.0], terminated=True)], 1, LAYOUT, (0, 1), capacity=4)
    replay.compute_returns(0.5)
    rows = episode(1, [2, 4], terminated=True)
    for member, part in ((0, rows[:1]), (1, rows[:1]), (1, rows[1:])):
        replay.add_rows(part, member)
    batch = replay.gather(torch.tensor([1, 1, 5, 6]))
    assert batch.returns_to_go is not None
    assert batch.returns_to_go.tolist() == [[-np.inf, -np.inf], [4, 4]]


def test_the_episodes_of_real_workers_are_followed_to_their_ends(
    corner: str, pretraining: PretrainConfig, make_weights: Callable[..., ActorWeights]
) -> None:
    assert corner
    spec = load_task_dataset(pretraining).environment
    spec = dataclasses.replace(spec, kwargs={**spec.kwargs, "max_episode_steps": 20})
    places = [Environment(spec) for _ in range(2)]
    weights = make_weights(places[0].observation_dim, places[0].action_dim)
    rollouts = [
        Rollout(each, weights, seed=0, worker_id=number) for number, each in enumerate(places)
    ]
    layout = RowLayout(places[0].observation_dim, places[0].action_dim)
    follower, ended, lengths = OpenEpisodes(layout, 0.99), [], []
    for step in range(60):
        for rollout in rollouts:
            rollout.step()
            lengths += [each.length] if (each := rollout.finished) else []
            ended += follower.add(layout.pack(rollout.take()), 2 * step + rollouts.index(rollout))
    assert sorted(len(each.indices) for each in ended) == sorted(lengths)
    assert len(lengths) >= 6
    for each in ended:
        assert len({index % 2 for index in each.indices}) == 1  # Of one worker.
    for place in places:
        place.close()


def test_of_episodes_that_meet_in_one_state_none_is_lost() -> None:
    def step(begin: float, end: float, reward: float, *, last: bool) -> np.ndarray:
        row = episode(1, [reward], terminated=last, truncated=False)
        observations, _, _, following, *_ = LAYOUT.unpack(row)
        observations[:], following[:] = begin, end
        return row

    follower = OpenEpisodes(LAYOUT, 0.9)
    rows = [
        step(0, 1, 1.0, last=False),
        step(0, 1, 5.0, last=False),
        step(1, 2, 1.0, last=True),
        step(1, 2, 5.0, last=True),
    ]
    ended = follower.add(np.concatenate(rows), 0)
    assert [each.indices.tolist() for each in ended] == [[0, 2], [1, 3]]
    assert [each.returns.tolist() for each in ended] == [
        pytest.approx([1.9, 1]), pytest.approx([9.5, 5])
    ]  # fmt: skip


episodes = st.lists(
    st.tuples(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=6), st.booleans()),
    min_size=1,
    max_size=6,
)


@given(episodes=episodes, order=st.randoms(use_true_random=False), piece=st.integers(1, 5))
def test_workers_that_send_by_turns_have_the_returns_of_each_alone(
    episodes: list[tuple[list[float], bool]], order: st.DataObject, piece: int
) -> None:
    parts = [
        episode(number + 1, rewards, terminated=ended, truncated=not ended)
        for number, (rewards, ended) in enumerate(episodes)
    ]
    expected = {
        (number, step): value
        for number, part in enumerate(parts)
        for step, value in enumerate(dataset_returns(torch.from_numpy(part), LAYOUT, 0.9))
    }
    left = [list(enumerate(part)) for part in parts]
    sent, names = [], []
    while any(left):
        number = order.choice([index for index, rows in enumerate(left) if rows])
        step, row = left[number].pop(0)
        sent.append(row)
        names.append((number, step))
    follower, found = OpenEpisodes(LAYOUT, 0.9), {}
    for first in range(0, len(sent), piece):
        for each in follower.add(np.array(sent[first : first + piece]), first):
            for index, value in zip(each.indices, each.returns, strict=True):
                found[names[index]] = value
    assert found == pytest.approx(expected)
