"""Stand-ins for a user's own module: one class that is an algorithm, and one that is not."""

from dataclasses import dataclass

from iqlft.config import algorithms


@dataclass(frozen=True)
class OwnHyperparameters(algorithms.Hyperparameters):
    """Hyperparameters of a user's own algorithm."""

    boldness: float = 0.5
    """A hyperparameter that no other algorithm has."""


class Own:
    Hyperparameters = OwnHyperparameters


class Other:
    pass
