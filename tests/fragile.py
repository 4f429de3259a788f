"""An algorithm that fails in one seed alone: IQL, whose V is spoilt there after some updates."""

import math

from iqlft.algorithms.base import Batch, Metrics
from iqlft.algorithms.iql import IQL
from iqlft.config.algorithms import IQLHyperparameters

FAILING_SEED, UPDATES = 1, 120


class Fragile(IQL):
    """IQL, but for that seed."""

    Hyperparameters = IQLHyperparameters

    def update(self, batch: Batch) -> Metrics:
        """One update; the fatal one spoils V first."""
        if (self.generators[0].initial_seed(), self.updates) == (FAILING_SEED, UPDATES):
            self.value.mlp.weights[0].fill_(math.nan)
            self.value.changed()
        return super().update(batch)
