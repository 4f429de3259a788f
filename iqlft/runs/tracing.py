"""NumPy code as a graph: the actor runs once on an array that records what is done to it.

What an actor computes is defined in one place, `iqlft_workers.actor`; other formats are made by
recording it here, so that a kind of actor needs no further code for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

ELEMENTWISE = frozenset(
    ("add", "subtract", "multiply", "divide", "maximum", "minimum", "tanh", "exp", "sqrt")
)
"""The ufuncs that a graph has, with `matmul`; `square` and `clip` are made of them."""


class ExportError(UserError):
    """A policy cannot be exported in a format."""


class Graph(Protocol):
    """A graph under construction; its values are of a type of its own."""

    def constant(self, array: NDArray[np.float32]) -> Any:  # noqa: ANN401
        """A constant value."""

    def apply(self, name: str, *operands: Any) -> Any:  # noqa: ANN401
        """The result of one of `ELEMENTWISE`, or of `matmul`."""

    def mean(self, value: Any) -> Any:  # noqa: ANN401
        """The mean along the last axis, which is kept."""

    def halves(self, value: Any) -> Sequence[Any]:  # noqa: ANN401
        """The first and the second half along the last axis."""

    def reshape(self, value: Any, shape: Sequence[int]) -> Any:  # noqa: ANN401
        """The same numbers in another shape, where -1 is inferred."""


class Traced(NDArrayOperatorsMixin):
    """A float32 array `(N, width)` of a graph, with which NumPy computes as with any other.

    Args:
        graph: records the operations.
        value: the array's value in the graph.
    """

    shape = (-1, 0)
    """N is not known, and nothing asks for the width."""

    def __init__(self, graph: Graph, value: Any) -> None:  # noqa: ANN401
        self.graph, self.value = graph, value

    def __array_ufunc__(
        self,
        ufunc: np.ufunc,
        method: str,
        *operands: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Called by NumPy in place of the ufunc."""
        if ufunc is np.square:
            return operands[0] * operands[0]
        if ufunc.__name__ not in ELEMENTWISE | {"matmul"} or method != "__call__" or options:
            raise _unknown(ufunc.__name__)
        values = [self._value(each) for each in operands]
        return Traced(self.graph, self.graph.apply(ufunc.__name__, *values))

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Any,  # noqa: ANN401 -- NumPy's protocol
        operands: Sequence[Any],
        options: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401
        """Called by NumPy in place of the function."""
        if function is np.clip:
            array, low, high = operands
            return np.minimum(np.maximum(array, low), high)
        if function is np.split and operands[1:] == (2,) and options == {"axis": -1}:
            return [Traced(self.graph, each) for each in self.graph.halves(self.value)]
        raise _unknown(function.__name__)

    def mean(self, axis: int, *, keepdims: bool) -> Traced:
        """The mean along the last axis, which is kept."""
        if axis != -1 or not keepdims:
            raise _unknown("mean along another axis")
        return Traced(self.graph, self.graph.mean(self.value))

    def reshape(self, shape: Sequence[int]) -> Traced:
        """The same numbers in another shape."""
        return Traced(self.graph, self.graph.reshape(self.value, shape))

    def _value(self, operand: Any) -> Any:  # noqa: ANN401
        if isinstance(operand, Traced):
            return operand.value
        return self.graph.constant(np.asarray(operand, np.float32))


def _unknown(name: str) -> ExportError:
    return ExportError(
        f"The actor computes {name}, which is written in NumPy's form alone; export it with "
        "--to numpy."
    )


def traced(graph: Graph, value: Any) -> NDArray[np.float32]:  # noqa: ANN401
    """A value of a graph, for code that takes an array."""
    return cast("NDArray[np.float32]", Traced(graph, value))
