"""Stand-ins for a user's own module: a new algorithm, variations, and what is none."""

from dataclasses import dataclass

from iqlft.algorithms.awac import AWAC
from iqlft.algorithms.iql import IQL
from iqlft.config import algorithms


@dataclass(frozen=True)
class OwnHyperparameters(algorithms.Hyperparameters):
    """Hyperparameters of a user's own algorithm."""

    boldness: float = 0.5
    careful: bool = False
    """A hyperparameter that no other algorithm has."""


class Own:
    Hyperparameters = OwnHyperparameters


class BoldIQL(IQL):
    pass


class BoldAWAC(AWAC):
    pass


@dataclass(frozen=True)
class BoldestHyperparameters(algorithms.IQLHyperparameters):
    """IQL's, and one more."""

    boldness: float = 2.0
    """A hyperparameter that IQL has not."""


class BoldestIQL(BoldIQL):
    Hyperparameters = BoldestHyperparameters


class OtherIQL(IQL):
    Hyperparameters = OwnHyperparameters


class Other:
    pass
