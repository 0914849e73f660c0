"""One worked example as an ONNX graph that carries its own inputs and right answers."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.helper
import onnx.numpy_helper
from onnx import NodeProto, TensorProto, ValueInfoProto

from runtime.evaluation.self_test import FORMAT

OPSET, IR_VERSION = 13, 7  # old enough for the runtimes in use, new enough that every operator here has a CUDA kernel

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WorkedExample:
    """One graph and what it answers; inputs and outputs are float32 (1, C, H, W).

    Attributes:
        name: the section of D2L, a dash, and words.
        constants: weights, as float32, or shapes, as int64 where the array holds integers.
        tolerance: how far float32 may end from `expected`; 0 where it holds every intermediate result.
        tolerance_reason: where that number comes from.
    """

    name: str
    title: str
    nodes: list[NodeProto]
    inputs: dict[str, Array]
    expected: dict[str, Array]
    constants: dict[str, Array] = field(default_factory=dict)
    tolerance: float = 0.0
    tolerance_reason: str = "every intermediate result is exact in float32"

    def serialize(self) -> bytes:
        """Return the graph as ONNX; the same library gives the same bytes."""
        constants = [
            onnx.numpy_helper.from_array(value.astype(np.int64 if value.dtype.kind == "i" else np.float32), name)
            for name, value in self.constants.items()
        ]
        graph = onnx.helper.make_graph(self.nodes, self.name, _infos(self.inputs), _infos(self.expected), constants)
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fashion-zoo")
        fields = {
            "format": FORMAT,
            "title": self.title,
            "section": self.name.partition("-")[0],
            "inputs": {name: _plain(value) for name, value in self.inputs.items()},
            "expected": {name: _plain(value) for name, value in self.expected.items()},
            "tolerance": self.tolerance,
            "tolerance_reason": self.tolerance_reason,
        }
        onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in fields.items()})
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _infos(tensors: dict[str, Array]) -> list[ValueInfoProto]:
    return [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in tensors.items()]


def _plain(array: Array) -> Any:
    """Nested lists, whole numbers as such: exact in JSON."""
    if array.ndim:
        return [_plain(part) for part in array]
    return int(array) if array == int(array) else float(array)
