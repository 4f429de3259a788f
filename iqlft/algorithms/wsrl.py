"""Warm-start RL (Zhou, Peng, Li, Levine, Kumar, arXiv:2412.07762).

Soft actor-critic that continues from the networks of another algorithm, Cal-QL in the paper,
without the dataset: ten critics with LayerNorm, of which each target uses two, and four updates of
them per step. The share of old data and the steps before the first update are separate settings.
"""

from __future__ import annotations

from iqlft.algorithms.sac import SAC
from iqlft.config.algorithms import WSRLHyperparameters


class WSRL(SAC[WSRLHyperparameters]):
    """Soft actor-critic with the settings of WSRL."""
