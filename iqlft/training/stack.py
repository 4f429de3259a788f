"""Runs that learn together in one stack, and what each of them sees of it.

Networks of one shape are evaluated by batched products, so several seeds of a run take little more
time on a GPU than one. To its run a member looks like an algorithm and a replay of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqlft.training.divergence import possible_returns

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from iqlft.algorithms.iql import ImplicitQLearning, UpdateResult
    from iqlft.training.cuda_graph import UpdateGraph
    from iqlft.training.divergence import Range
    from iqlft.training.replay import Replay
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.transition import RowLayout, Transitions

ESTIMATE_BATCH = 1024
"""Transitions behind the mean Q and V on dataset and on new data."""
_PREFIX = "algorithm."


@dataclass(frozen=True)
class Stack:
    """The learner of M runs.

    Attributes:
        algorithm: with M members.
        replay: the shared dataset, and new transitions of M members.
        batch_size: B, transitions per member and update.
        graph: launches updates as a whole; without one, operation by operation.
    """

    algorithm: ImplicitQLearning
    replay: Replay
    batch_size: int
    graph: UpdateGraph | None = None

    def update(self) -> UpdateResult:
        """One update of every member."""
        if self.graph is None:
            return self.algorithm.update(self.replay.sample(self.batch_size))
        return self.graph.update(self.replay.draw(self.batch_size))

    @property
    def updates(self) -> int:
        """Updates made so far, the same for every member."""
        return self.algorithm.updates

    def member(self, index: int) -> Member:
        """The part of one run."""
        return Member(self.algorithm, self.replay, index)


@dataclass(frozen=True)
class Member:
    """One run's networks, random streams and new transitions."""

    _algorithm: ImplicitQLearning
    _replay: Replay
    _index: int

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return self._algorithm.updates

    @property
    def device(self) -> torch.device:
        """Where the learner computes."""
        return self._algorithm.observation_mean.device

    @property
    def layout(self) -> RowLayout:
        """Where the fields of a transition stand."""
        return self._replay.layout

    @property
    def new_size(self) -> int:
        """Number of new transitions that can be sampled."""
        return self._replay.new_size(self._index)

    @property
    def possible_returns(self) -> Range:
        """Between which returns lie, by the rewards so far."""
        return possible_returns(self._replay.rewards, self._algorithm.hyperparameters.discount)

    def actor_weights(self) -> ActorWeights:
        """The actor for the workers; its version is the number of updates."""
        return self._algorithm.actor_weights(self._index)

    def add(self, transitions: Transitions) -> None:
        """Appends new transitions to the replay."""
        self._replay.add(transitions, self._index)

    def add_rows(self, rows: NDArray[np.float32]) -> None:
        """Appends rows of `(n, width)` to the replay."""
        self._replay.add_rows(rows, self._index)

    def metrics(self, result: UpdateResult) -> dict[str, float]:
        """An update's figures; reads from the device, so call it rarely."""
        return self._algorithm.metrics(result)[self._index]

    def estimates(self, *, new: bool) -> dict[str, float]:
        """Mean Q and V of new transitions, or of the dataset's, for diagnostics."""
        batch = self._replay.sample_part(ESTIMATE_BATCH, self._index, new=new)
        return self._algorithm.estimates(batch)[self._index]

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on, new transitions excepted."""
        state = {
            f"{_PREFIX}{key}": each for key, each in self._algorithm.state(self._index).items()
        }
        return state | {"replay.random_state": self._replay.random_state(self._index)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state()`; other tensors are ignored.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor's shape does not fit.
        """
        self._algorithm.load_state(algorithm_state(state), self._index)
        self._replay.set_random_state(state["replay.random_state"], self._index)


def algorithm_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a member's state that is `ImplicitQLearning`'s."""
    return {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
