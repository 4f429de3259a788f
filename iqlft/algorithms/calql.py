"""Cal-QL, calibrated Q-learning (Nakamoto et al., NeurIPS 2023, arXiv:2303.05479).

CQL whose penalty pushes Q of the policy's actions no further down than the returns of the data:
the penalty replaces Q(s, a_i) by max(Q(s, a_i), return to go from s). Q thus stays on the scale of
returns, and fine-tuning need not learn that scale again. Transitions of an episode still under way
have no return yet and are not calibrated.

Shapes: M members (seeds), E critics, B batch, N actions per state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from iqlft.algorithms.cql import CQL
from iqlft.config.algorithms import CalQLHyperparameters

if TYPE_CHECKING:
    from torch import Tensor

    from iqlft.algorithms.base import Batch, Metrics


class CalQL(CQL[CalQLHyperparameters]):
    """CQL with calibrated values."""

    needs_returns = True

    def calibrated(self, proposed: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
        """Raises the values of the policy's actions to the returns to go, where those are known."""
        assert batch.returns_to_go is not None
        returns = batch.returns_to_go[:, None, :, None]
        if self.online and not self.hyperparameters.calibrate_online:
            returns = torch.full_like(returns, -torch.inf)
        uniform, own = proposed.tensor_split((self.hyperparameters.sampled_actions,), -1)
        share = (own.detach() < returns).to(own.dtype)
        return torch.cat([uniform, own.maximum(returns)], -1), {"critic/calibrated_share": share}
