"""Runs that learn together in one stack, and the view that each of them has of it.

Networks of one shape are evaluated by batched products, so several seeds of a run take little more
time on a GPU than one. To its run, a member looks like an algorithm and a replay of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from iqlft.algorithms.base import reduce
from iqlft.config.errors import ConfigError
from iqlft.runs.checkpoint import ALGORITHM_PREFIX, algorithm_tensors
from iqlft.training.divergence import bound_targets, impossible_share, possible_returns

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from iqlft.algorithms.base import Algorithm, Metrics
    from iqlft.datasets.value_bounds import Range
    from iqlft.training.cuda_graph import UpdateGraph
    from iqlft.training.replay import Replay
    from iqlft_workers.actor import ActorWeights
    from iqlft_workers.transition import RowLayout, Transitions

ESTIMATE_BATCH = 1024
"""Number of transitions for the mean Q and V, of the dataset and of new data each."""


@dataclass
class Stack:
    """The learner of M runs.

    Attributes:
        algorithm: with M members.
        replay: the shared dataset, and new transitions of M members.
        batch_size: B, transitions per member and batch.
        graph: launches an update as a whole; without it, each operation is launched on its own.
        notes: what a user should know about the data.
    """

    algorithm: Algorithm[Any]
    replay: Replay
    batch_size: int
    graph: UpdateGraph | None = None
    notes: tuple[str, ...] = ()
    _metrics: Metrics = field(default_factory=dict)
    _figures: list[dict[str, float]] = field(default_factory=list)

    def update(self) -> None:
        """One update of every member."""
        size = self.batch_size * self.algorithm.batches_per_update
        bound_targets(self.algorithm, self.replay)
        before = self.algorithm.updates
        if self.graph is None:
            self._metrics = self.algorithm.update(self.replay.sample(size))
        else:
            self._metrics = self.graph.update(self.replay.draw(size))
        self._require_contract(before)
        self._figures = []

    def _require_contract(self, before: int) -> None:
        """Refuses an algorithm, a user's own, whose update does not count itself or says nothing.

        Args:
            before: number of updates before this one.
        """
        algorithm, metrics = self.algorithm, self._metrics
        name = type(algorithm).__name__
        if algorithm.updates != before + 1:  # Else training would never end.
            raise ConfigError(
                f"An update of {name} has raised its `updates` by {algorithm.updates - before}, "
                "but each update counts as one; say `self.updates += 1` in `update`, once."
            )
        if not (isinstance(metrics, dict) and metrics) or not all(
            callable(each) or getattr(each, "shape", ())[:1] == (algorithm.num_members,)
            for each in metrics.values()
        ):
            raise ConfigError(
                f"An update of {name} must return what is logged of it, at least one tensor of "
                f"{algorithm.num_members} values, one per member, by its name: "
                "return {'actor/loss': loss}."
            )

    def begin_online(self) -> None:
        """Switches from pretraining to fine-tuning, unless the checkpoint has done so already."""
        if not self.algorithm.online:
            self.algorithm.begin_online()

    def figures(self, member: int) -> dict[str, float]:
        """A member's metrics of the last update; read from the device once for all members."""
        self._figures = self._figures or reduce(self._metrics)
        return self._figures[member]

    @property
    def updates(self) -> int:
        """Updates made so far, the same for every member."""
        return self.algorithm.updates

    def member(self, index: int) -> Member:
        """The member of one run."""
        return Member(self, index)


@dataclass(frozen=True)
class Member:
    """One run's networks, random streams and new transitions."""

    _stack: Stack
    _index: int

    @property
    def _algorithm(self) -> Algorithm[Any]:
        return self._stack.algorithm

    @property
    def _replay(self) -> Replay:
        return self._stack.replay

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
        """The columns of a transition's fields."""
        return self._replay.layout

    @property
    def new_size(self) -> int:
        """Number of new transitions that can be sampled."""
        return self._replay.new_size(self._index)

    @property
    def possible_returns(self) -> Range | None:
        """Range of possible returns, by the rewards so far; None where nothing estimates them."""
        discount = self._algorithm.discount
        return (
            None
            if discount is None
            else possible_returns(self._replay.rewards(self._index), discount)
        )

    def actor_weights(self) -> ActorWeights:
        """The actor for the workers; its version is the number of updates."""
        return self._algorithm.actor_weights(self._index)

    def add(self, transitions: Transitions) -> None:
        """Appends new transitions to the replay."""
        self._replay.add(transitions, self._index)

    def add_rows(self, rows: NDArray[np.float32]) -> None:
        """Appends rows of `(n, width)` to the replay."""
        self._replay.add_rows(rows, self._index)

    def figures(self) -> dict[str, float]:
        """The last update's metrics; reads from the device, so call it rarely."""
        return self._stack.figures(self._index)

    @torch.no_grad()
    def estimates(self, *, new: bool) -> dict[str, float]:
        """Mean Q and V of new or of dataset transitions, where the algorithm has them.

        Also the share of transitions whose Q is not a possible return.
        """
        batch = self._replay.sample_part(ESTIMATE_BATCH, self._index, new=new)
        estimates = {
            "q": self._algorithm.q_values(batch.observations, batch.actions),
            "value": self._algorithm.values(batch.observations),
        }
        part = "new" if new else "dataset"
        figures = {
            f"{part}/{name}": float(each[self._index].mean())
            for name, each in estimates.items()
            if each is not None
        }
        q, returns = estimates["q"], self.possible_returns
        if q is not None and returns is not None:
            figures[f"{part}/impossible_share"] = impossible_share(q[self._index], returns)
        return figures

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on, new transitions excepted."""
        learned = self._algorithm.state(self._index)
        state = {ALGORITHM_PREFIX + key: each for key, each in learned.items()}
        return state | {"replay.random_state": self._replay.random_state(self._index)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores `state()`; other tensors are ignored.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor's shape does not fit.
        """
        self._algorithm.load_state(algorithm_tensors(state), self._index)
        self._replay.set_random_state(state["replay.random_state"], self._index)
