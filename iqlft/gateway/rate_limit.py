"""Who is shut out: peers that send what is no message, too often; no sockets, no clock."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

BAD_MESSAGES = 10
"""A peer that sends so many bad messages"""
BAD_SECONDS = 60.0
"""within so long is shut out"""
SHUT_OUT_SECONDS = 600.0
"""for so long: an attack is worn out, and a worker that was mended need not wait for a new run."""
MAX_PEERS = 1024
"""The most peers that are remembered."""


@dataclass(eq=False)
class _Peer:
    """When a peer's newest bad messages came, and until when it is shut out."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=BAD_MESSAGES))
    until: float = -math.inf


class Bouncer:
    """Counts bad messages by peer.

    However many peers there are, at most `MAX_PEERS` are remembered. Those whose last bad message
    is the oldest are forgotten first: a connection has to be paid for with a handshake, so a peer
    that makes a new one for every few messages gains little by it.

    Attributes:
        bad_messages: counted in all.
        shut_outs: how often a peer was shut out.
    """

    def __init__(self) -> None:
        self.bad_messages = self.shut_outs = 0
        self._peers: OrderedDict[bytes | int, _Peer] = OrderedDict()

    def bad(self, peer: bytes | int, now: float) -> bool:
        """Counts a bad message.

        Args:
            peer: who sent it, by the routing id of its connection or by the worker id of its key.
            now: seconds of a monotonic clock.

        Returns:
            Whether the peer is shut out from now on.
        """
        self.bad_messages += 1
        known = self._peers.setdefault(peer, _Peer())
        self._peers.move_to_end(peer)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        known.times.append(now)
        if len(known.times) < BAD_MESSAGES or now - known.times[0] > BAD_SECONDS:
            return False
        known.times.clear()
        known.until = now + SHUT_OUT_SECONDS
        self.shut_outs += 1
        return True

    def shut_out(self, peer: bytes | int, now: float) -> bool:
        """Whether what a peer sends is not to be looked at.

        Args:
            peer: see `bad`.
            now: seconds of a monotonic clock.
        """
        return peer in self._peers and now < self._peers[peer].until
