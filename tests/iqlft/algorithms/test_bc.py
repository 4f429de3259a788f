"""Behaviour cloning against a NumPy float64 transcription, and the choice of the best episodes."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Selection
from iqlft.algorithms.bc import BC, episode_returns
from iqlft.config.algorithms import BCHyperparameters
from iqlft_workers.transition import RowLayout, Transitions
from numpy_networks import (
    BATCH,
    SPEC,
    Array,
    Masks,
    NumpyNetworks,
    as_batch,
    figures,
    log_prob_and_gradients,
    masks_of_one_update,
    random_arrays,
)

SMALL = BCHyperparameters(hidden_size=12, batch_size=BATCH)
DROPPING = dataclasses.replace(SMALL, dropout=0.25)
LAYOUT = RowLayout(1, 1)


class NumpyBC(NumpyNetworks):
    """Log-likelihood of a tanh-mean Gaussian, with a backward pass derived by hand."""

    def update(self, s: Array, a: Array, masks: Masks) -> float:
        layers = self.forward("actor", s[None], masks)
        mean, log_std = np.tanh(layers[-1][0]), np.clip(self.log_std[0, 0], -5, 2)
        log_prob, to_mean, to_log_std = log_prob_and_gradients(mean, log_std, a, np.ones(len(a)))
        self.descend("actor", layers, (to_mean * (1 - mean**2))[None], masks)
        self.descend_log_std(to_log_std)
        return -log_prob.mean()


@pytest.mark.parametrize("settings", [SMALL, DROPPING], ids=["whole", "dropout"])
def test_six_updates_equal_a_numpy_float64_transcription(settings: BCHyperparameters) -> None:
    algorithm, rng = BC(SPEC, settings, (3,), dtype=torch.float64), np.random.default_rng(0)
    twin = NumpyBC(algorithm.state(), "actor")
    for _ in range(6):
        arrays, masks = random_arrays(rng), masks_of_one_update(algorithm)
        found = figures(algorithm.update(as_batch(arrays, torch.float64)))
        assert found["actor/loss"] == pytest.approx(twin.update(*arrays[:2], masks), rel=1e-10)
    twin.assert_equal(algorithm.state(), 1e-10)


def test_rewards_successors_and_ends_change_nothing() -> None:
    one, other = BC(SPEC, SMALL), BC(SPEC, SMALL)
    s, a, *rest = random_arrays(np.random.default_rng(1))
    one.update(as_batch((s, a, *rest), torch.float32))
    other.update(as_batch((s, a, *(9 * each for each in rest)), torch.float32))
    assert torch.equal(one.actor.mlp.parameters, other.actor.mlp.parameters)


# -- the best episodes --------------------------------------------------------------------------


def rows_of(
    *episodes: Sequence[float],
    terminated: Sequence[int] = (),
    truncated: Sequence[int] = (),
    starts: Sequence[float] | None = None,
) -> torch.Tensor:
    """Rows of episodes, by their rewards; an episode walks one step a transition.

    Args:
        episodes: the rewards of each.
        terminated: places of rows that were.
        truncated: places of rows that were.
        starts: where episodes begin; by default far from where any other goes.
    """
    starts = [100.0 * index for index in range(len(episodes))] if starts is None else starts
    places = np.concatenate(
        [start + np.arange(len(rewards)) for start, rewards in zip(starts, episodes, strict=True)]
    ).astype(np.float32)[:, None]
    count = len(places)
    flags = np.zeros((2, count), np.bool_)
    flags[0, list(terminated)] = True
    flags[1, list(truncated)] = True
    rewards = np.concatenate(episodes).astype(np.float32)
    actions, versions = np.zeros((count, 1), np.float32), np.zeros(count, np.uint32)
    transitions = Transitions(places, actions, rewards, places + 1, *flags, versions)
    return torch.from_numpy(LAYOUT.pack(transitions))


def selected(share: float, rows: torch.Tensor) -> Selection | None:
    return BC(SPEC, dataclasses.replace(SMALL, best_share=share)).select(rows, LAYOUT)


def test_an_episode_returns_the_undiscounted_sum_of_its_rewards() -> None:
    episodes, returns = episode_returns(rows_of([1, 2, 3], [-1], [0.5, 0.5]), LAYOUT)
    assert episodes.tolist() == [0, 0, 0, 1, 2, 2]
    assert (returns.tolist(), returns.dtype) == ([6, -1, 1], torch.float64)


def test_a_discount_counts_from_the_beginning_of_each_episode() -> None:
    rows = rows_of([1, 2, 3], [-1], [4, 8])
    assert episode_returns(rows, LAYOUT, 0.5)[1].tolist() == [1 + 1 + 0.75, -1, 4 + 4]
    # The first has the higher sum, the last its reward at once.
    rows = rows_of([0, 0, 3], [0, 0, 0], [2, 0, 0])
    for discount, begins in ((1.0, 0), (0.5, 6)):
        settings = dataclasses.replace(SMALL, best_share=1 / 3, best_discount=discount)
        selection = BC(SPEC, settings).select(rows, LAYOUT)
        assert selection is not None
        assert selection.places.tolist() == [begins, begins + 1, begins + 2]


def test_an_episode_goes_on_after_a_terminated_transition_that_has_a_successor() -> None:
    # In AntMaze the agent goes on after the goal, and rewards are relabelled.
    rows = rows_of([0, 1, 1, 0], [5], terminated=[1, 2])
    episodes, returns = episode_returns(rows, LAYOUT)
    assert episodes.tolist() == [0, 0, 0, 0, 1]
    assert returns.tolist() == [2, 5]


def test_an_episode_ends_where_it_was_truncated_though_the_next_begins_there() -> None:
    rows = rows_of([1, 1], [2], truncated=[1], starts=[0, 2])
    assert episode_returns(rows, LAYOUT)[1].tolist() == [2, 2]
    # Without the flag nothing tells them apart.
    assert episode_returns(rows_of([1, 1], [2], starts=[0, 2]), LAYOUT)[1].tolist() == [4]


def test_the_rows_of_the_best_episodes_are_cloned() -> None:
    found = selected(0.5, rows_of([1], [4, 4], [0, 0, 3], [9]))
    assert found is not None
    assert found.places.tolist() == [1, 2, 6]
    assert found.note == "Cloning the best 2 of 4 episodes, returning 8 up."


def test_of_equally_good_episodes_the_first_are_cloned_and_the_note_says_so() -> None:
    found = selected(0.4, rows_of([1], [3], [2], [1, 1], [2]))
    assert found is not None
    assert found.places.tolist() == [1, 2]
    assert found.note == (
        "Cloning the best 2 of 5 episodes, returning 2 up. "
        "As good as the last of them but left out: 2 later."
    )


def test_where_all_episodes_are_equally_good_all_are_cloned() -> None:
    found = selected(0.1, rows_of([1, 1], [2], [0, 2, 0]))
    assert found is not None
    assert found.places.tolist() == list(range(6))
    assert found.note == "All 3 episodes return 2, so all are cloned."


@pytest.mark.parametrize(
    ("share", "count"), [(0.001, 1), (0.1, 1), (0.3, 3), (0.26, 3), (0.99, 10)]
)
def test_a_share_is_rounded_to_episodes_but_never_to_none(share: float, count: int) -> None:
    found = selected(share, rows_of(*([float(index)] for index in range(10))))
    assert found is not None
    assert found.places.tolist() == list(range(10 - count, 10))


def test_without_a_share_the_whole_dataset_is_cloned() -> None:
    assert selected(1.0, rows_of([1], [2])) is None
