"""The two phases of a run, and what each one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from iqlft.training.pacing import Pacing
    from iqlft.training.stack import Member
    from iqlft_workers.actor import Guide

PhaseName = Literal["offline", "online"]
"""What a phase is called in every file of a run."""


class Offline:
    """Pretraining, which counts updates.

    Args:
        member: the member whose updates are counted.
        total: updates of the phase.
    """

    name: ClassVar[PhaseName] = "offline"
    env_steps = learned_steps = 0
    keeps_policy, fresh = True, False

    def __init__(self, member: Member, total: int) -> None:
        self._member, self.total = member, total

    @property
    def done(self) -> int:
        """Updates so far."""
        return self._member.updates

    @property
    def updated(self) -> bool:
        """Whether its last update is made."""
        return self._member.updates >= self.total


class Behaviour(NamedTuple):
    """How workers act, besides the actor's weights.

    Attributes:
        at_random: whether uniformly at random.
        guided_steps: in how many first steps of an episode the guide acts.
    """

    at_random: bool = False
    guided_steps: int = 0


class Online:
    """Fine-tuning, which counts environment steps.

    Args:
        pacing: pacing of the run, which counts its steps and updates.
        fresh: whether the run has just come online.
        keeps_policy: whether it came online with the policy of pretraining.
        guide: the policy of pretraining, and for how many steps of an episode it acts at first.

    Attributes:
        behaviour: as it was last published.
    """

    name: ClassVar[PhaseName] = "online"

    def __init__(
        self, pacing: Pacing, *, fresh: bool, keeps_policy: bool = True, guide: Guide | None = None
    ) -> None:
        self.pacing, self.fresh = pacing, fresh
        self.keeps_policy, self.guide = keeps_policy, guide
        self.total = pacing.total_env_steps
        self.behaviour = Behaviour()

    @property
    def env_steps(self) -> int:
        """Environment steps whose transitions are in the replay."""
        return self.pacing.env_steps

    @property
    def done(self) -> int:
        """The same as `env_steps`."""
        return self.pacing.env_steps

    @property
    def learned_steps(self) -> int:
        """Environment steps that the updates so far belong to, as `curves.csv` counts them."""
        return self.total if self.updated else self.pacing.learned_steps

    @property
    def updated(self) -> bool:
        """Whether its last update is made."""
        return self.pacing.updates >= self.pacing.total_updates


Phase = Offline | Online
