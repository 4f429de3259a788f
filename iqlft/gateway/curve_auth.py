"""CURVE authentication: the answer to a request of ZAP 1.0 (ZeroMQ's RFC 27), as a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENDPOINT = "inproc://zeromq.zap.01"
"""Where ZeroMQ asks who may connect."""
DOMAIN = b"iqlft"
"""The ZAP domain of the learner's sockets."""
ANY_ID = "any"
"""The user id of a connection whose key is not bound to a single worker id."""

_VERSION = b"1.0"
"""Version of the ZeroMQ Authentication Protocol."""


class AuthReply(NamedTuple):
    """The answer to a request.

    Attributes:
        reply: the frames; the worker's id is the user id, which stays with the connection.
        rejected: the address that was rejected; empty where the worker may connect.
    """

    reply: list[bytes]
    rejected: str


def authenticate(request: Sequence[bytes], workers: Mapping[bytes, int | None]) -> AuthReply:
    """Decides on a connection.

    Args:
        request: version, number, domain, address, routing id, mechanism and public key.
        workers: worker ids by public key, of 32 bytes; None for any id.
    """
    number, domain, address, _, mechanism, *credentials = request[1:]
    key = b"".join(credentials)
    if domain != DOMAIN or mechanism != b"CURVE" or key not in workers:
        # No reason is given, so that a stranger learns nothing about the known keys.
        whence = address.decode("ascii", "replace")
        return AuthReply([_VERSION, number, b"400", b"", b"", b""], whence)
    worker_id = workers[key]
    user_id = ANY_ID if worker_id is None else str(worker_id)
    return AuthReply([_VERSION, number, b"200", b"", user_id.encode(), b""], "")
