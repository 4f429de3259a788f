"""Reinforcement learning with prior data (Ball, Smith, Kostrikov, Levine, arXiv:2302.02948).

Soft actor-critic from scratch, on batches drawn half from the dataset and half from new data: ten
critics with LayerNorm and twenty updates of them per step; each target uses one or two of them, the
actor's loss the mean of all. The mixture is a setting of its own: `--offline-ratio 0.5`.
"""

from __future__ import annotations

from iqlft.algorithms.sac import SAC
from iqlft.config.algorithms import RLPDHyperparameters


class RLPD(SAC[RLPDHyperparameters]):
    """Soft actor-critic with the settings of RLPD."""
