"""Pacing: environment steps and updates are tied by `utd_ratio`, with a bounded slack.

With E environment steps in the replay, G online updates, the ratio U and the slack S:

- the learner may update while `G + 1 <= U * E + S` and E >= 1,
- workers may have stepped `ceil((G + 1 + S) / U)` times in all: as many as the next update needs,
  and the slack.

In lockstep S is 0: one step, then its updates, then the next step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


def updates_for(env_steps: int, utd_ratio: float) -> int:
    """Online updates of a run of so many environment steps."""
    return int(_exact(utd_ratio) * env_steps)


def _exact(utd_ratio: float) -> Fraction:
    """The ratio that was meant: a product of floats would lose an update now and then."""
    return Fraction(utd_ratio).limit_denominator(10**6)


@dataclass
class Pacing:
    """Counts steps and updates, and says who may go on.

    Attributes:
        utd_ratio: U, updates per environment step.
        slack: S, updates by which either side may run ahead.
        total_env_steps: environment steps of the whole run.
        env_steps: E, steps whose transitions are in the replay.
        updates: G, online updates made.
    """

    utd_ratio: float
    slack: int
    total_env_steps: int
    env_steps: int = 0
    updates: int = 0

    @property
    def _ratio(self) -> Fraction:
        return _exact(self.utd_ratio)

    @property
    def total_updates(self) -> int:
        """Online updates of the whole run."""
        return updates_for(self.total_env_steps, self.utd_ratio)

    def may_update(self) -> bool:
        """Whether the learner may make one more update."""
        within = self.updates + 1 <= self._ratio * self.env_steps + self.slack
        return self.env_steps > 0 and self.updates < self.total_updates and within

    def allowance(self) -> int:
        """The number of environment steps that workers may have taken in all."""
        return min(math.ceil((self.updates + 1 + self.slack) / self._ratio), self.total_env_steps)

    def passed(self, every: int) -> int | None:
        """The multiple of `every` environment steps that the latest update completed, if any.

        An update belongs to the step count `G / U`, wherever within the slack the workers are, so
        that evaluations of different runs stand at the same places.
        """
        now = int(self.updates / self._ratio) // every
        before = int((self.updates - 1) / self._ratio) // every
        return now * every if now > before else None

    def finished(self) -> bool:
        """Whether every step is in the replay and every update is made."""
        return self.env_steps >= self.total_env_steps and self.updates >= self.total_updates
