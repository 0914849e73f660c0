"""Compare the scales of a statically quantised file's activations with those that follow from its calibration images.

The images are run through the file again, read as float32, and the range of each value gives its scale: onnxruntime's
rule for uint8, the smallest and largest number and 0 within 255 steps. Sums in another order give another last digit,
so scales are compared within `WITHIN`.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.numpy_helper

from export.convert.calibrate import CUTS, Ranges, sha256_of_images, value_ranges
from export.verification.context import VerificationContext

WITHIN = 1e-4  # relative
_SAME_SCALE = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather")


def activation_problems(context: VerificationContext) -> list[str]:
    """Return what is wrong with the scales and zero points of activations, in sentences; [] where they are floats."""
    declared = context.precision.calibration
    if context.precision.dtype != "int8":
        return []
    if declared is None:
        return ["the metadata 'quantization' should say which images the file was calibrated on, but is null"]
    if context.calibration is None:
        return [
            "the scales of activations are proved by calibrating again, and no images for that were given: give those "
            f"of sha256 {declared['sha256']}, by --calibration DIR or `verify(..., calibration=images)`"
        ]
    if (found := sha256_of_images(context.calibration)) != declared["sha256"]:
        return [
            f"the file says that it was calibrated on {declared['images']} images of sha256 {declared['sha256']}, but "
            f"the {len(context.calibration)} given have {found}"
        ]
    ranges = value_ranges(context.multiplied_out, context.calibration)
    return list(_problems(context.model.graph, context.multiplied_out.graph, ranges))


def _problems(graph: onnx.GraphProto, plain: onnx.GraphProto, ranges: Ranges) -> Iterator[str]:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    rounded = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] in stored:
            continue
        before = rounded.get(node.input[0])
        if before is None:
            yield f"node {node.name!r} reads {node.input[0]!r}, which no QuantizeLinear gives"
        elif _numbers(before, stored) != _numbers(node, stored):
            yield (
                f"{before.input[0]!r} is rounded with scale and zero point {_numbers(before, stored)}, and read with "
                f"{_numbers(node, stored)}"
            )
    for node in rounded.values():
        yield from _scale_problems(node, plain, ranges, stored)


def _numbers(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> tuple[float, int, str] | None:
    """Return scale, zero point and type of a node; None where they are computed, or not one for all."""
    names = [name for name in node.input[1:] if name]
    if not names or not stored.keys() >= set(names):
        return None
    arrays = [onnx.numpy_helper.to_array(stored[name]) for name in names]
    if any(array.size != 1 for array in arrays):
        return None
    zero = int(arrays[1].reshape(-1)[0]) if len(arrays) > 1 else 0
    kind = stored[names[1]].data_type if len(names) > 1 else onnx.TensorProto.UINT8
    return float(arrays[0].reshape(-1)[0]), zero, onnx.TensorProto.DataType.Name(kind)


def _scale_problems(
    node: onnx.NodeProto, plain: onnx.GraphProto, ranges: Ranges, stored: dict[str, onnx.TensorProto]
) -> Iterator[str]:
    value, numbers = node.input[0], _numbers(node, stored)
    if numbers is None:
        yield f"{value!r} should be rounded with one stored scale and zero point"
        return
    scale, zero, kind = numbers
    if kind != "UINT8":
        yield f"{value!r} is rounded to {kind}, but should be to UINT8: onnxruntime is slower with others"
        return
    candidates = [ranges[name] for name in _sources(value, plain) if name in ranges]
    if not candidates:
        yield f"{value!r} is rounded, but no such value is computed"
        return
    wanted = [_uint8(*map(float, each)) for each in candidates]
    if any(abs(scale - s) <= WITHIN * s and abs(zero - z) <= 0.5 + 255 * WITHIN for s, z in wanted):
        return
    s, z = wanted[0]
    low, high = candidates[0]
    yield (
        f"{value!r} is rounded with scale {scale:.6g} and zero point {zero}, but its range on the calibration images, "
        f"{low:.6g} to {high:.6g}, gives {s:.6g} and {round(z)}"
    )


def _uint8(low: float, high: float) -> tuple[float, float]:
    """Return scale and, before it is rounded, zero point of a range."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return (scale, -low / scale) if scale >= np.finfo(np.float32).tiny else (1.0, 0.0)


def _sources(value: str, plain: onnx.GraphProto) -> Iterator[str]:
    """Yield the values whose range may be that of this one: its own; the output of the Relu that reads it; the input of
    reshapes and pools before it."""
    readers = [node for node in plain.node if value in node.input]
    yield value
    if len(readers) == 1 and readers[0].op_type in CUTS:
        yield readers[0].output[0]
    made = {name: node for node in plain.node for name in node.output}
    while value in made and made[value].op_type in _SAME_SCALE:
        value = made[value].input[0]
        yield value
