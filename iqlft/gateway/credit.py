"""Credit, the back-pressure of one session: how far a worker may be ahead of what is accepted."""

from __future__ import annotations

from dataclasses import dataclass

CREDIT = 1024
"""The most steps that a worker may be ahead of what was accepted from it: its window.

Several full batches, so that a fast worker need not wait for each acknowledgement."""
CREDIT_SECONDS = 10.0
"""Credit that has not been used for this long goes to other workers."""


@dataclass(eq=False)
class Credit:
    """Environment steps of a session: accepted, granted, and told to the worker.

    Attributes:
        accepted: steps accepted.
        granted: steps that the worker may take in all; back to `accepted` when it is lost.
        promised: the most steps that it was ever told it may take.
        strays: those of `promised` that the previous learner may have granted, and this one has
            not; over all sessions of the worker.
        wanted: steps of a batch that waits until the run has room for them; 0 if there is none.
        limit: the most steps that may be outstanding. Once credit was left unused: what was
            accepted in `CREDIT_SECONDS`, plus all that is accepted afterwards. The worker's next
            session inherits it, so that nobody gains by beginning anew.
        marked: time, `granted` and `accepted` when its use was last checked.
    """

    accepted: int = 0
    granted: int = 0
    promised: int = 0
    strays: int = 0
    wanted: int = 0
    limit: int = CREDIT
    marked: tuple[float, int, int] = (0.0, 0, 0)

    @property
    def outstanding(self) -> int:
        """Granted steps whose transitions have not arrived yet."""
        return max(0, self.granted - self.accepted)

    def begin(self, now: float, before: Credit | None) -> None:
        """Begins to check its use; inherits the limits of the worker's last session."""
        if before is not None:
            self.limit, self.strays = before.limit, before.strays
        self.mark(now)

    def end(self) -> None:
        """Cancels what is unused."""
        if self.outstanding:
            self._reduce()
        self.granted, self.wanted = self.accepted, 0

    def accept(self, steps: int) -> None:
        """Counts accepted steps, including those that the previous learner had granted."""
        self.accepted += steps
        self.granted = max(self.granted, self.accepted)
        self.limit = min(CREDIT, self.limit + steps)

    def promise(self) -> int:
        """The steps that the worker may take in all, as it is told now."""
        self.promised = max(self.promised, self.granted)
        return self.granted

    def assume_promised(self) -> None:
        """Assumes that the previous learner has promised as much as a learner can."""
        self.promised = self.accepted + CREDIT

    def is_exceeded_by(self, steps: int) -> bool:
        """Whether a batch has more steps than any learner can have granted."""
        return self.strays + max(0, self._missing(steps)) > CREDIT

    def covers(self, steps: int, room: int) -> bool:
        """Whether it covers a batch, with what is left of the run's; else the batch is wanted.

        The previous learner may have granted credit that this one does not know of. Such steps are
        accepted as soon as the run has room for them, before anybody is granted more.

        Args:
            steps: of the batch.
            room: steps for which no worker has credit yet.
        """
        lent = max(0, min(self._missing(steps), room))
        self.granted += lent
        self.promised += lent
        self.strays += lent
        self.wanted = steps if self._missing(steps) > 0 else 0
        return not self.wanted

    def _missing(self, steps: int) -> int:
        """Steps that are not promised yet of a batch of so many; at most 0 if it is covered."""
        return self.accepted + steps - self.promised

    def mark(self, now: float) -> None:
        """Notes its state, from which its use is measured."""
        self.marked = now, self.granted, self.accepted

    def expire(self, now: float) -> bool:
        """Takes back what is unused for `CREDIT_SECONDS`; returns whether there was any."""
        marked_at, granted, _ = self.marked
        if now - marked_at < CREDIT_SECONDS:
            return False
        if unused := self.accepted < granted:
            self._reduce()
        self.mark(now)
        return unused

    def _reduce(self) -> None:
        """Lets no more be outstanding than was used since the last check, but at least 1 step."""
        self.limit = max(1, self.accepted - self.marked[2])
        self.granted = min(self.granted, self.accepted + self.limit)
