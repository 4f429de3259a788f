"""The replay against a list: every observation says which transition it belongs to."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iqlft.training.replay import Replay
from iqlft_workers.transition import RowLayout, Transitions

LAYOUT = RowLayout(1, 1)


def transitions(first: int, count: int) -> Transitions:
    """Transition i observes i, acts -i, is rewarded 10 i and leads to i + 0.5."""
    index = np.arange(first, first + count, dtype=np.float32)
    return Transitions(
        observations=index[:, None],
        actions=-index[:, None],
        rewards=10 * index,
        next_observations=index[:, None] + 0.5,
        terminated=index % 2 == 1,
        truncated=np.zeros(count, np.bool_),
        versions=np.zeros(count, np.uint32),
    )


def rows(first: int, count: int) -> np.ndarray:
    return LAYOUT.pack(transitions(first, count))


def indices(replay: Replay, count: int, member: int = 0) -> np.ndarray:
    """Which transitions a batch holds."""
    return replay.sample(count).observations[member, :, 0].numpy().astype(int)


class ReplayAgainstLists(RuleBasedStateMachine):
    """Random additions; what can be sampled is what the lists say."""

    @initialize(
        dataset=st.integers(1, 20),
        capacity=st.integers(1, 12),
        ratio=st.sampled_from([None, 0.0, 0.25, 1.0]),
    )
    def build(self, dataset: int, capacity: int, ratio: float | None) -> None:
        self.dataset, self.capacity, self.ratio = list(range(dataset)), capacity, ratio
        self.new: list[list[int]] = [[], []]
        self.replay = Replay(
            [rows(0, dataset)], dataset, LAYOUT, (0, 1), capacity=capacity, offline_ratio=ratio
        )
        self.next = 1000

    @rule(count=st.integers(1, 30), member=st.integers(0, 1))
    def add(self, count: int, member: int) -> None:
        self.replay.add(transitions(self.next, count), member)
        self.new[member] += range(self.next, self.next + count)
        self.new[member] = self.new[member][-self.capacity :]
        self.next += count

    @invariant()
    @precondition(lambda self: hasattr(self, "replay"))
    def sizes_agree(self) -> None:
        assert [self.replay.new_size(m) for m in (0, 1)] == [len(each) for each in self.new]

    @rule()
    def sample(self) -> None:
        batch = self.replay.sample(16)
        for member, new in enumerate(self.new):
            seen = batch.observations[member, :, 0].numpy().astype(int)
            old = seen < 1000
            assert set(seen[old]) <= set(self.dataset)
            assert set(seen[~old]) <= set(new)
            if self.ratio is not None and new:
                assert old.sum() == round(16 * self.ratio)

    @rule()
    def all_fields_belong_together(self) -> None:
        batch = self.replay.sample(8)
        index = batch.observations[..., 0]
        torch.testing.assert_close(batch.actions[..., 0], -index)
        torch.testing.assert_close(batch.rewards, 10 * index)
        torch.testing.assert_close(batch.next_observations[..., 0], index + 0.5)
        torch.testing.assert_close(batch.terminated, index % 2)


ReplayAgainstLists.TestCase.settings = settings(max_examples=25, stateful_step_count=12)
TestReplayAgainstLists = ReplayAgainstLists.TestCase


def test_the_union_is_sampled_uniformly() -> None:
    replay = Replay([rows(0, 60)], 60, LAYOUT, capacity=100)
    replay.add(transitions(60, 40))
    draws = 100_000
    counts = np.bincount(indices(replay, draws), minlength=100)
    chi_square = float(np.sum((counts - draws / 100) ** 2 / (draws / 100)))
    # 99 degrees of freedom: mean 99, deviation 14; five deviations either way.
    assert 99 - 70 < chi_square < 99 + 70


def test_a_fixed_ratio_gives_exact_counts_once_there_are_new_transitions() -> None:
    replay = Replay([rows(0, 1000)], 1000, LAYOUT, capacity=10, offline_ratio=0.25)
    assert (indices(replay, 64) < 1000).all()
    replay.add(transitions(1000, 1))
    seen = indices(replay, 64)
    assert (seen < 1000).sum() == 16
    assert (seen == 1000).sum() == 48


def test_a_full_ring_overwrites_the_oldest() -> None:
    replay = Replay([rows(0, 1)], 1, LAYOUT, capacity=4, offline_ratio=0.0)
    for first in range(100, 106, 2):
        replay.add(transitions(first, 2))
    assert set(indices(replay, 200)) == {102, 103, 104, 105}
    replay.add(transitions(200, 11))
    assert set(indices(replay, 200)) == {207, 208, 209, 210}


def test_members_never_see_each_other_s_new_transitions() -> None:
    replay = Replay([rows(0, 2)], 2, LAYOUT, (0, 1), capacity=8)
    replay.add(transitions(100, 8), member=0)
    replay.add(transitions(200, 3), member=1)
    batch = replay.sample(400).observations[..., 0].numpy().astype(int)
    assert set(batch[0]) == {0, 1, *range(100, 108)}
    assert set(batch[1]) == {0, 1, *range(200, 203)}


def test_a_member_s_batches_depend_on_its_own_seed_alone() -> None:
    alone = Replay([rows(0, 50)], 50, LAYOUT, (3,))
    together = Replay([rows(0, 50)], 50, LAYOUT, (1, 3))
    for _ in range(3):
        first, second = together.sample(32).observations
        torch.testing.assert_close(second, alone.sample(32).observations[0], rtol=0, atol=0)
        assert not torch.equal(first, second)


def test_a_restored_random_state_repeats_the_batches() -> None:
    replay = Replay([rows(0, 50)], 50, LAYOUT, (0, 1))
    replay.sample(7)
    states = [replay.random_state(member) for member in range(2)]
    expected = [replay.sample(32).observations for _ in range(2)]
    other = Replay([rows(0, 50)], 50, LAYOUT, (8, 9))
    for member, state in enumerate(states):
        other.set_random_state(state, member)
    for each in expected:
        assert torch.equal(other.sample(32).observations, each)


def test_places_that_are_drawn_first_and_gathered_later_are_the_batch() -> None:
    at_once, in_two = (Replay([rows(0, 50)], 50, LAYOUT, (0, 1), capacity=10) for _ in range(2))
    for replay in (at_once, in_two):
        replay.compute_returns(0.9)
        replay.add(transitions(1000, 10), 1)
    places = in_two.draw(8)
    assert places.shape == (16,)
    assert places.dtype == torch.int64
    for expected, found in zip(at_once.sample(8), in_two.gather(places), strict=True):
        assert torch.equal(found, expected)


def test_looking_at_a_part_does_not_change_what_training_samples() -> None:
    looked, left = (Replay([rows(0, 50)], 50, LAYOUT, capacity=5) for _ in range(2))
    for replay in (looked, left):
        replay.add(transitions(100, 5))
    assert (looked.sample_part(64, new=True).observations >= 100).all()
    old = looked.sample_part(64, new=False).observations
    assert (old < 100).all()
    assert torch.equal(looked.sample(64).observations, left.sample(64).observations)
    new = looked.sample_part(64, new=True).observations
    looked.add(transitions(105, 1))
    assert torch.equal(looked.sample_part(64, new=False).observations, old)
    assert not torch.equal(looked.sample_part(64, new=True).observations, new)


def test_the_dataset_is_copied() -> None:
    data = rows(0, 5)
    replay = Replay([data], len(data), LAYOUT)
    data[:] = 77
    assert indices(replay, 50).max() < 5


@pytest.mark.parametrize(("members", "expected"), [(1, 30), (3, 50)])
def test_the_block_holds_the_dataset_once_and_a_ring_per_member(
    members: int, expected: int
) -> None:
    replay = Replay([rows(0, 20)], 20, LAYOUT, range(members), capacity=10)
    assert replay.num_bytes == 4 * LAYOUT.width * expected
