"""Convert a graph to float16, in whole or in its weights alone; read a float16 graph as float32.

The exporter's graph is float32 throughout, without subgraphs, so that no node needs a rule of its own: all float
tensors change together, and the edges are cast.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import NodeProto, TensorProto

from export.convert.graph import replace_nodes


def compute_in_half(model: onnx.ModelProto) -> None:
    """Turn a float32 graph to float16 inside, in place; its inputs and outputs stay as they are.

    A node that only reads outputs of the graph, as the softmax behind the logits, stays in float32.
    """
    graph = model.graph
    scales = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}  # always float32
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales:
            _retype(tensor, np.float16)
    for info in graph.value_info:
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.FLOAT16
    _retype_casts(graph, TensorProto.FLOAT, TensorProto.FLOAT16)
    inner = {info.name: f"{info.name}_fp16" for info in graph.output}
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if inner.keys() >= set(node.input):
            continue
        made = inner.keys() & set(node.output)
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
        nodes += [_cast(inner[name], name, TensorProto.FLOAT) for name in sorted(made)]
    replace_nodes(graph, nodes)


def store_in_half(model: onnx.ModelProto) -> None:
    """Keep every kernel and matrix that float16 holds exactly as float16, with a Cast in front of its readers."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or not _is_half(tensor):
            continue
        _retype(tensor, np.float16)
        wide = f"{tensor.name}_fp32"
        for node in graph.node:
            node.input[:] = [wide if name == tensor.name else name for name in node.input]
        casts.append(_cast(tensor.name, wide, TensorProto.FLOAT))
    replace_nodes(graph, [*casts, *graph.node])


def read_as_float(model: onnx.ModelProto, exact: dict[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """Return the same graph with every float16 tensor and value as float32: its arithmetic without its rounding.

    `exact` has the numbers, float32, that tensors held before they were rounded, by the tensor's name.
    """
    twin = copy.deepcopy(model)
    for name, tensor in _tensors(twin.graph):
        if tensor.data_type == TensorProto.FLOAT16:
            numbers = exact.get(name, onnx.numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
    _retype_casts(twin.graph, TensorProto.FLOAT16, TensorProto.FLOAT)
    del twin.graph.value_info[:]
    return twin


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        yield from ((node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t"))


def _retype(tensor: TensorProto, dtype: type) -> None:
    array: npt.NDArray[Any] = onnx.numpy_helper.to_array(tensor).astype(dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _is_half(tensor: TensorProto) -> bool:
    array = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16) == array).all())


def _retype_casts(graph: onnx.GraphProto, before: int, after: int) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == before:
                attribute.i = after


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind)
