"""Keep the weights of linear layers as integers; read a quantised graph as float32.

onnxruntime computes with such weights directly if it finds a DequantizeLinear in front of a MatMul, or of a Gemm that
does not transpose: so matrices are written as (inputs, outputs). It fuses Gemm and Relu before it looks for this
pattern, and then dequantises at every call: so that Relu is written as Max(x, 0). Other engines multiply the weights
out when they load.
"""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import NodeProto, TensorProto

from export.analysis.initializers import digest
from export.convert.graph import drop_unused, replace_nodes
from export.integers import Integers
from runtime.errors import UsageError

ZERO = "zero"  # the tensor that a Max compares with
LOWEST_OPSET = {"int4": 21}  # int4, and scales for blocks


def store_in_integers(model: onnx.ModelProto, integers: dict[str, Integers]) -> None:
    """Write these weights, which the graph holds as float32, as integers behind a DequantizeLinear.

    The graph is changed in place; its weights are `Integers.numbers()`. One that it does not hold is passed over.

    Raises:
        UsageError: another node than a product of matrices reads one of them.
    """
    graph = model.graph
    wanted = {digest(weight.numbers()): (name, weight, True) for name, weight in integers.items()}
    wanted |= {digest(weight.numbers().T): (name, weight, False) for name, weight in integers.items()}
    made: list[NodeProto] = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        found = wanted.get(digest(onnx.numpy_helper.to_array(tensor)))
        if found is None:
            continue
        name, weight, is_transposed = found
        readers = [node for node in graph.node if tensor.name in node.input]
        for node in readers:
            _read_untransposed(node, tensor.name, is_transposed, name)
            node.input[1] = f"{tensor.name}_fp32"
        made.append(_dequantize(graph, tensor, weight))
    replace_nodes(graph, [*made, *graph.node])
    _write_relu_as_max(graph, {node.output[0] for node in made})


def _write_relu_as_max(graph: onnx.GraphProto, weights: set[str]) -> None:
    """Write every Relu behind a product with one of these weights, or behind that and a sum, as a Max with 0."""
    behind: set[str] = set()
    changed = []
    for node in graph.node:
        if behind.intersection(node.input) if node.op_type == "Add" else weights.intersection(node.input):
            behind.update(node.output)
        elif node.op_type == "Relu" and node.input[0] in behind:
            node.op_type = "Max"
            node.input.append(ZERO)
            changed.append(node)
    if changed:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), ZERO))


def _read_untransposed(node: NodeProto, tensor: str, is_transposed: bool, name: str) -> None:
    """Turn a Gemm that reads a matrix as (outputs, inputs) to one that reads it as (inputs, outputs)."""
    turns = next((a for a in node.attribute if a.name == "transB" and a.i), None)
    reads = [place for place, value in enumerate(node.input) if value == tensor]
    if node.op_type not in ("Gemm", "MatMul") or reads != [1] or (turns is not None) != is_transposed:
        raise UsageError(
            f"{name} cannot be kept in integers: node {node.name!r}, a {node.op_type}, reads it, and only products of "
            "matrices can; export it with storage fp16"
        )
    if turns is not None:
        node.attribute.remove(turns)


def _dequantize(graph: onnx.GraphProto, tensor: TensorProto, weight: Integers) -> NodeProto:
    """Replace a tensor by its integers (inputs, outputs) and scales; return the node that multiplies them out."""
    name, kind = tensor.name, TensorProto.INT4 if weight.bits == 4 else TensorProto.INT8
    values = np.ascontiguousarray(weight.values.T).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    scales = np.ascontiguousarray(weight.scales.T)
    graph.initializer.append(onnx.numpy_helper.from_array(scales, f"{name}_scale"))
    form: dict[str, Any] = {"axis": 0, "block_size": weight.block} if weight.block else {"axis": 1}
    inputs, output = [name, f"{name}_scale"], f"{name}_fp32"
    return onnx.helper.make_node("DequantizeLinear", inputs, [output], name=f"{output}/DequantizeLinear", **form)


def without_quantization(
    model: onnx.ModelProto, exact: dict[str, npt.NDArray[np.float32]] | None = None
) -> onnx.ModelProto:
    """Return the same graph in float32: weights multiplied out, and no value rounded on its way from node to node.

    A pair of QuantizeLinear and DequantizeLinear becomes nothing, a DequantizeLinear of a stored tensor the tensor of
    its result, and a Max with a stored 0 the Relu that it is. Whatever else is quantised stays as it is.

    `exact` has the numbers, float32, that the result of a DequantizeLinear stands for, by its name.
    """
    exact = exact or {}
    twin = copy.deepcopy(model)
    graph = twin.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    sources: dict[str, str] = {}  # the value behind the rounding -> the value in front of it
    quantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    kept: list[NodeProto] = []
    for node in graph.node:
        source = node.input[0] if node.input else ""
        if node.op_type == "DequantizeLinear" and source in quantized:
            sources[node.output[0]] = quantized[source]
        elif node.op_type == "DequantizeLinear" and set(node.input) <= stored.keys():
            numbers = exact[node.output[0]] if node.output[0] in exact else dequantized(node, stored)
            graph.initializer.append(onnx.numpy_helper.from_array(numbers, node.output[0]))
        else:
            if node.op_type == "Max" and len(node.input) == 2 and _is_zero(stored.get(node.input[1])):
                node.op_type = "Relu"
                del node.input[1:]
            kept.append(node)
    outputs = {sources[info.name]: info.name for info in graph.output if info.name in sources}
    for node in kept:
        node.input[:] = [_behind(name, sources, outputs) for name in node.input]
        node.output[:] = [outputs.get(name, name) for name in node.output]
    replace_nodes(graph, kept)
    drop_unused(graph)
    del graph.value_info[:]
    return twin


def without_pairs(graph: onnx.GraphProto, names: set[str]) -> None:
    """Remove the pair of QuantizeLinear and DequantizeLinear that gives each of these values, in place."""
    made = {node.output[0]: node for node in graph.node if node.output}
    for name in names:
        after = made.get(name)
        before = made.get(after.input[0]) if after is not None and after.op_type == "DequantizeLinear" else None
        if after is None or before is None or before.op_type != "QuantizeLinear":
            continue
        rounded = before.input[0]
        nodes = [node for node in graph.node if node is not after and node is not before]
        for node in nodes:
            node.input[:] = [name if value == rounded else value for value in node.input]
            node.output[:] = [name if value == rounded else value for value in node.output]
        replace_nodes(graph, nodes)
        made = {node.output[0]: node for node in graph.node if node.output}


def with_rounding_spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a statically quantised graph in float32 arithmetic: weights multiplied out, each QuantizeLinear written as
    the Div, Round, Clip and Mul that ONNX defines it to be. No kernel for integers takes part in it."""
    twin = copy.deepcopy(model)
    graph = twin.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            nodes += _spelled_out(graph, node, stored)
        elif node.op_type == "DequantizeLinear" and node.input[0] in stored:
            graph.initializer.append(onnx.numpy_helper.from_array(dequantized(node, stored), node.output[0]))
        elif node.op_type == "DequantizeLinear":  # the Mul has done it
            nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)
    del graph.value_info[:]
    return twin


def _spelled_out(graph: onnx.GraphProto, node: NodeProto, stored: dict[str, TensorProto]) -> list[NodeProto]:
    zero = float(_array(stored.get(node.input[2])).reshape(-1)[0]) if len(node.input) > 2 else 0.0
    signed = len(node.input) > 2 and stored[node.input[2]].data_type == TensorProto.INT8
    low, high = (end - zero for end in ((-128, 127) if signed else (0, 255)))
    name, made = node.output[0], []
    for end, value in (("low", low), ("high", high)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), f"{name}/{end}"))
    steps = [("Div", [node.input[0], node.input[1]]), ("Round", [f"{name}/Div"])]
    steps += [("Clip", [f"{name}/Round", f"{name}/low", f"{name}/high"]), ("Mul", [f"{name}/Clip", node.input[1]])]
    for operator, inputs in steps:
        output = name if operator == "Mul" else f"{name}/{operator}"
        made.append(onnx.helper.make_node(operator, inputs, [output], name=f"{name}/{operator}"))
    return made


def _is_zero(tensor: TensorProto | None) -> bool:
    return tensor is not None and tensor.data_type == TensorProto.FLOAT and not tensor.dims and not _array(tensor).any()


def _behind(name: str, sources: dict[str, str], outputs: dict[str, str]) -> str:
    while name in sources:
        name = sources[name]
    return outputs.get(name, name)


def dequantized(node: NodeProto, stored: dict[str, TensorProto]) -> npt.NDArray[np.float32]:
    """Return what a DequantizeLinear of stored tensors gives, as ONNX defines it."""
    values, scales, zeros = (_array(stored.get(name)) for name in [*node.input, ""][:3])
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axis, block = attributes.get("axis", 1) % max(values.ndim, 1), attributes.get("block_size", 0)

    def spread(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if block:
            return np.repeat(array, block, axis=axis).take(range(values.shape[axis]), axis=axis)
        if array.ndim == 1 and values.ndim:
            return array.reshape([-1 if place == axis else 1 for place in range(values.ndim)])
        return array

    whole = values.astype(np.int64) - (spread(zeros).astype(np.int64) if zeros.size else 0)
    numbers: npt.NDArray[np.float32] = whole.astype(np.float32) * spread(scales)
    return numbers.astype(np.float32)


def _array(tensor: TensorProto | None) -> npt.NDArray[Any]:
    return np.empty(0) if tensor is None else onnx.numpy_helper.to_array(tensor)
