"""Reinforcement learning with prior data (Ball, Smith, Kostrikov, Levine, arXiv:2302.02948).

Soft actor-critic from scratch, on batches that are half of the dataset and half new: ten critics
with LayerNorm, twenty updates of them per step, of which each target asks one or two; the actor's
loss takes the mean of all. The mixture is no part of the algorithm: `--offline-ratio 0.5`.
"""

from __future__ import annotations

from iqlft.algorithms.sac import SAC
from iqlft.config.algorithms import RLPDHyperparameters


class RLPD(SAC[RLPDHyperparameters]):
    """Soft actor-critic with the settings of RLPD."""
