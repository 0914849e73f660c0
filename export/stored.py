"""The numbers that a file holds, what reads them, and how they compare with a network's."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

Array = npt.NDArray[Any]
MAX_SHAPE = 16  # integers in a tensor of sizes, axes or pads
# Where a node takes integers, or a switch, that are no numbers to compute with: by operator, which inputs.
_SHAPES = {
    "Dropout": {2},
    "Expand": {1},
    "Pad": {1, 3},
    "ReduceMax": {1},
    "ReduceMean": {1},
    "ReduceSum": {1},
    "Reshape": {1},
    "Resize": {3},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "Squeeze": {1},
    "Unsqueeze": {1},
}

_NORMALIZATIONS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization")


@dataclass
class Stored:
    """One tensor, as float32, or as float64 where that is not the same.

    Attributes:
        readers: node, which input of it, and whether it is transposed on the way there.
    """

    name: str
    array: Array
    readers: list[tuple[onnx.NodeProto, int, bool]]


def stored_in(graph: onnx.GraphProto) -> Iterator[Stored]:
    """Yield every initializer and constant of a graph, of whatever type, but for those that are only shapes."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            readers[name].append((node, index))

    def follow(name: str, turned: bool) -> Iterator[tuple[onnx.NodeProto, int, bool]]:
        for node, index in readers[name]:
            if node.op_type in ("Identity", "Cast", "Transpose"):
                yield from follow(node.output[0], turned != (node.op_type == "Transpose"))
            else:
                yield node, index, turned

    for name, array in constants_in(graph):
        found = list(follow(name, False))
        if array.dtype.kind in "iub" and array.size <= MAX_SHAPE and found and all(map(_takes_a_shape, found)):
            continue
        yield Stored(name, _plain(array), found)


def constants_in(graph: onnx.GraphProto) -> Iterator[tuple[str, Array]]:
    """Yield what initializers and Constant nodes hold, with its name and as it is stored; text as a NaN."""
    for tensor in graph.initializer:
        yield tensor.name, onnx.numpy_helper.to_array(tensor)
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name == "value":
                yield node.output[0], onnx.numpy_helper.to_array(value)
            elif attribute.name in ("value_int", "value_ints"):
                yield node.output[0], np.array(value, np.int64)
            elif attribute.name in ("value_float", "value_floats"):
                yield node.output[0], np.array(value, np.float32)
            else:
                yield node.output[0], np.array(np.nan, np.float32)


def _takes_a_shape(reader: tuple[onnx.NodeProto, int, bool]) -> bool:
    node, index, _ = reader
    return index in _SHAPES.get(node.op_type, ())


def _plain(array: Array) -> Array:
    narrow = array.astype(np.float32)
    return narrow if array.dtype == np.float32 or np.array_equal(narrow, array) else array.astype(np.float64)


def without_bias(weight: Stored | None) -> bool:
    """Whether a node computes with this weight and adds nothing."""
    return weight is not None and any(
        node.op_type in ("Conv", "Gemm", "MatMul") and not any(node.input[2:]) for node, _, _ in weight.readers
    )


def dims(array: Array) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size != 1)


def digest(array: Array) -> bytes:
    """Equal for equal numbers in equal shapes; dimensions of size 1 and the sign of zero do not count."""
    plain = np.ascontiguousarray(array + np.float32(0))
    return hashlib.blake2b(repr(dims(array)).encode() + plain.tobytes()).digest()


def digests(array: Array) -> set[bytes]:
    return {digest(array), digest(array.T)} if len(dims(array)) == 2 else {digest(array)}


def same(stored: Array, array: Array) -> bool:
    if dims(stored) == dims(array) and np.array_equal(stored.reshape(array.shape), array):
        return True
    return stored.ndim == array.ndim == 2 and np.array_equal(stored, array.T)


def difference(stored: Stored, array: Array) -> str:
    if dims(stored.array) != dims(array):
        return f"expected {size_of(array)}, but the file has {size_of(stored.array)}{read_by(stored)}"
    error = np.abs(stored.array.reshape(array.shape).astype(np.float64) - array)
    error = np.nan_to_num(error, nan=np.inf)
    index = np.unravel_index(int(error.argmax()), array.shape)
    at = list(map(int, index))
    return (
        f"{int((error > 0).sum()):,} of {array.size:,} numbers differ, most at {at}: expected {array[index]:.9g}, "
        f"found {stored.array.reshape(array.shape)[index]:.9g}{read_by(stored)}"
    )


def size_of(array: Array) -> str:
    return f"[{', '.join(map(str, array.shape))}]"


def read_by(stored: Stored) -> str:
    return f", read by node {called(stored.readers[0][0])}" if stored.readers else ""


def called(node: onnx.NodeProto) -> str:
    return repr(node.name or f"{node.op_type} -> {node.output[0]}")


def is_neutral(stored: Stored) -> bool:
    """Whether a normalization, which ONNX gives a scale and a shift in any case, is given ones or zeros by it."""
    wanted = {1: 1.0, 2: 0.0}
    return bool(stored.readers) and all(
        node.op_type in _NORMALIZATIONS and index in wanted and bool((stored.array == wanted[index]).all())
        for node, index, _ in stored.readers
    )
