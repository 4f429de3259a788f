"""Messages to frames and back; no sockets, no pickle.

Frame 0 is a msgpack header `[protocol, name, fields, shapes]`; frames 1..k are raw little-endian
C-contiguous arrays in the order of the message's array fields. What does not fit exactly is refused
with a `WireError`:

    WireError
    |-- LimitError            too many frames or bytes, or a header that is too long
    |-- ProtocolVersionError  another protocol version
    |-- HeaderError           no header, an unknown message, unknown, missing or mistyped fields
    `-- ArrayError            an array's dtype, shape or byte length does not fit
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgpack
import numpy as np

from iqlft_workers.actor import ActorWeights, ActorWeightsError, Guide, check_weights
from iqlft_workers.messages import NAMES, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PROTOCOL = 2
"""Version of the wire; a peer with another one is rejected.

Version 2 names the actor's kind and arrays; 1 knew a single kind, by its layers' widths."""
MAX_FRAMES = 10
"""The most frames of a message, the header included."""
MAX_BYTES = 4 * 2**20
"""The most bytes of a message, all frames together."""
MAX_HEADER_BYTES = 16 * 2**10
"""The most bytes of a header."""
_MAX_ITEMS = 1024
"""The most items of a list or a map in a header: they are allocated before they are read."""
_MAX_LEVELS = 16
"""The most levels of lists and maps in a field that may hold anything."""
_MAX_ARRAYS = 64
"""The most arrays of an actor."""
_MAX_DIMENSIONS = 8
"""The most dimensions of an actor's array; NumPy's own bound differs between its versions."""

Frame = bytes | memoryview
"""A part of a message."""


class WireError(ValueError):
    """Frames that are no valid message."""


class LimitError(WireError):
    """Too many frames or bytes, or a header that is too long."""


class ProtocolVersionError(WireError):
    """A peer speaks another version of the protocol."""


class HeaderError(WireError):
    """The header is not one of ours."""


class ArrayError(WireError):
    """An array does not fit what the header says of it."""


class _Schema(NamedTuple):
    name: str
    message: type[Message]
    scalars: dict[str, Any]
    arrays: dict[str, tuple[np.dtype[Any], int]]


def _schema(name: str, message: type[Message]) -> _Schema:
    scalars = {f.name: f.type for f in fields(message) if not f.metadata}
    arrays = {
        f.name: (f.metadata["dtype"], f.metadata["ndim"]) for f in fields(message) if f.metadata
    }
    return _Schema(name, message, scalars, arrays)


_BY_NAME = {name: _schema(name, message) for name, message in NAMES.items()}
"""What each message holds, by its name on the wire."""
_BY_TYPE = {schema.message: schema for schema in _BY_NAME.values()}
"""The same, by its class."""


def encode(message: Message) -> list[Frame]:
    """The frames of a message; contiguous arrays are not copied.

    Raises:
        LimitError: the message is too large to be accepted on the other side.
    """
    schema = _BY_TYPE[type(message)]
    arrays = [
        np.ascontiguousarray(getattr(message, name), dtype)
        for name, (dtype, _) in schema.arrays.items()
    ]
    values = {name: getattr(message, name) for name in schema.scalars}
    header = [PROTOCOL, schema.name, values, [array.shape for array in arrays]]
    frames: list[Frame] = [msgpack.packb(header), *(array.data for array in arrays)]
    _check_limits(frames)
    _check_header(frames[0])
    return frames


def decode(frames: Sequence[Frame], *, oldest_protocol: int | None = None) -> Message:
    """The message in frames; its arrays are read-only views of them.

    Args:
        frames: of one message.
        oldest_protocol: the oldest accepted, for recorded messages; None: the current one alone.

    Raises:
        WireError: the frames are no valid message; see the tree above.
    """
    sizes = _check_limits(frames)
    name, values, shapes = _header(frames[0], 3, oldest_protocol)
    schema = _BY_NAME.get(name) if isinstance(name, str) else None
    if schema is None:
        # Only a string is shown: anything else may be nested too deeply for `repr`.
        shown = repr(name[:40]) if isinstance(name, str) else f"named by a {type(name).__name__}"
        raise HeaderError(f"There is no message {shown}.")
    if not isinstance(values, dict) or values.keys() != schema.scalars.keys():
        raise HeaderError(f"{schema.name} needs exactly the fields {list(schema.scalars)}.")
    if not isinstance(shapes, list) or not len(shapes) == len(schema.arrays) == len(frames) - 1:
        raise ArrayError(f"{schema.name} needs exactly the arrays {list(schema.arrays)}.")
    arguments = {key: _convert(values[key], hint, key) for key, hint in schema.scalars.items()}
    for place, (key, (dtype, ndim)) in enumerate(schema.arrays.items()):
        if _num_bytes(shapes[place], ndim, dtype.itemsize) != sizes[1 + place]:
            raise ArrayError(f"The array {key} does not hold {dtype} in {ndim} dimensions.")
        arguments[key] = _array(frames[1 + place], shapes[place], dtype, key)
    return schema.message(**arguments)


def _check_limits(frames: Sequence[Frame]) -> list[int]:
    """The frames' sizes in bytes, after a check against the limits."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise LimitError(f"A message has 1 to {MAX_FRAMES} frames, not {len(frames)}.")
    sizes = [_size(frame) for frame in frames]
    if (size := sum(sizes)) > MAX_BYTES:
        raise LimitError(f"A message has at most {MAX_BYTES} bytes, not {size}.")
    return sizes


def _size(frame: Frame) -> int:
    return len(frame) if type(frame) is bytes else memoryview(frame).nbytes


def _check_header(frame: Frame) -> None:
    if (size := _size(frame)) > MAX_HEADER_BYTES:
        raise LimitError(f"A header has at most {MAX_HEADER_BYTES} bytes, not {size}.")


def _header(frame: Frame, count: int, oldest_protocol: int | None = None) -> list[Any]:
    """The `count` parts of a header that follow the version of the protocol."""
    _check_header(frame)
    header = _unpack(frame)
    if not isinstance(header, list) or not header or type(header[0]) is not int:
        raise HeaderError("The header does not begin with a protocol version.")
    oldest = PROTOCOL if oldest_protocol is None else oldest_protocol
    if not oldest <= header[0] <= PROTOCOL:
        raise ProtocolVersionError(
            f"The peer speaks IQLP/{header[0]}, this side IQLP/{PROTOCOL}; "
            "install the same iqlft version on both."
        )
    if len(header) != 1 + count:
        raise HeaderError(f"The header has {len(header)} parts, not {1 + count}.")
    return header[1:]


def _unpack(data: Frame) -> Any:  # noqa: ANN401
    """Decodes msgpack; refuses bytes, timestamps and other types that no header of ours holds."""
    try:
        return msgpack.unpackb(
            data,
            object_pairs_hook=_map,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_bin_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        kind = type(error).__name__
        raise HeaderError(f"The header cannot be read ({kind}: {error}).") from error


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice in a map")
    return found


def _convert(value: Any, hint: Any, name: str) -> Any:  # noqa: ANN401
    """A msgpack value as the field's type; lists become tuples and NamedTuples."""
    # An exact comparison, because a bool is an int to isinstance.
    if type(value) is hint:
        return value
    arguments = get_args(hint)
    if get_origin(hint) is UnionType:
        kinds = [kind for kind in arguments if kind is not NoneType]
        return None if value is None else _convert(value, kinds[0], name)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(item, arguments[0], name) for item in value)
    if get_origin(hint) is dict and isinstance(value, dict) and _is_plain(value, _MAX_LEVELS):
        return value
    if isinstance(value, list) and (parts := getattr(hint, "_fields", ())):
        hints = get_type_hints(hint)
        if len(value) == len(parts):
            pairs = zip(value, parts, strict=True)
            return hint(*(_convert(item, hints[part], part) for item, part in pairs))
    raise HeaderError(f"The field {name} is a {type(value).__name__}, not {hint}.")


def _is_plain(value: Any, levels: int) -> bool:  # noqa: ANN401
    """Whether a value can be written as JSON with at most so many levels of lists and maps."""
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and _is_plain([*value.values()], levels)
    if isinstance(value, list):
        return levels > 0 and all(_is_plain(item, levels - 1) for item in value)
    return value is None or type(value) in {bool, int, float, str}


def _num_bytes(shape: Any, ndim: int, itemsize: int) -> int:  # noqa: ANN401
    """Bytes of an array of this shape; -1 if it is not a shape of `ndim` dimensions."""
    if not isinstance(shape, list) or len(shape) != ndim:
        return -1
    for length in shape:
        if type(length) is not int or length < 0:
            return -1
        itemsize *= length
    return itemsize


def _array(frame: Frame, shape: list[int], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """The array in a frame, whose size has been checked."""
    # A zero in a shape may hide another length beyond what NumPy can index.
    if max(shape) > MAX_BYTES:
        raise ArrayError(f"The array {name} is too long.")
    if dtype.kind == "b" and bytes(frame).translate(None, b"\0\1"):
        raise ArrayError(f"The flags {name} are not 0 or 1.")
    array: NDArray[Any] = np.frombuffer(frame, dtype)
    return array if len(shape) == 1 else array.reshape(shape)


def pack_weights(weights: ActorWeights) -> bytes:
    """Actor weights as a single frame, because a conflating subscription keeps only one.

    A length (u32), a msgpack header `[protocol, version, kind, settings, [[name, shape], ...]]`,
    then the arrays' float32 values; with a guide also its number of steps (u32) and its weights,
    packed in the same way.

    Raises:
        LimitError: the weights are too large to be accepted on the other side.
    """
    shapes = [(name, array.shape) for name, array in weights.arrays.items()]
    settings = {name: float(value) for name, value in weights.settings.items()}
    header = msgpack.packb([PROTOCOL, int(weights.version), weights.kind, settings, shapes])
    values = (np.asarray(array, "<f4").tobytes() for array in weights.arrays.values())
    guide = weights.guide
    guiding = (struct.pack("<I", guide.steps), pack_weights(guide.weights)) if guide else ()
    packed = b"".join((struct.pack("<I", len(header)), header, *values, *guiding))
    _check_limits([packed])
    return packed


def unpack_weights(packed: Any) -> ActorWeights:  # noqa: ANN401
    """The inverse of `pack_weights`; the arrays are copies.

    Args:
        packed: bytes, or anything with their buffer.

    Raises:
        WireError: `packed` is not what `pack_weights` makes, or a value is not finite.
    """
    data = memoryview(packed).cast("B")
    _check_limits([data])
    try:
        return check_weights(_unpack_weights(data))
    except ActorWeightsError as error:
        raise ArrayError(f"The weights are no actor's: {error}.") from error


def _unpack_weights(data: memoryview, *, guided: bool = True) -> ActorWeights:
    """The weights, not checked against their kind; `guided` allows them a guide."""
    if len(data) < 4 or (start := 4 + struct.unpack_from("<I", data)[0]) > len(data):
        raise HeaderError("The weights are cut short.")
    version, kind, settings, shapes = _weights_header(data[4:start])
    end = start + sum(map(math.prod, shapes.values())) * 4
    if end != len(data) and not (guided and end + 4 < len(data)):
        raise ArrayError("The weights do not fill their arrays.")
    values = np.frombuffer(data[start:end], "<f4")
    if not np.isfinite(values).all() or not all(map(math.isfinite, settings.values())):
        raise ArrayError("The weights are not finite.")
    weights = ActorWeights(kind, _split(values, shapes), settings, version)
    if end == len(data):
        return weights
    guide = _unpack_weights(data[end + 4 :], guided=False)
    return weights._replace(guide=Guide(struct.unpack_from("<I", data, end)[0], guide))


def _weights_header(
    data: memoryview,
) -> tuple[int, str, dict[str, float], dict[str, tuple[int, ...]]]:
    version, kind, settings, shapes = _header(data, 4)
    if type(version) is not int or not 0 <= version < 2**32:
        raise HeaderError("The weights' version is not a count.")
    if type(kind) is not str:
        raise HeaderError("The weights' kind is no name.")
    if not isinstance(settings, dict) or not all(type(v) is float for v in settings.values()):
        raise HeaderError("The weights' settings are not numbers by name.")
    if not isinstance(shapes, list) or not 1 <= len(shapes) <= _MAX_ARRAYS:
        raise HeaderError("The weights' arrays are not listed.")
    if not all(map(_is_named_shape, shapes)):
        raise HeaderError("The weights' arrays have no names, or no positive lengths.")
    if len(named := {name: tuple(shape) for name, shape in shapes}) != len(shapes):
        raise HeaderError("The weights name an array twice.")
    return version, kind, settings, named


def _is_named_shape(pair: Any) -> bool:  # noqa: ANN401
    if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not str:
        return False
    shape = pair[1]
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        return False
    return all(type(length) is int and 0 < length <= MAX_BYTES for length in shape)


def _split(
    values: NDArray[np.float32], shapes: dict[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    ends = itertools.accumulate(map(math.prod, shapes.values()))
    parts = np.split(values, list(ends)[:-1])
    return {
        name: part.reshape(shape).astype(np.float32)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
