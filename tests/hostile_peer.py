"""Malformed messages, and a process that sends them.

A malformed message is a valid one that something was done to: in its frames, in its bytes, or in
its header, where anything msgpack can say is put in the place of anything. As a program:

    python tests/hostile_peer.py --connect tcp://host:port --keys DIR --messages 1000 \\
        --per-second 500
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgpack
import numpy as np
import zmq

import iqlft_workers
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.keys import WorkerKeys
from iqlft_workers.messages import NAMES, Message
from iqlft_workers.wire import MAX_FRAMES, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECTIONS = 4
PER_CONNECTION = 25
"""Messages sent before a connection is made anew, for its routing id may be blocked by then."""
HUGE = 2**22 - 2**10
"""A frame of so many bytes is let in by the socket."""

_MARKER = "?" * 31
_PACKED_MARKER = msgpack.packb(_MARKER)

_PLAIN: list[Any] = [
    None, True, 0, -1, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, float("nan"), float("inf"), "",
    "HELLO", "\x1b[2J\n", "x" * 20_000, b"", b"\x00", [], [[]], [2**62, 4], [-1, -1],
    [0, 2**63], [0] * 1024, [0] * 1025, {}, {"a": {"b": [None]}}, {"": 0},
]  # fmt: skip
JUNK: list[bytes] = [
    *(msgpack.packb(value) for value in _PLAIN),
    *(msgpack.packb(msgpack.ExtType(code, b"12345678")) for code in (0, 7, 127)),
    msgpack.packb(msgpack.Timestamp(1, 2)),
    b"\xd7\xff" + b"\xff" * 8,  # a timestamp with too many nanoseconds
    b"\xc7\x00\x05",  # an empty extension
    b"\xc1",  # never used
    b"\xa2\xff\xfe",  # no UTF-8
    b"\xa3\xed\xa0\x80",  # half of a surrogate pair
    b"\x82\xa1a\x01\xa1a\x02",  # a key that stands twice
    b"\x81\x01\x02",
    b"\x81\xc4\x01a\x02",
    b"\x81\x90\x02",
    b"\x81\x80\x02",
    b"\x91" * 1000 + b"\xc0",
    b"\x91" * 5000 + b"\xc0",
    b"\x81\xa1a" * 1000 + b"\xc0",
    (b"\xdc\x04\x00" * 1000) + b"\xc0",
    b"\xdd\xff\xff\xff\xff",  # a list, a map, a string, bytes and an extension without an end
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
]
"""Msgpack that a header has no place for, or that is none."""


def valid_messages(session: str = "session") -> list[list[bytes]]:
    """Frames of messages of every type, those that a worker sends first."""
    made = [_message(kind, number, session) for kind in NAMES.values() for number in (0, 1, 2)]
    return [[bytes(frame) for frame in encode(message)] for message in made]


def _message(kind: type[Message], number: int, session: str) -> Message:
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.metadata:
            shape = (number, 3, 3)[: field.metadata["ndim"]]
            values[field.name] = np.zeros(shape, field.metadata["dtype"])
        else:
            values[field.name] = _value(field.type, number)
    known = {"session": session, "package": iqlft_workers.__version__}
    return kind(**values | {name: value for name, value in known.items() if name in values})


def _value(hint: Any, number: int) -> Any:  # noqa: ANN401
    if get_origin(hint) is UnionType:
        return _value(get_args(hint)[0], number) if number else None
    if get_origin(hint) is tuple:
        return (_value(get_args(hint)[0], number),) * number
    if get_origin(hint) is dict:
        return {"id": "Pendulum-v1", "kwargs": {"g": 9.8}, "observation_keys": ["a/b"]}
    result = EpisodeResult(1, 2.0, 3, success=True, start=(0.0, 1.0), end=(1.0, 2.0), first_hit=3)
    return {int: number, float: 0.5, bool: True, str: "word", EpisodeResult: result}[hint]


def malformed(frames: Sequence[bytes], rng: random.Random) -> list[bytes]:
    """A message to which one to three things have been done; by chance it may still be valid."""
    changed = list(frames)
    for _ in range(rng.randint(1, 3)):
        change = rng.choice([_change_frames, _change_bytes, _change_header, _change_header])
        changed = change(changed, rng)
    return changed


def _change_frames(frames: list[bytes], rng: random.Random) -> list[bytes]:
    place = rng.randrange(len(frames)) if frames else 0
    kept = [frame for index, frame in enumerate(frames) if index != place]
    match rng.randrange(6):
        case 0:
            return kept
        case 1:
            return frames[:place] + frames[place : place + 1] * 2 + frames[place + 1 :]
        case 2:
            return rng.sample(frames, len(frames))
        case 3:
            return [*frames, *[b""] * rng.choice([1, MAX_FRAMES, 300])]
        case 4:
            return [*kept, rng.randbytes(rng.choice([0, 1, 9, 300]))]
        case _:
            return [*kept, bytes(HUGE if rng.randrange(50) == 0 else 4096)]


def _change_bytes(frames: list[bytes], rng: random.Random) -> list[bytes]:
    if not frames:
        return [rng.randbytes(9)]
    place = rng.choice([0, rng.randrange(len(frames))])
    frame = frames[place]
    at = rng.randrange(len(frame) + 1)
    match rng.randrange(4):
        case 0:
            changed = frame[:at]
        case 1:
            changed = frame[:at] + rng.randbytes(rng.randint(1, 9)) + frame[at:]
        case 2:
            changed = frame[:at] + frame[at + rng.randint(1, 9) :]
        case _:
            changed = frame[:at] + bytes([rng.randrange(256)]) + frame[at + 1 :]
    return [*frames[:place], changed, *frames[place + 1 :]]


def _change_header(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """Junk in the place of a part of the header, of any depth."""
    try:
        header = msgpack.unpackb(frames[0])
        packed = msgpack.packb(_replaced(header, rng))
    except (ValueError, TypeError, IndexError, msgpack.UnpackException):
        return _change_bytes(frames, rng)
    return [packed.replace(_PACKED_MARKER, rng.choice(JUNK)), *frames[1:]]


def _replaced(part: Any, rng: random.Random) -> Any:  # noqa: ANN401
    if isinstance(part, dict) and part and rng.randrange(4):
        key = rng.choice(list(part))
        match rng.randrange(6):
            case 0:
                return {name: value for name, value in part.items() if name != key}
            case 1:
                return {**part, _MARKER: 0}
            case _:
                return {**part, key: _replaced(part[key], rng)}
    if isinstance(part, list) and part and rng.randrange(4):
        place = rng.randrange(len(part))
        return [*part[:place], _replaced(part[place], rng), *part[place + 1 :]]
    return _MARKER


@contextmanager
def started(
    endpoint: str, keys: Path | None, *, messages: int, per_second: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a key that sends so many malformed messages; it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--connect", endpoint, "--keys", str(keys),
         "--messages", str(messages), "--per-second", str(per_second)]
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def send(endpoint: str, keys: WorkerKeys, messages: int, per_second: float) -> None:
    """Sends malformed messages over several connections, each of which is made anew in its turn."""
    rng, valid, began = random.Random(0), valid_messages(), time.monotonic()
    with zmq.Context() as context:
        dealers = [_connect(context, endpoint, keys) for _ in range(CONNECTIONS)]
        for sent in range(messages):
            time.sleep(max(0.0, began + sent / per_second - time.monotonic()))
            turn, place = divmod(sent, CONNECTIONS)
            if turn and turn % PER_CONNECTION == 0:
                dealers[place].close()
                dealers[place] = _connect(context, endpoint, keys)
            # A message without any frame cannot be sent.
            dealers[place].send_multipart(malformed(rng.choice(valid), rng) or [b""])
        for dealer in dealers:
            dealer.close()


def _connect(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: WorkerKeys
) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.CURVE_SERVERKEY, keys.learner)
    dealer.set(zmq.CURVE_PUBLICKEY, keys.public)
    dealer.set(zmq.CURVE_SECRETKEY, keys.secret)
    dealer.set(zmq.LINGER, 5_000)
    dealer.connect(endpoint)
    return dealer


def main(argv: Sequence[str] | None = None) -> None:
    """Sends, at the lowest priority: the processor time would be another machine's."""
    parser = argparse.ArgumentParser(Path(__file__).name)
    parser.add_argument("--connect", required=True, metavar="tcp://HOST:PORT")
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--per-second", type=float, required=True)
    options = parser.parse_args(argv)
    os.nice(19)
    send(options.connect, WorkerKeys.load(options.keys), options.messages, options.per_second)


if __name__ == "__main__":
    main()
