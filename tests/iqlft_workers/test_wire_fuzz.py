"""Whatever comes in, the decoder answers with a message or with a `WireError`, soon and cheaply."""

import contextlib
import gc
import itertools
import json
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hostile_peer import JUNK, malformed, valid_messages
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.messages import NAMES, Message
from iqlft_workers.wire import (
    MAX_HEADER_BYTES,
    PROTOCOL,
    WireError,
    decode,
    encode,
    pack_weights,
    unpack_weights,
)

CORPUS = sorted(Path(__file__).with_name("corpus").glob("*.hex"))
"""Frames that once broke something, a line each."""

FLOATS = st.floats(width=64, allow_nan=False)
INTS = st.integers(-(2**63), 2**64 - 1)
RESULTS = st.builds(
    EpisodeResult,
    seed=INTS,
    episode_return=FLOATS,
    length=INTS,
    success=st.none() | st.booleans(),
    start=st.lists(FLOATS, max_size=3).map(tuple),
    end=st.lists(FLOATS, max_size=3).map(tuple),
    first_hit=INTS,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: INTS,
    float: FLOATS,
    str: st.text(max_size=20),
    bool: st.booleans(),
    EpisodeResult: RESULTS,
}
LEAVES = st.none() | st.booleans() | INTS | FLOATS | st.text(max_size=5)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists and maps of leaves, in one another."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
        ),
        max_leaves=10,
    )


PLAIN_MAPS = st.dictionaries(st.text(max_size=9), nested(LEAVES), max_size=4)


def values_of(hint: object) -> st.SearchStrategy[Any]:
    """Values that a field of this type may have."""
    if get_origin(hint) is UnionType:
        return st.none() | SCALARS[get_args(hint)[0]]
    if get_origin(hint) is tuple:
        return st.lists(SCALARS[get_args(hint)[0]], max_size=5).map(tuple)
    return PLAIN_MAPS if get_origin(hint) is dict else SCALARS[hint]


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of one type with any content that the wire allows."""
    parts = {}
    for field in fields(kind):
        if field.metadata:
            dtype, ndim = field.metadata["dtype"], field.metadata["ndim"]
            shapes = npst.array_shapes(min_dims=ndim, max_dims=ndim, min_side=0, max_side=7)
            parts[field.name] = npst.arrays(dtype, shapes)
        else:
            parts[field.name] = values_of(field.type)
    return st.builds(kind, **parts)


ANY_MESSAGE = st.sampled_from(list(NAMES.values())).flatmap(messages_of)


def same(one: Message, other: Message) -> bool:
    """Whether two messages are equal, arrays to the last bit."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if not field.metadata:
            if a != b:
                return False
        elif (a.shape, a.dtype, a.tobytes()) != (b.shape, b.dtype, b.tobytes()):
            return False
    return type(one) is type(other)


def raw(message: Message) -> list[bytes]:
    """The frames as they come out of a socket."""
    return [bytes(frame) for frame in encode(message)]


def assert_stands(frames: list[bytes]) -> None:
    """Frames are refused, or are a message that can be sent on as it is."""
    with contextlib.suppress(WireError):
        message = decode(frames)
        assert raw(decode(raw(message))) == raw(message)


@pytest.mark.parametrize("kind", NAMES.values(), ids=NAMES)
def test_every_message_comes_back_as_it_was_sent(kind: type[Message]) -> None:
    @settings(deadline=None, max_examples=50)
    @given(messages_of(kind))
    def comes_back(message: Message) -> None:
        assert same(decode(raw(message)), message)

    comes_back()


@given(st.lists(st.binary(max_size=200), max_size=12))
def test_random_frames_are_refused_with_a_wire_error(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


@settings(max_examples=500, deadline=None)
@given(ANY_MESSAGE, st.randoms(use_true_random=False))
def test_a_malformed_message_never_breaks_the_decoder(message: Message, rng: random.Random) -> None:
    assert_stands(malformed(raw(message), rng))


@given(
    name=st.sampled_from(list(NAMES)),
    values=nested(LEAVES),
    shapes=nested(LEAVES),
    arrays=st.lists(st.binary(max_size=9), max_size=8),
)
def test_a_header_of_anything_never_breaks_the_decoder(
    name: str, values: object, shapes: object, arrays: list[bytes]
) -> None:
    assert_stands([msgpack.packb([PROTOCOL, name, values, shapes]), *arrays])


def parts_of(name: str) -> tuple[dict[str, Any], list[Any], list[bytes]]:
    """Fields, shapes and array frames of a valid message."""
    for frames in valid_messages():
        _, found, values, shapes = msgpack.unpackb(frames[0])
        if found == name:
            return values, shapes, frames[1:]
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_junk_in_the_place_of_any_field_or_shape_is_refused_or_fits(name: str) -> None:
    values, shapes, arrays = parts_of(name)
    marked = [({**values, key: "??????"}, shapes) for key in values]
    marked += [
        (values, [*shapes[:place], "??????", *shapes[place + 1 :]]) for place in range(len(shapes))
    ]
    for junk, (some_values, some_shapes) in itertools.product(JUNK, marked):
        header = msgpack.packb([PROTOCOL, name, some_values, some_shapes])
        assert_stands([header.replace(msgpack.packb("??????"), junk), *arrays])


def welcome(environment: object) -> list[bytes]:
    """A WELCOME with any msgpack as its environment."""
    values, shapes, arrays = parts_of("WELCOME")
    header = [PROTOCOL, "WELCOME", {**values, "environment": environment}, shapes]
    return [msgpack.packb(header), *arrays]


NOT_PLAIN = {
    "bytes": {"id": b"bytes"},
    "no bytes": {"kwargs": [{"a": [b""]}]},
    "an empty extension": {"id": msgpack.ExtType(5, b"")},
    "a timestamp": {"id": msgpack.Timestamp(1)},
    "a key of bytes": {"kwargs": {b"": 1}},
    "seventeen levels": json.loads('{"a": ' * 17 + "0" + "}" * 17),
    "a long list": {"a": [0] * 1025},
}


@pytest.mark.parametrize("environment", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_an_environment_that_is_not_as_plain_as_json_is_refused(environment: object) -> None:
    with pytest.raises(WireError):
        decode(welcome(environment))


@given(PLAIN_MAPS)
def test_an_environment_that_is_as_plain_as_json_is_taken(environment: dict[str, Any]) -> None:
    received = decode(welcome(environment))
    assert isinstance(received, messages.Welcome)
    assert received.environment == environment


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_once_broke_the_decoder_is_refused(path: Path) -> None:
    with pytest.raises(WireError):
        decode([bytes.fromhex(line) for line in path.read_text().split("\n") if line])


COSTLY = {
    "empty lists": [[[]] * 1000] * 16,
    "empty maps": [[{}] * 1000] * 16,
    "numbers": [[True] * 1000] * 16,
    "keys": [{str(index): 0 for index in range(1000)}] * 3,
    "levels": [json.loads("[" * 900 + "]" * 900)] * 16,
    "a long string": "x" * 16_000,
}


@pytest.mark.parametrize("value", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("where", ["name", "fields", "shapes", "environment"])
def test_no_header_takes_long_or_much_memory(where: str, value: object) -> None:
    values, shapes, _ = parts_of("WELCOME")
    parts = {"name": "WELCOME", "fields": values, "shapes": shapes, where: value}
    if where == "environment":
        parts["fields"] = {**values, where: {"kwargs": value}}
    frames = [msgpack.packb([PROTOCOL, parts["name"], parts["fields"], parts["shapes"]])]
    assert len(frames[0]) <= MAX_HEADER_BYTES
    assert_cheap(frames)


CLAIMS = {
    "lists in lists": b"\xdc\x04\x00" * 1000,
    "maps in maps": b"\xde\x04\x00\xa1a" * 1000,
    "more items than there may be": b"\xdd\x00\x3f\xff\xf0" * 1000,
    "a header of four megabytes": b"\xdd\x00\x3f\xff\xf0" + b"\x90" * (2**22 - 16),
}


@pytest.mark.parametrize("header", CLAIMS.values(), ids=CLAIMS)
def test_what_a_header_claims_to_hold_is_not_allocated(header: bytes) -> None:
    with pytest.raises(WireError):
        decode([header])
    assert_cheap([header])


def assert_cheap(frames: list[bytes]) -> None:
    """Frames are decoded or refused within 0.1 s of processor time and 16 MiB."""
    # How long the collection of garbage takes depends on the rest of the process.
    gc.disable()
    began = time.process_time()
    assert_stands(frames)
    seconds = time.process_time() - began
    gc.enable()
    assert seconds < 0.1
    tracemalloc.start()
    try:
        assert_stands(frames)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(rng=st.randoms(use_true_random=False), whole=st.booleans())
def test_malformed_weights_never_break_the_decoder(
    make_weights: Callable[..., ActorWeights], rng: random.Random, whole: bool
) -> None:
    packed = pack_weights(make_weights(2, 1, hidden=3))
    start = 4 + struct.unpack_from("<I", packed)[0]
    if whole:
        changed = b"".join(malformed([packed], rng))
    else:
        header, *values = malformed([packed[4:start], packed[start:]], rng) or [b""]
        changed = b"".join([struct.pack("<I", len(header)), header, *values])
    with contextlib.suppress(WireError):
        assert pack_weights(unpack_weights(changed)) == changed


@given(st.binary(max_size=300))
def test_random_bytes_are_no_weights(packed: bytes) -> None:
    with pytest.raises(WireError):
        unpack_weights(packed)


@pytest.mark.slow
def test_two_hundred_thousand_malformed_messages_never_break_the_decoder() -> None:
    rng, valid = random.Random(0), valid_messages()
    for _ in range(200_000):
        assert_stands(malformed(rng.choice(valid), rng))
