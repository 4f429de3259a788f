import itertools
import math
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors import gaussian
from iqlft_workers import messages
from iqlft_workers.actor import ACTORS, ActorWeights, Guide, uniform_weights
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


OTHER_KINDS = {
    "squashed_gaussian": ActorWeights(
        "squashed_gaussian",
        {
            "weight.0": np.ones((3, 4), np.float32),
            "bias.0": np.zeros(4, np.float32),
            "observation_mean": np.zeros(3, np.float32),
            "observation_std": np.ones(3, np.float32),
        },
        {"log_std_min": -5.0, "log_std_max": 2.0, "layer_norm": 0.0},
        version=7,
    ),
    "uniform": ActorWeights(
        "uniform",
        {
            "weight.0": np.zeros((3, 2), np.float32),
            "bias.0": np.zeros(2, np.float32),
            "observation_mean": np.zeros(3, np.float32),
            "observation_std": np.ones(3, np.float32),
        },
        {},
        version=9,
    ),
    "deterministic": ActorWeights(
        "deterministic",
        {
            "observation_std": np.ones(3, np.float32),  # In an order of its own.
            "bias.0": np.zeros(1, np.float32),
            "weight.0": np.ones((3, 1), np.float32),
            "observation_mean": np.zeros(3, np.float32),
        },
        {"exploration_noise": 0.1},
        version=8,
    ),
    "one_step_flow": ActorWeights(
        "one_step_flow",
        {
            "weight.0": np.ones((5, 4), np.float32),
            "bias.0": np.zeros(4, np.float32),
            "weight.1": np.ones((4, 2), np.float32),
            "bias.1": np.zeros(2, np.float32),
            "observation_mean": np.zeros(3, np.float32),
            "observation_std": np.ones(3, np.float32),
        },
        {},
        version=6,
    ),
}


@pytest.mark.parametrize("weights", OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_weights_of_the_other_kinds_come_back_as_they_were_sent(weights: ActorWeights) -> None:
    received = unpack_weights(pack_weights(weights))
    assert received._replace(arrays={}) == weights._replace(arrays={})
    assert list(received.arrays) == list(weights.arrays)
    for one, other in zip(leaves(received), leaves(weights), strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one.dtype, one.flags.writeable) == (np.float32, True)
    assert {"gaussian", *OTHER_KINDS} == ACTORS.keys()


def test_numbers_of_any_kind_travel_as_floats() -> None:
    weights = OTHER_KINDS["deterministic"]
    received = unpack_weights(pack_weights(weights._replace(settings={"exploration_noise": 1})))
    assert [type(value) for value in received.settings.values()] == [float]


def test_a_guide_travels_with_the_weights_that_it_guides(
    make_weights: Callable[..., ActorWeights],
) -> None:
    guided = make_weights(3, 1)._replace(guide=Guide(7, uniform_weights(make_weights(3, 1))))
    back = unpack_weights(pack_weights(guided))
    assert back.guide is not None
    assert (back.guide.steps, back.guide.weights.kind) == (7, "uniform")
    assert pack_weights(back) == pack_weights(guided)
    packed = pack_weights(guided)
    for length in range(len(pack_weights(guided._replace(guide=None))) + 1, len(packed)):
        with pytest.raises(WireError):
            unpack_weights(packed[:length])
    for other in (make_weights(4, 1), guided):
        with pytest.raises(WireError, match=r"guide|fill"):
            unpack_weights(pack_weights(guided._replace(guide=Guide(7, other))))


def test_weights_that_are_cut_or_not_finite_are_refused() -> None:
    weights = make_actor([2, 3, 1], np.random.default_rng(0), 5)
    packed = pack_weights(weights)
    with pytest.raises(WireError):
        unpack_weights(packed[:-4])
    weights.arrays["weight.0"][0, 0] = np.nan
    with pytest.raises(ArrayError, match="finite"):
        unpack_weights(pack_weights(weights))


SHAPES = [
    ["weight.0", [3, 1]],
    ["bias.0", [1]],
    ["observation_mean", [3]],
    ["observation_std", [3]],
]
"""Of a deterministic actor with a single layer."""
SETTINGS = {"exploration_noise": 0.1}


def packed(
    version: object = 0,
    kind: object = "deterministic",
    settings: object = SETTINGS,
    shapes: object = SHAPES,
    *,
    count: int = 10,
) -> bytes:
    """A frame of weights with any header; `count` values follow."""
    header = msgpack.packb([PROTOCOL, version, kind, settings, shapes])
    return struct.pack("<I", len(header)) + header + np.ones(count, "<f4").tobytes()


def renamed(name: object) -> list[Any]:
    """The shapes with another name for the last array."""
    return [*SHAPES[:-1], [name, [3]]]


def reshaped(*shape: object) -> list[Any]:
    """The shapes with another one for the last array."""
    return [*SHAPES[:-1], ["observation_std", list(shape)]]


def test_weights_packed_by_hand_are_taken() -> None:
    assert unpack_weights(packed()).kind == "deterministic"


@pytest.mark.parametrize(
    "hostile",
    {
        "a version that is no count": packed(-1),
        "a version beyond a row's field": packed(2**32),
        "a version that is a flag": packed(version=True),
        "an unknown kind": packed(kind="flow"),
        "a long kind": packed(kind="x" * 9000),
        "a kind that is no name": packed(kind=["deterministic"]),
        "another kind's arrays": packed(kind="gaussian"),
        "no settings": packed(settings={}),
        "settings in a list": packed(settings=[["exploration_noise", 0.1]]),
        "a further setting": packed(settings=SETTINGS | {"other": 1.0}),
        "a setting that is a flag": packed(settings={"exploration_noise": True}),
        "a setting that is no number": packed(settings={"exploration_noise": "0.1"}),
        "a setting that is not finite": packed(settings={"exploration_noise": math.inf}),
        "a setting that is not a number": packed(settings={"exploration_noise": math.nan}),
        "a setting without a name": packed(settings={1: 0.1}),
        "arrays in a map": packed(shapes=dict(SHAPES)),
        "no arrays": packed(shapes=[], count=0),
        "more arrays than there may be": packed(
            shapes=[[str(i), [1]] for i in range(65)], count=65
        ),
        "a name that is a number": packed(shapes=renamed(1)),
        "a name that is a list": packed(shapes=renamed(["observation_std"])),
        "a name that is bytes": packed(shapes=renamed(b"observation_std")),
        "no name": packed(shapes=[*SHAPES[:-1], [[3]]]),
        "an unknown name": packed(shapes=renamed("other")),
        "a layer without a number": packed(shapes=renamed("bias.x")),
        "a name that stands twice": packed(shapes=[*SHAPES, SHAPES[-1]]),
        "a name that stands twice, with its values": packed(shapes=[*SHAPES, SHAPES[-1]], count=13),
        "a name that stands twice, shorter at first": packed(
            shapes=[["observation_std", [1]], *SHAPES]
        ),
        "a shape that is a number": packed(shapes=[*SHAPES[:-1], ["observation_std", 3]]),
        "a negative length": packed(shapes=reshaped(-3)),
        "two negative lengths": packed(shapes=reshaped(-3, -1)),
        "no length": packed(shapes=reshaped(0), count=7),
        "a length that is no count": packed(shapes=reshaped(3.0)),
        "a length that is a flag": packed(shapes=reshaped(True, 3)),
        "a length beyond a frame": packed(shapes=reshaped(2**62)),
        "lengths beyond a frame": packed(shapes=reshaped(*[2**22] * 1000)),
        "a single value": packed(shapes=reshaped(), count=8),
        "more dimensions than an array has": packed(shapes=reshaped(3, *[1] * 100)),
        "values that are missing": packed(count=9),
        "values that are too many": packed(count=11),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_weights_with_a_hostile_header_are_refused(hostile: tuple[str, bytes]) -> None:
    with pytest.raises(WireError):
        unpack_weights(hostile[1])
