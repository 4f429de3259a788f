"""A policy as one file for a robot: ONNX, or PyTorch's exported program.

Normaliser, network and the bounds of actions are inside: raw observations go in, `(N, O)` float32,
and what comes out is `action` in the environment's units, that of an evaluation, and `log_std`
where the policy has one. Both files are made from what the NumPy actor does, see `tracing`.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from iqlft.runs.tracing import ExportError, traced
from iqlft_workers import __version__
from iqlft_workers.actor import make_actor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from iqlft.runs.policy import Policy
    from iqlft.runs.tracing import Graph

OPSET, IR_VERSION = 18, 8
"""Versions of 2022, which onnxruntime reads from 1.14 on."""
DESCRIPTION = "iqlft.json"
"""Name of the file inside an exported program that holds its `description`."""


def description(policy: Policy) -> dict[str, Any]:
    """Metadata of an exported policy: where it comes from, and the order of its inputs."""
    weights, environment = policy.weights, policy.environment
    known = {name: policy.about[name] for name in ("task", "algorithm") if name in policy.about}
    return {
        **known,
        "updates": weights.version,
        "kind": weights.kind,
        "environment": environment.id,
        "observation_dim": weights.observation_dim,
        "action_dim": weights.action_dim,
        "action_low": environment.action_low,
        "action_high": environment.action_high,
        "observation": _parts(policy),
        "iqlft": __version__,
    }


def _parts(policy: Policy) -> list[dict[str, Any]]:
    """The parts of an observation in order, each with its columns `[first, end]`, end excluded."""
    leaves, keys = policy.environment.observation_leaves, policy.environment.observation_keys
    if not leaves:  # Data of an earlier version: widths were not recorded.
        whole = {"key": "", "columns": [0, policy.weights.observation_dim]}
        return [{"key": key} for key in keys] or [whole]
    parts, first = [], 0
    for leaf in leaves:
        parts.append(leaf._asdict() | {"columns": [first, first + leaf.width]})
        first += leaf.width
    return parts


def _outputs(policy: Policy, graph: Graph, observation: Any) -> dict[str, Any]:  # noqa: ANN401
    """The graph's values by the names of the outputs, given the value of the observation."""
    action, log_std = make_actor(policy.weights).distribution(traced(graph, observation))
    outputs: dict[str, Any] = {"action": policy.executed(action)}
    if log_std is not None:
        # Adding zero gives the batch's shape to a log_std that depends on no observation; actions
        # are finite.
        outputs["log_std"] = log_std + 0 * action
    return {name: each.value for name, each in outputs.items()}


# -- ONNX -----------------------------------------------------------------------------------


class _Onnx:
    """A graph of ONNX nodes; its values are their names."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper  # noqa: PLC0415  # an extra

        self._node, self._tensor = helper.make_node, numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._tensor(np.ascontiguousarray(array), name))
        return name

    def apply(self, name: str, *operands: str) -> str:
        return self._add(_ONNX_NAMES.get(name, name.capitalize()), operands)[0]

    def mean(self, value: str) -> str:
        return self._add("ReduceMean", (value, self.constant(np.array([-1]))), keepdims=1)[0]

    def halves(self, value: str) -> Sequence[str]:
        return self._add("Split", (value,), outputs=2, axis=-1, num_outputs=2)

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        return self._add("Reshape", (value, self.constant(np.array(shape))))[0]

    def name(self, value: str, name: str) -> None:
        """Gives a value the name of an output."""
        self.nodes.append(self._node("Identity", [value], [name]))

    def _add(
        self,
        kind: str,
        operands: Sequence[str],
        outputs: int = 1,
        **options: Any,  # noqa: ANN401
    ) -> Sequence[str]:
        names = [f"value_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(self._node(kind, operands, names, **options))
        return names


_ONNX_NAMES = {
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "matmul": "MatMul",
}
"""ONNX's names of ufuncs, where they are not NumPy's capitalised."""


def to_onnx(policy: Policy) -> bytes:
    """A policy as an ONNX model; its metadata are the entries of `description`, as JSON.

    Raises:
        ExportError: the package onnx is not installed, or the kind of actor has no such form.
    """
    try:
        from onnx import TensorProto, helper  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ExportError(
            f"ONNX files are written by the package onnx, which is not here ({error}); install it "
            "with `pip install onnx`, the extra `onnx`."
        ) from error
    graph, about = _Onnx(), description(policy)
    outputs = _outputs(policy, graph, "observation")
    for name, value in outputs.items():
        graph.name(value, name)
    flat = [about["action_dim"]]
    shapes = {"action": policy.environment.action_shape or flat, "log_std": flat}

    def info(name: str, shape: Sequence[int]) -> Any:  # noqa: ANN401
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    made = helper.make_graph(
        graph.nodes,
        "policy",
        [info("observation", [about["observation_dim"]])],
        [info(name, shapes[name]) for name in outputs],
        graph.constants,
        doc_string=__doc__,
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="iqlft",
        producer_version=__version__,
    )
    helper.set_model_props(model, {key: json.dumps(each) for key, each in about.items()})
    data: bytes = model.SerializeToString()
    return data


# -- PyTorch --------------------------------------------------------------------------------


class _Torch:
    """PyTorch itself, which records a graph of its own; its values are tensors."""

    def __init__(self) -> None:
        import torch  # noqa: PLC0415  # The other forms do without.

        self._torch = torch

    def constant(self, array: NDArray[Any]) -> torch.Tensor:
        return self._torch.from_numpy(array.copy())

    def apply(self, name: str, *operands: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = getattr(self._torch, name)(*operands)
        return result

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        return value.mean(-1, keepdim=True)

    def halves(self, value: torch.Tensor) -> Sequence[torch.Tensor]:
        return value.chunk(2, -1)

    def reshape(self, value: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return value.reshape(*shape)


def to_torch(policy: Policy) -> bytes:
    """A policy as PyTorch's exported program (`.pt2`), for `torch.export.load` or C++.

    It returns a dictionary of the outputs; `description` is in the extra file `DESCRIPTION`.

    Raises:
        ExportError: the kind of actor has no such form.
    """
    import torch  # noqa: PLC0415  # The other forms do without.

    class Module(torch.nn.Module):
        def forward(self, observation: torch.Tensor) -> dict[str, torch.Tensor]:
            return _outputs(policy, _Torch(), observation)

    about, file = description(policy), io.BytesIO()
    batch = {0: torch.export.Dim("N", min=1)}
    example = torch.zeros(2, about["observation_dim"])
    program = torch.export.export(Module(), (example,), dynamic_shapes=(batch,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # It has the paths of this machine.
    torch.export.save(program, file, extra_files={DESCRIPTION: json.dumps(about)})
    return file.getvalue()
