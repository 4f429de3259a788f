"""A peer that speaks the protocol and means ill, for tests over real sockets.

As a program it subscribes to all that it can think of, and takes nothing in:

    python tests/attacker.py tcp://host:port KEYS SUB|XSUB|DEALER
"""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import zmq

import iqlft_workers
from iqlft_workers import messages
from iqlft_workers.keys import WorkerKeys
from iqlft_workers.messages import Message
from iqlft_workers.wire import decode, encode

if TYPE_CHECKING:
    from iqlft_workers.transition import RowLayout

M = TypeVar("M", bound=Message)
SUBSCRIPTIONS, SUBSCRIBING_SECONDS = 30_000, 3.0
TOPIC_REPEATS = 30
"""Topics have 480 bytes."""


def unlock(socket: zmq.Socket[bytes], keys: Path | None) -> None:
    """Lets a socket in where there are keys."""
    if keys is not None:
        known = WorkerKeys.load(keys)
        socket.set(zmq.CURVE_SERVERKEY, known.learner)
        socket.set(zmq.CURVE_PUBLICKEY, known.public)
        socket.set(zmq.CURVE_SECRETKEY, known.secret)


class Attacker:
    """One connection to a learner, under as many sessions as it likes.

    Args:
        endpoint: of the learner.
        layout: of its transitions.
        keys: folder of the keys with which it is let in; None for a learner without keys.
        deaf: whether it takes nothing in, so that what it is told waits at the learner.
    """

    def __init__(
        self, endpoint: str, layout: RowLayout, keys: Path | None, *, deaf: bool = False
    ) -> None:
        self._layout, self._count = layout, 0
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.set(zmq.SNDTIMEO, 5_000)
        if deaf:
            self.socket.set(zmq.RCVHWM, 1)
            self.socket.set(zmq.RCVBUF, 4096)
        unlock(self.socket, keys)
        self.socket.connect(endpoint)
        self.session = ""

    def say(self, message: Message) -> None:
        """Sends a message, or gives it up after five seconds in which the learner takes none."""
        with suppress(zmq.Again):
            self.socket.send_multipart(encode(message))

    def hear(self, kind: type[M], timeout_seconds: float = 20.0) -> M:
        """The next message of a type; what comes before it is answered if it is a PING."""
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.socket.poll(1000 * left):
                message = decode(self.socket.recv_multipart())
                if isinstance(message, kind):
                    return message
                self._answer(message)
        raise AssertionError(f"No {kind.__name__} came.")

    def answer_pings(self) -> None:
        """Is alive, and no more."""
        while self.socket.poll(0):
            self._answer(decode(self.socket.recv_multipart()))

    def _answer(self, message: Message) -> None:
        if isinstance(message, messages.Ping):
            self._count += 1
            self.say(messages.Pong(message.number, self._count))

    def begin(self, worker_id: int | None = None) -> None:
        """HELLO and READY, under a new session."""
        self._count += 1
        self.session = f"attack {id(self)} {self._count}"
        self.say(messages.Hello(worker_id, self.session, iqlft_workers.__version__))
        self.ready()

    def join(self, worker_id: int | None = None) -> messages.Welcome:
        """The same, when the learner has said WELCOME."""
        deadline = time.monotonic() + 20.0
        self._count += 1
        self.session = f"attack {id(self)} {self._count}"
        while time.monotonic() < deadline:
            self.say(messages.Hello(worker_id, self.session, iqlft_workers.__version__))
            with suppress(AssertionError):
                welcome = self.hear(messages.Welcome, 0.5)
                self.ready()
                return welcome
        raise AssertionError("The learner does not say WELCOME.")

    def ready(self) -> None:
        """READY, once more."""
        layout = self._layout
        self.say(messages.Ready(self.session, layout.observation_dim, layout.action_dim, "", ""))

    def batch(self, sequence: int, count: int, episode: int = 0) -> messages.Batch:
        """Steps that were never taken."""
        wide = np.zeros((count, self._layout.observation_dim), np.float32)
        narrow = np.zeros((count, self._layout.action_dim), np.float32)
        flags = np.zeros(count, np.bool_)
        return messages.Batch(
            self.session, sequence, episode, None, 0.001, wide, narrow,
            np.zeros(count, np.float32), wide, flags, flags, np.zeros(count, np.uint32),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(0)


def subscribe(endpoint: str, keys: str, kind: str) -> None:
    """Subscribes to topics that nobody else thinks of, until its alarm ends the process.

    It is not left to end by itself: a subscriber that is turned away connects anew and repeats all
    its subscriptions within one call, which on a busy machine may not return.
    """
    with zmq.Context() as context, context.socket(getattr(zmq, kind)) as socket:
        socket.linger = 0
        socket.set(zmq.RCVHWM, 1)
        unlock(socket, Path(keys))
        socket.connect(endpoint)
        if kind == "DEALER":
            socket.send(b"")
        signal.setitimer(signal.ITIMER_REAL, SUBSCRIBING_SECONDS)
        for _ in range(SUBSCRIPTIONS):
            topic = uuid.uuid4().bytes * TOPIC_REPEATS
            with suppress(zmq.Again):
                if kind == "SUB":
                    socket.set(zmq.SUBSCRIBE, topic)
                else:
                    socket.send(b"\x01" + topic, zmq.NOBLOCK)
        signal.pause()


if __name__ == "__main__":
    os.nice(5)
    subscribe(*sys.argv[1:])
