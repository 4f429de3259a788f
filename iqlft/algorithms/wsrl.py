"""Warm-start RL (Zhou, Peng, Li, Levine, Kumar, arXiv:2412.07762).

Soft actor-critic that goes on from the networks of another algorithm, Cal-QL in the paper, without
the dataset: ten critics with LayerNorm, of which each target asks two, four updates of them per
step. What it keeps of the data and when it begins are no part of the algorithm.
"""

from __future__ import annotations

from iqlft.algorithms.sac import SAC
from iqlft.config.algorithms import WSRLHyperparameters


class WSRL(SAC[WSRLHyperparameters]):
    """Soft actor-critic with the settings of WSRL."""
