"""Pacing: environment steps and updates are tied by `utd_ratio`, with a bounded slack.

With E environment steps in the replay, G online updates, the ratio U and the slack S:

- the learner may update while `G + 1 <= U * (E - W) + S` and E > W, with W steps of warm-up,
- workers may have stepped `W + ceil((G + 1 + S) / U)` times in all: as many as the next update
  needs, and the slack.

In lockstep S is 0: one step, then its updates, then the next step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


def updates_for(env_steps: int, utd_ratio: float, warmup_steps: int = 0) -> int:
    """Online updates of a run of `env_steps` environment steps."""
    return int(_exact(utd_ratio) * max(0, env_steps - warmup_steps))


def env_steps_for(updates: int, utd_ratio: float, warmup_steps: int = 0) -> int:
    """Environment steps that online updates belong to: G updates belong to `W + G / U` steps."""
    return warmup_steps + int(updates / _exact(utd_ratio))


def _exact(utd_ratio: float) -> Fraction:
    """The ratio as a fraction: a product of floats would lose an update now and then."""
    return Fraction(utd_ratio).limit_denominator(10**6)


@dataclass
class Pacing:
    """Counts steps and updates, and decides whether learner and workers may go on.

    Attributes:
        utd_ratio: U, updates per environment step.
        slack: S, updates by which either side may run ahead.
        total_env_steps: environment steps of the whole run.
        env_steps: E, steps whose transitions are in the replay.
        updates: G, online updates made.
        warmup_steps: W, first environment steps without updates.
    """

    utd_ratio: float
    slack: int
    total_env_steps: int
    env_steps: int = 0
    updates: int = 0
    warmup_steps: int = 0

    @property
    def _ratio(self) -> Fraction:
        return _exact(self.utd_ratio)

    @property
    def total_updates(self) -> int:
        """Online updates of the whole run."""
        return updates_for(self.total_env_steps, self.utd_ratio, self.warmup_steps)

    @property
    def learned_steps(self) -> int:
        """Environment steps that the updates so far belong to, however far the workers are."""
        return self._step_of(self.updates)

    def _step_of(self, updates: int) -> int:
        return env_steps_for(updates, self.utd_ratio, self.warmup_steps)

    def may_update(self) -> bool:
        """Whether the learner may make one more update."""
        learned_from = self.env_steps - self.warmup_steps
        within = self.updates + 1 <= self._ratio * learned_from + self.slack
        return learned_from > 0 and self.updates < self.total_updates and within

    def allowance(self) -> int:
        """The total number of environment steps that workers may have taken by now."""
        needed = math.ceil((self.updates + 1 + self.slack) / self._ratio)
        return min(self.warmup_steps + needed, self.total_env_steps)

    def passed(self, every: int) -> bool:
        """Whether the latest update completed a multiple of `every` environment steps.

        It counts `learned_steps`, so that runs are evaluated at the same steps however far their
        workers are. During the warm-up there is nothing new to evaluate.
        """
        return self.learned_steps // every > self._step_of(self.updates - 1) // every

    def finished(self) -> bool:
        """Whether all steps are in the replay and all updates are made."""
        return self.env_steps >= self.total_env_steps and self.updates >= self.total_updates
