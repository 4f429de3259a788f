"""Behaviour cloning, of all episodes of a dataset or of the best of them (10%BC).

The actor is IQL's, trained by log-likelihood alone. Cloning the tenth of the episodes with the
highest returns is what Chen et al. (Decision Transformer, arXiv:2106.01345) and IQL's table call
10%BC. An episode's return is the sum of its rewards after the task's reward transform, undiscounted
unless `best_discount` is set. Of equally good episodes at the border the first ones are taken, so
that the share is kept; if all episodes are equally good, all are taken.

Shapes: M members (seeds), B batch, O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iqlft.algorithms import losses
from iqlft.algorithms.base import Algorithm, Selection
from iqlft.config.algorithms import BCHyperparameters
from iqlft.datasets.episodes import episode_ends
from iqlft.nn.networks import GaussianActor
from iqlft.nn.stacked_mlp import Dropout

if TYPE_CHECKING:
    from iqlft.algorithms.base import Batch, Metrics
    from iqlft_workers.transition import RowLayout


class BC(Algorithm[BCHyperparameters]):
    """Behaviour cloning: the actor's log-likelihood of the data's actions."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        mlp = self.mlp(self.spec.observation_dim, self.spec.action_dim)
        self.actor: GaussianActor = self.learned("actor", GaussianActor(mlp))
        self._dropout = Dropout(self.hyperparameters.dropout, self.hidden_sizes, self.generators)
        self.draws = self.hyperparameters.dropout > 0

    def update(self, batch: Batch) -> Metrics:
        """One update of every member."""
        observations = self.normalize(batch.observations)
        mean, log_std = self.actor(observations, self._dropout.masks(observations))
        loss = -losses.gaussian_log_prob(mean, log_std, batch.actions).mean(-1)
        self.minimize("actor", loss, self.hyperparameters.learning_rate)
        self.updates += 1
        return {"actor/loss": loss, "actor/log_std": self.actor.log_std}

    def select(self, rows: Tensor, layout: RowLayout) -> Selection | None:
        """The rows of the best episodes, or all rows if all episodes are equally good."""
        share = self.hyperparameters.best_share
        if share == 1:
            return None
        discount = self.hyperparameters.best_discount
        episodes, returns = episode_returns(rows, layout, discount)
        if bool((returns == returns[0]).all()):
            note = f"All {len(returns):,} episodes return {returns[0]:g}, so all are cloned."
            return Selection(torch.arange(len(rows)), note)
        order = torch.sort(returns, descending=True, stable=True)
        count = max(1, round(share * len(returns)))
        worst = order.values[count - 1]
        note = f"Cloning the best {count:,} of {len(returns):,} episodes, returning {worst:g} up."
        if (ties := int((returns >= worst).sum()) - count) > 0:
            note += f" As good as the last of them but left out: {ties:,} later."
        places = torch.isin(episodes, order.indices[:count]).nonzero().squeeze(1)
        return Selection(places, note)


def episode_returns(
    rows: Tensor, layout: RowLayout, discount: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The episode that each row belongs to, and the return of each episode from its beginning.

    Args:
        rows: `(N, width)`, episode by episode.
        layout: where their fields stand.
        discount: discount of the rewards in a return.

    Returns:
        The episode of each row `(N,)`, counted from 0, and the return of each episode `(K,)`, in
        float64.
    """
    rewards, ends = layout.unpack(rows)[2].cpu().double(), episode_ends(rows, layout).cpu()
    first = torch.zeros(1, dtype=torch.int64)
    episodes = torch.cat([first, ends.cumsum(0)])
    starts = torch.cat([first, ends.nonzero().squeeze(1) + 1])
    steps = torch.arange(len(rewards)) - starts[episodes]
    returns = torch.zeros(len(starts), dtype=torch.float64)
    return episodes, returns.index_add_(0, episodes, rewards * discount**steps)
