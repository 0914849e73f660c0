"""Quantise a graph statically: uint8 activations, whose scales follow from calibration images, and int8 weights."""

import copy
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

from export.analysis.initializers import digest, digests
from export.convert.graph import drop_unused, replace_nodes, with_outputs
from export.convert.quantize import without_pairs
from runtime.model.spec import INPUT
from runtime.session.session import open_session

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ranges = dict[str, tuple[np.float32, np.float32]]
CHUNK = 16  # images at once: every value of the graph is kept for them
# What computes in integers, and what passes them on without leaving them.
OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Concat", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Reshape", "Flatten", "Transpose",
)  # fmt: skip
LAYERS = ("Conv", "Gemm", "MatMul", "Add")
CUTS = ("Relu", "Clip")
_OPTIONS = {
    "WeightSymmetric": True,
    "ActivationSymmetric": False,
    # Keep Relu nodes, so that the file read as float32 is the whole network.
    "QDQKeepRemovableActivations": True,
}


def sha256_of_images(images: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def value_ranges(model: onnx.ModelProto, images: Pixels) -> Ranges:
    """Return the smallest and largest number that each float value of a graph takes on these images."""
    names = list(dict.fromkeys(name for node in model.graph.node for name in node.output if name))
    opened = with_outputs(model, names).SerializeToString()
    session = open_session(opened, "cpu", what="the graph to be calibrated").session
    ranges: Ranges = {}
    for start in range(0, len(images), CHUNK):
        for name, value in zip(names, session.run(names, {INPUT: images[start : start + CHUNK]}), strict=True):
            if value.dtype == np.float32 and value.size:
                low, high = ranges.get(name, (value.min(), value.max()))
                ranges[name] = min(low, value.min()), max(high, value.max())
    return ranges


def quantize_statically(model: onnx.ModelProto, ranges: Ranges, weights: Iterable[Floats]) -> onnx.ModelProto:
    """Return a float32 graph as one that computes in int8, by onnxruntime's own quantizer.

    `weights` are those of the layers that are to compute in int8, in float32; other layers stay in float32.
    """
    wanted = {key for weight in weights for key in digests(weight)}
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    excluded = _left_in_float(model.graph, arrays, wanted)
    data = TensorsData(CalibrationMethod.MinMax, dict(ranges))
    kinds = {"weight_qType": QuantType.QInt8, "activation_qType": QuantType.QUInt8}
    quantizer = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=False,
        **kinds,
        tensors_range=data,
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=list(OPERATORS),
        extra_options=dict(_OPTIONS),
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    without_pairs(made.graph, {output.name for output in made.graph.output})  # answers are not rounded
    _round_behind_cuts(made.graph)
    replace_nodes(made.graph, _in_order(made.graph))
    drop_unused(made.graph)
    # The quantizer adds shapes in symbols of its own, as onnx's inference gives them.
    computed = {name for node in made.graph.node for name in node.output}
    del made.graph.value_info[:]
    made.graph.value_info.extend(info for info in model.graph.value_info if info.name in computed)
    for field in ("producer_name", "producer_version"):
        made.ClearField(field)
    return made


def _left_in_float(graph: onnx.GraphProto, arrays: dict[str, npt.NDArray[Any]], wanted: set[bytes]) -> list[str]:
    """Return the names of the nodes that compute in float32, though their operator is one of OPERATORS.

    Those are the layers whose weight is not wanted; and what only passes numbers on, or adds them, where it reads a
    float32 value: rounding that would cost accuracy, and nothing is gained.
    """
    integers: set[str] = set()
    excluded = []
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            weight = arrays.get(node.input[1])
            in_integers = weight is not None and digest(weight) in wanted
        else:
            values = [name for name in node.input if name and name not in arrays]
            adds_constant = node.op_type in ("Add", "Concat") and not arrays.keys().isdisjoint(node.input)
            in_integers = node.op_type in OPERATORS and integers.issuperset(values) and not adds_constant
        if in_integers:
            integers.update(node.output)
        else:
            excluded.append(node.name)
    return excluded


def _round_behind_cuts(graph: onnx.GraphProto) -> None:
    """Have each Relu or Clip read the layer in front of it unrounded, in place.

    Rounded behind it alone, the two become one kernel in integers. onnxruntime's quantizer rounds in front too, which
    keeps a sum apart from its Relu.
    """
    made = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        value = node.input[0] if node.op_type in CUTS else ""
        if sum(value in other.input for other in graph.node) != 1:
            continue
        while value in made and made[value].op_type in ("QuantizeLinear", "DequantizeLinear"):
            value = made[value].input[0]
        if value in made and made[value].op_type in LAYERS:
            node.input[0] = value


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes so that each value is computed before it is read, otherwise as they stand."""
    known = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input} | {""}
    waiting, ordered = list(graph.node), list[onnx.NodeProto]()
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise ValueError(f"the graph has a cycle at {waiting[0].name!r}")
        for node in ready:
            known.update(node.output)
        ordered += ready
        done = set(map(id, ready))
        waiting = [node for node in waiting if id(node) not in done]
    return ordered
