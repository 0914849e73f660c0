"""Compare the integers and scales that a file holds with those that follow from the network's weights, bit by bit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from export.integers import Integers
from runtime.model.spec import Array


@dataclass(frozen=True)
class Bias:
    """A bias that a file holds in integers: `value` is what its node `node` makes of them, `weight` the node of the
    weight beside it, `factor` the node of what that weight multiplies; `numbers` are the network's."""

    name: str
    value: str
    numbers: Array
    node: onnx.NodeProto
    weight: onnx.NodeProto
    factor: onnx.NodeProto


def biases_of(graph: onnx.GraphProto, expected: dict[str, Integers], tensors: dict[str, Array]) -> list[Bias]:
    """Return the biases in integers of a statically quantised graph, each beside the weight of its layer."""
    made = {name: node for node in graph.node for name in node.output if node.op_type == "DequantizeLinear"}
    weights = {node.output[0]: name for name, node in weights_in(graph, expected).items()}
    found = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or node.input[1] not in weights:
            continue
        name = weights[node.input[1]].removesuffix(".weight") + ".bias"
        if node.input[2] in made and node.input[0] in made and name in tensors:
            nodes = made[node.input[2]], made[node.input[1]], made[node.input[0]]
            found.append(Bias(name, node.input[2], tensors[name], *nodes))
    return found


def integer_problems(graph: onnx.GraphProto, expected: dict[str, Integers], biases: Iterable[Bias] = ()) -> list[str]:
    """Return what is wrong with the weights and biases that a graph holds in integers, in sentences."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = weights_in(graph, expected)
    problems = [
        f"{name} is expected as int{weight.bits} in the file, but no DequantizeLinear reads it there"
        for name, weight in expected.items()
        if name not in found
    ]
    for name, node in found.items():
        problems += _differences(name, expected[name], node, stored)
    for bias in biases:
        problems += _bias_differences(bias, stored)
    known = {node.output[0] for node in found.values()} | {bias.value for bias in biases}
    return problems + [
        f"{node.input[0]!r} is kept in integers, but is no weight that should be"
        for node in _of_stored(graph)
        if node.output[0] not in known
    ]


def _of_stored(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    stored = {tensor.name for tensor in graph.initializer}
    return [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]


def weights_in(graph: onnx.GraphProto, expected: dict[str, Integers]) -> dict[str, onnx.NodeProto]:
    """Return the node that multiplies out each weight: by name, as onnxruntime's quantizer and this exporter give it,
    else the first free one of its shape, rather with its integers than with others."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.input[0]: node for node in _of_stored(graph)}
    found = {name: nodes[key] for name in expected for key in (name, f"{name}_quantized") if key in nodes}
    taken = {id(node) for node in found.values()}
    free = [(node, integers_in(stored[key])) for key, node in nodes.items() if id(node) not in taken]
    for name, weight in expected.items():
        if name in found:
            continue
        fitting = [(node, array) for node, array in free if array.shape in (weight.values.shape, weight.values.T.shape)]
        fitting.sort(key=lambda pair: not any(np.array_equal(pair[1], a) for a in (weight.values, weight.values.T)))
        if fitting:
            found[name] = fitting[0][0]
            free = [pair for pair in free if pair[0] is not fitting[0][0]]
    return {name: found[name] for name in expected if name in found}


def _bias_differences(bias: Bias, stored: dict[str, onnx.TensorProto]) -> Iterator[str]:
    """A bias has the scale of the sums that it is added to: that of the factor times that of the weight."""
    scales = [stored[node.input[1]] for node in (bias.factor, bias.weight, bias.node) if node.input[1] in stored]
    if len(scales) != 3 or bias.node.input[0] not in stored:
        yield f"{bias.name}: its integers and scales should be stored, but are computed"
        return
    factor, weight, own = map(onnx.numpy_helper.to_array, scales)
    kind = onnx.TensorProto.DataType.Name(stored[bias.node.input[0]].data_type)
    if kind != "INT32":
        yield f"{bias.name} should be INT32 in the file, but is {kind}"
        return
    scale = np.asarray(factor.reshape(-1) * weight.reshape(-1), np.float32)
    yield from _difference(f"the scales of {bias.name}, those of its layer's input and weight multiplied,", scale, own)
    limits = np.iinfo(np.int32)
    exact = np.rint(bias.numbers.astype(np.float64) / scale.astype(np.float64))
    integers = np.clip(exact, limits.min, limits.max).astype(np.int64)
    yield from _difference(
        f"{bias.name}, as integers,", integers, integers_in(stored[bias.node.input[0]]).astype(np.int64)
    )
    yield from _zero_point(bias.name, bias.node, stored)


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
    found, wanted_values, axis = integers_in(tensor), expected.values, 0
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    form = attributes.get("axis", 1) % max(found.ndim, 1), attributes.get("block_size", 0)
    if found.ndim == 2 and (found.shape != wanted_values.shape or form[0] != (1 if expected.block else 0)):
        wanted_values, axis = wanted_values.T, 1  # written as (inputs, outputs)
    yield from _difference(f"{name}, as integers,", wanted_values, found)
    right = (1 - axis, expected.block) if expected.block else (axis, 0)
    if form != right:
        yield f"{name}: axis and block size of its DequantizeLinear should be {right}, but are {form}"
    scales = stored.get(node.input[1])
    if scales is None:
        yield f"{name}: its scales should be stored, but are computed"
    else:
        wanted_scales = expected.scales.T if axis else expected.scales
        yield from _difference(f"the scales of {name}", wanted_scales, onnx.numpy_helper.to_array(scales))
    yield from _zero_point(name, node, stored)


def _zero_point(name: str, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> Iterator[str]:
    zeros = stored.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if len(node.input) > 2 and node.input[2] and (zeros is None or integers_in(zeros).any()):
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
