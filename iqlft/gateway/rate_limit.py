"""Rate limits on bad messages, new sessions and lines in the log; no sockets, no clock."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

MAX_BAD_MESSAGES = 10
"""Bad messages within `BAD_MESSAGE_SECONDS` that get a peer blocked."""
BAD_MESSAGE_SECONDS = 60.0
"""The period over which bad messages are counted."""
BLOCK_SECONDS = 600.0
"""How long a peer stays blocked; after that a repaired worker may join the same run again."""
MAX_PEERS = 1024
"""The most peers that are remembered."""
MAX_SESSIONS = 16
"""Sessions that a worker may begin at once, more than a failing machine does."""
SESSION_SECONDS = 2.0
"""Time after which it may begin one more."""
MAX_LINES = 10
"""The most log lines about what peers do wrong within `LINES_SECONDS`."""
LINES_SECONDS = 60.0
"""The period over which log lines are limited; further ones are counted."""


@dataclass(eq=False)
class _Peer:
    """When a peer's newest bad messages came, and until when it is blocked."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_BAD_MESSAGES))
    until: float = -math.inf


class RateLimiter:
    """Limits the rate of bad messages by peer.

    However many peers there are, at most `MAX_PEERS` are remembered. Those whose last bad message
    is the oldest are forgotten first: a connection has to be paid for with a handshake, so a peer
    that makes a new one for every few messages gains little by it.

    Attributes:
        bad_messages: counted in all.
    """

    def __init__(self) -> None:
        self.bad_messages = 0
        self._peers: OrderedDict[bytes | int, _Peer] = OrderedDict()

    def record_bad_message(self, peer: bytes | int, now: float) -> bool:
        """Counts a bad message.

        Args:
            peer: who sent it, by the routing id of its connection or by the worker id of its key.
            now: seconds of a monotonic clock.

        Returns:
            Whether the peer is blocked from now on.
        """
        self.bad_messages += 1
        known = self._peers.setdefault(peer, _Peer())
        self._peers.move_to_end(peer)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        known.times.append(now)
        if len(known.times) < MAX_BAD_MESSAGES or now - known.times[0] > BAD_MESSAGE_SECONDS:
            return False
        known.times.clear()
        known.until = now + BLOCK_SECONDS
        return True

    def is_blocked(self, peer: bytes | int, now: float) -> bool:
        """Whether what a peer sends is ignored.

        Args:
            peer: see `record_bad_message`.
            now: seconds of a monotonic clock.
        """
        return peer in self._peers and now < self._peers[peer].until


class SessionLimiter:
    """Limits the rate at which a worker begins new sessions."""

    def __init__(self) -> None:
        self._free_at: dict[int, float] = {}

    def may_begin(self, worker_id: int, now: float) -> bool:
        """Whether a worker may begin a new session; counts it if so.

        Args:
            worker_id: whose; only ids that are served, so that there are few.
            now: seconds of a monotonic clock.
        """
        full_at = max(now, self._free_at.get(worker_id, now)) + SESSION_SECONDS
        if full_at > now + MAX_SESSIONS * SESSION_SECONDS:
            return False
        self._free_at[worker_id] = full_at
        return True


class LimitedLog:
    """A log of what peers do wrong, which they cannot flood.

    Args:
        log: where the lines go.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._since, self._lines, self._left_out = -math.inf, 0, 0

    def warning(self, now: float, text: str, *values: object) -> None:
        """Logs a line, or counts it as left out.

        Args:
            now: seconds of a monotonic clock.
            text: with placeholders for the values.
            values: for the placeholders.
        """
        self.tick(now)
        self._lines += 1
        if self._lines > MAX_LINES:
            self._left_out += 1
        else:
            self._log.warning(text, *values)

    def tick(self, now: float) -> None:
        """Begins a new period when due, and logs how many lines were left out."""
        if now - self._since < LINES_SECONDS:
            return
        if self._left_out:
            self._log.warning("%d more lines like these were left out.", self._left_out)
        self._since, self._lines, self._left_out = now, 0, 0
