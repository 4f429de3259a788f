import itertools
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors import gaussian
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.messages import Message
from iqlft_workers.wire import (
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


def raw(message: Message) -> list[bytes]:
    """The frames as they come out of a socket."""
    return [bytes(frame) for frame in encode(message)]


def make_batch(count: int = 3) -> messages.Batch:
    return messages.Batch(
        session="s",
        sequence=1,
        episode=0,
        finished=None,
        stepping_seconds=0.1,
        observations=np.arange(count * 2, dtype=np.float32).reshape(count, 2),
        actions=np.zeros((count, 1), np.float32),
        rewards=np.ones(count, np.float32),
        next_observations=np.zeros((count, 2), np.float32),
        terminated=np.zeros(count, np.bool_),
        truncated=np.zeros(count, np.bool_),
        versions=np.full(count, 7, np.uint32),
    )


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
    with pytest.raises(ProtocolVersionError, match="IQLP/1"):
        decode([msgpack.packb([1, "HOWDY", {}])])


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

    return gaussian(
        tuple(draw(*shape) for shape in itertools.pairwise(widths)),
        tuple(draw(width) for width in widths[1:]),
        draw(widths[-1]),
        draw(widths[0]),
        draw(widths[0]),
        version,
    )


def leaves(weights: ActorWeights) -> list[NDArray[np.float32]]:
    """All arrays of actor weights."""
    return list(weights.arrays.values())


def test_weights_that_are_cut_or_not_finite_are_refused() -> None:
    weights = make_actor([2, 3, 1], np.random.default_rng(0), 5)
    packed = pack_weights(weights)
    with pytest.raises(WireError):
        unpack_weights(packed[:-4])
    weights.arrays["weight.0"][0, 0] = np.nan
    with pytest.raises(ArrayError, match="finite"):
        unpack_weights(pack_weights(weights))
