"""Compare the integers and scales that a file holds with those that follow from the network's weights, bit by bit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from export.integers import Integers

Array = npt.NDArray[Any]


def integer_problems(graph: onnx.GraphProto, expected: dict[str, Integers]) -> list[str]:
    """Return what is wrong with the weights that a graph holds in integers, in sentences.

    Args:
        graph: of the file, with its DequantizeLinear nodes.
        expected: the weights that it should hold in integers, (outputs, inputs), by parameter.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    found = _matched(nodes, stored, expected)
    problems = [
        f"{name} is expected as int{weight.bits} in the file, but no DequantizeLinear reads it there"
        for name, weight in expected.items()
        if name not in found
    ]
    for name, node in found.items():
        problems += _differences(name, expected[name], node, stored)
    known = {id(node) for node in found.values()}
    return problems + [
        f"{node.input[0]!r} is kept in integers, but is no weight of a linear layer"
        for node in nodes
        if id(node) not in known
    ]


def _matched(
    nodes: list[onnx.NodeProto], stored: dict[str, onnx.TensorProto], expected: dict[str, Integers]
) -> dict[str, onnx.NodeProto]:
    """Return the node that multiplies out each weight: by name, else the first free one of its shape, rather with its
    integers than with others."""
    found = {node.input[0]: node for node in nodes if node.input[0] in expected}
    free = [(node, integers_in(stored[node.input[0]])) for node in nodes if node.input[0] not in expected]
    for name, weight in expected.items():
        if name in found:
            continue
        fitting = [(n, array) for n, array in free if array.shape == weight.values.T.shape]
        fitting.sort(key=lambda pair: not np.array_equal(pair[1], weight.values.T))
        if fitting:
            found[name] = fitting[0][0]
            free = [pair for pair in free if pair[0] is not fitting[0][0]]
    return {name: found[name] for name in expected if name in found}


def integers_in(tensor: onnx.TensorProto) -> Array:
    array = onnx.numpy_helper.to_array(tensor)
    return array.astype(np.int32) if array.dtype.kind != "f" else array


def _differences(
    name: str, expected: Integers, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]
) -> Iterator[str]:
    tensor = stored[node.input[0]]
    kind, wanted = onnx.TensorProto.DataType.Name(tensor.data_type), f"INT{expected.bits}"
    if kind != wanted:
        yield f"{name} should be {wanted} in the file, but is {kind}"
        return
    yield from _difference(f"{name}, as integers,", expected.values.T, integers_in(tensor))
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    form = attributes.get("axis", 1) % 2, attributes.get("block_size", 0)
    right = (0, expected.block) if expected.block else (1, 0)
    if form != right:
        yield f"{name}: axis and block size of its DequantizeLinear should be {right}, but are {form}"
    scales = stored.get(node.input[1])
    if scales is None:
        yield f"{name}: its scales should be stored, but are computed"
    else:
        yield from _difference(f"the scales of {name}", expected.scales.T, onnx.numpy_helper.to_array(scales))
    if len(node.input) > 2 and node.input[2]:
        zeros = stored.get(node.input[2])
        if zeros is None or integers_in(zeros).any():
            yield f"{name}: its zero point should be 0, or left out, but is not"


def _difference(what: str, expected: Array, found: Array) -> Iterator[str]:
    if expected.shape != found.shape:
        yield f"{what} should be {list(expected.shape)}, but the file has {list(found.shape)}"
    elif not np.array_equal(expected, found):
        error = np.nan_to_num(np.abs(found.astype(np.float64) - expected), nan=np.inf)
        index = np.unravel_index(int(error.argmax()), error.shape)
        yield (
            f"{what} differ in {int((error > 0).sum()):,} of {error.size:,} places, most at {list(map(int, index))}: "
            f"expected {expected[index]:.9g}, found {found[index]:.9g}"
        )
