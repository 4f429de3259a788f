import contextlib
import itertools
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from workers import messages
from workers.actor import ActorWeights
from workers.episode import EpisodeResult
from workers.messages import NAMES, Message
from workers.wire import (
    MAX_BYTES,
    PROTOCOL,
    ArrayError,
    HeaderError,
    LimitError,
    ProtocolVersionError,
    WireError,
    decode,
    encode,
    pack_weights,
    unpack_weights,
)

FLOATS = st.floats(width=64, allow_nan=False)
INTS = st.integers(-(2**63), 2**63 - 1)
RESULTS = st.builds(
    EpisodeResult,
    seed=INTS,
    episode_return=FLOATS,
    length=INTS,
    success=st.booleans(),
    start=st.lists(FLOATS, max_size=3).map(tuple),
    end=st.lists(FLOATS, max_size=3).map(tuple),
    first_hit=INTS,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: INTS,
    str: st.text(max_size=20),
    bool: st.booleans(),
    EpisodeResult: RESULTS,
}
JSON = st.dictionaries(
    st.text(max_size=5), st.one_of(st.none(), FLOATS, INTS, st.lists(INTS, max_size=3))
)


def values_of(hint: object) -> st.SearchStrategy[Any]:
    """Values that a field of this type may have."""
    if get_origin(hint) is UnionType:
        return st.none() | SCALARS[get_args(hint)[0]]
    if get_origin(hint) is tuple:
        return st.lists(SCALARS[get_args(hint)[0]], max_size=5).map(tuple)
    return JSON if get_origin(hint) is dict else SCALARS[hint]


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


def make_batch(count: int = 3) -> messages.Batch:
    return messages.Batch(
        session="s",
        sequence=1,
        episode=0,
        finished=None,
        observations=np.arange(count * 2, dtype=np.float32).reshape(count, 2),
        actions=np.zeros((count, 1), np.float32),
        rewards=np.ones(count, np.float32),
        next_observations=np.zeros((count, 2), np.float32),
        terminated=np.zeros(count, np.bool_),
        truncated=np.zeros(count, np.bool_),
        versions=np.full(count, 7, np.uint32),
    )


@settings(deadline=None)
@given(ANY_MESSAGE)
def test_every_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert same(decode(raw(message)), message)


@given(st.lists(st.binary(max_size=200), max_size=12))
def test_random_frames_are_refused_with_a_wire_error(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


@settings(max_examples=300, deadline=None)
@given(ANY_MESSAGE, st.data())
def test_a_damaged_message_is_decoded_or_refused_but_never_breaks_the_decoder(
    message: Message, data: st.DataObject
) -> None:
    frames = raw(message)
    place = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[place])
    match data.draw(st.sampled_from(["flip", "cut", "drop", "double"])):
        case "flip" if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
            frames[place] = bytes(frame)
        case "cut":
            frames[place] = bytes(frame[: len(frame) // 2])
        case "drop":
            del frames[place]
        case _:
            frames.insert(place, bytes(frame))
    with contextlib.suppress(WireError):
        decode(frames)


JUNK = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@given(st.sampled_from(list(NAMES)), JUNK, JUNK, st.lists(st.binary(max_size=9), max_size=8))
def test_a_header_of_junk_is_decoded_or_refused_but_never_breaks_the_decoder(
    name: str, values: object, shapes: object, arrays: list[bytes]
) -> None:
    with contextlib.suppress(WireError):
        decode([msgpack.packb([PROTOCOL, name, values, shapes]), *arrays])


def test_arrays_are_read_without_a_copy() -> None:
    frames = raw(make_batch())
    batch = decode(frames)
    assert isinstance(batch, messages.Batch)
    assert not batch.observations.flags.owndata
    assert np.shares_memory(batch.observations, np.frombuffer(frames[1], np.uint8))


def test_an_array_that_is_not_contiguous_is_sent_in_its_own_order() -> None:
    batch = make_batch()
    turned = np.asfortranarray(batch.observations)
    sent = messages.Batch(**{**vars(batch), "observations": turned})
    received = decode(raw(sent))
    assert isinstance(received, messages.Batch)
    np.testing.assert_array_equal(received.observations, batch.observations)


def header(**changes: object) -> list[Any]:
    """A HELLO's header, with changes."""
    fields_ = {"worker_id": 1, "session": "s", "package": "0"} | changes
    return [PROTOCOL, "HELLO", fields_, []]


@pytest.mark.parametrize(
    "frame",
    [
        [PROTOCOL, "HULLO", {}, []],
        [PROTOCOL, ["HELLO"], {}, []],
        [PROTOCOL, "HELLO", {"worker_id": 1}, []],
        [PROTOCOL, "HELLO"],
        header(extra=1),
        header(worker_id="1"),
        header(worker_id=True),
        header(session=b"s"),
        {"type": "HELLO"},
        "HELLO",
    ],
)
def test_a_header_with_an_unknown_missing_or_mistyped_part_is_refused(frame: object) -> None:
    with pytest.raises(HeaderError):
        decode([msgpack.packb(frame)])


def test_another_protocol_version_is_named_and_refused() -> None:
    with pytest.raises(ProtocolVersionError, match="IQLP/2"):
        decode([msgpack.packb([2, "HOWDY", {}])])


def test_a_byte_too_few_or_another_shape_is_refused() -> None:
    frames = raw(make_batch())
    with pytest.raises(ArrayError, match="observations"):
        decode([frames[0], frames[1][:-1], *frames[2:]])
    protocol, name, values, shapes = msgpack.unpackb(frames[0])
    for wrong in ([2, 3, 1], [6], [-3, -2], [3.0, 2], "32", [0, 2**62]):
        bad = msgpack.packb([protocol, name, values, [wrong, *shapes[1:]]])
        with pytest.raises(ArrayError, match="observations"):
            decode([bad, b"" if wrong == [0, 2**62] else frames[1], *frames[2:]])


def test_flags_other_than_0_and_1_are_refused() -> None:
    frames = raw(make_batch())
    frames[5] = b"\x00\x01\x02"
    with pytest.raises(ArrayError, match="terminated"):
        decode(frames)


def test_too_many_frames_and_too_many_bytes_are_refused() -> None:
    with pytest.raises(LimitError, match="frames"):
        decode([b""] * 11)
    with pytest.raises(LimitError, match="bytes"):
        decode([bytes(MAX_BYTES // 2 + 1)] * 2)
    with pytest.raises(LimitError, match="bytes"):
        encode(messages.Weights(np.zeros(MAX_BYTES, np.uint8)))


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_actor_weights_come_back_from_their_single_frame(widths: list[int], version: int) -> None:
    rng = np.random.default_rng(0)
    weights = make_actor(widths, rng, version)
    received = unpack_weights(pack_weights(weights))
    assert received.version == version
    for one, other in zip(leaves(received), leaves(weights), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32


def make_actor(widths: list[int], rng: np.random.Generator, version: int) -> ActorWeights:
    def draw(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, np.float32)

    return ActorWeights(
        tuple(draw(*shape) for shape in itertools.pairwise(widths)),
        tuple(draw(width) for width in widths[1:]),
        draw(widths[-1]),
        draw(widths[0]),
        draw(widths[0]),
        version,
    )


def leaves(weights: ActorWeights) -> list[NDArray[np.float32]]:
    """All arrays of actor weights."""
    return [*weights.weights, *weights.biases, *weights[2:5]]


@given(st.binary(max_size=300))
def test_random_bytes_are_no_weights(packed: bytes) -> None:
    with pytest.raises(WireError):
        unpack_weights(packed)


def test_weights_that_are_cut_or_not_finite_are_refused() -> None:
    weights = make_actor([2, 3, 1], np.random.default_rng(0), 5)
    packed = pack_weights(weights)
    with pytest.raises(WireError):
        unpack_weights(packed[:-4])
    weights.weights[0][0, 0] = np.nan
    with pytest.raises(ArrayError, match="finite"):
        unpack_weights(pack_weights(weights))
