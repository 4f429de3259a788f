"""Rate limit on bad messages: who sends too many is blocked; no sockets, no clock."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_BAD_MESSAGES = 10
"""A peer that sends so many bad messages"""
BAD_MESSAGE_SECONDS = 60.0
"""within so long is blocked"""
BLOCK_SECONDS = 600.0
"""for so long: an attack is worn out, and a worker that was mended need not wait for a new run."""
MAX_PEERS = 1024
"""The most peers that are remembered."""


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
        blocks: how often a peer was blocked.
    """

    def __init__(self) -> None:
        self.bad_messages = self.blocks = 0
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
        self.blocks += 1
        return True

    def is_blocked(self, peer: bytes | int, now: float) -> bool:
        """Whether what a peer sends is ignored.

        Args:
            peer: see `record_bad_message`.
            now: seconds of a monotonic clock.
        """
        return peer in self._peers and now < self._peers[peer].until
