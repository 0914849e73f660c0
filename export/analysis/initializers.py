"""The tensors that a file holds, which nodes read them, and how they compare with a network's."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from runtime.model.spec import Array


@dataclass
class Stored:
    """One tensor of floats, as float32, or as float64 where that is not the same; and the nodes that read it, if need
    be through a Cast, a Transpose or an Identity."""

    name: str
    array: Array
    readers: list[onnx.NodeProto]


def stored_in(graph: onnx.GraphProto) -> Iterator[Stored]:
    """Yield every initializer and constant of a graph that holds floats; whole numbers are sizes, axes and indices."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)

    def follow(name: str) -> Iterator[onnx.NodeProto]:
        for node in readers[name]:
            if node.op_type in ("Identity", "Cast", "Transpose"):
                yield from follow(node.output[0])
            else:
                yield node

    for name, array in _constants(graph):
        if array.dtype.kind == "f":
            yield Stored(name, _plain(array), list(follow(name)))


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, Array]]:
    for tensor in graph.initializer:
        yield tensor.name, onnx.numpy_helper.to_array(tensor)
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name == "value":
                yield node.output[0], onnx.numpy_helper.to_array(value)
            elif attribute.name in ("value_float", "value_floats"):
                yield node.output[0], np.array(value, np.float32)


def _plain(array: Array) -> Array:
    narrow = array.astype(np.float32)
    return narrow if array.dtype == np.float32 or np.array_equal(narrow, array) else array.astype(np.float64)


def without_bias(weight: Stored) -> bool:
    """Whether a node computes with this weight and adds nothing."""
    return any(node.op_type in ("Conv", "Gemm", "MatMul") and not any(node.input[2:]) for node in weight.readers)


def dims(array: Array) -> tuple[int, ...]:
    """Return the shape without its sizes of 1, which exporters add and leave out."""
    return tuple(size for size in array.shape if size != 1)


def digest(array: Array) -> bytes:
    """Equal for equal numbers in equal shapes; dimensions of size 1 and the sign of zero do not count."""
    plain = np.ascontiguousarray(array + np.float32(0))
    return hashlib.blake2b(repr(dims(array)).encode() + plain.tobytes()).digest()


def digests(array: Array) -> set[bytes]:
    """Return the digests of an array and, where it is a matrix, of its transpose."""
    return {digest(array), digest(array.T)} if len(dims(array)) == 2 else {digest(array)}


def same(stored: Array, array: Array) -> bool:
    """Whether two arrays hold the same numbers; a matrix may be transposed."""
    if dims(stored) == dims(array) and np.array_equal(stored.reshape(array.shape), array):
        return True
    return stored.ndim == array.ndim == 2 and np.array_equal(stored, array.T)


def difference(stored: Stored, array: Array, limit: Array | float = 0) -> str:
    """Say how a tensor differs from the array that was expected, by more than `limit`, and where most."""
    if dims(stored.array) != dims(array):
        return f"expected {size_of(array)}, but the file has {size_of(stored.array)}{read_by(stored)}"
    error = np.abs(stored.array.reshape(array.shape).astype(np.float64) - array)
    error = np.nan_to_num(error, nan=np.inf)
    index = np.unravel_index(int(error.argmax()), array.shape)
    at = list(map(int, index))
    return (
        f"{int((error > limit).sum()):,} of {array.size:,} numbers differ, most at {at}: expected {array[index]:.9g}, "
        f"found {stored.array.reshape(array.shape)[index]:.9g}{read_by(stored)}"
    )


def size_of(array: Array) -> str:
    return f"[{', '.join(map(str, array.shape))}]"


def read_by(stored: Stored) -> str:
    return f", read by node {called(stored.readers[0])!r}" if stored.readers else ""


def called(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} -> {node.output[0]}"
