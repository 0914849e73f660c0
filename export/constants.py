"""What a file computes with beside its parameters: constants of the network's code, limits, scales, attributes.

A number that no picture at hand reaches changes nothing that can be measured: a limit above every activation, a
threshold, a product with zero. So each must be one of the network's own, and where it cuts off, one that the network
cuts off at.
"""

from typing import Any

import numpy as np
import onnx
import onnx.defs

from export.origins import Origins
from export.precision import Precision
from export.stored import Array, Stored, called, constants_in, digest, dims, is_neutral
from export.trace import Shape

# Operators that cut off, and what of PyTorch they can be. Cut off above:
_ABOVE = {"clamp", "clamp_max", "fmin", "hardsigmoid", "hardswish", "hardtanh", "max", "min", "minimum", "maximum"}
_CUTTING = {
    "Clip": _ABOVE | {"clamp_min", "fmax", "relu", "threshold"},
    "HardSigmoid": _ABOVE,
    "HardSwish": _ABOVE,
    "Max": _ABOVE | {"clamp_min", "fmax", "leaky_relu", "relu", "threshold"},
    "Min": _ABOVE,
}
_LIMITS = {"Clip": (1, 2), "Max": range(1 << 16), "Min": range(1 << 16)}
_BY_TENSOR = {"clamp", "clamp_max", "clamp_min", "fmax", "fmin", "max", "maximum", "min", "minimum"}
# Attributes that are not traced: momentum is only read in training, and the other two reach every picture that a Resize
# enlarges or none, so that parity shows what they do.
_INERT = {"momentum", "cubic_coeff_a", "extrapolation_value"}
_FREE = {0.0, 1.0}


class Constants:
    """The numbers of a network's code, as a file of some precision holds them."""

    def __init__(self, origins: Origins, precision: Precision) -> None:
        self._origins, self._precision = origins, precision
        self._anywhere = self._by_digest(origins.scalars | _FREE, origins.constants)
        self._limits = self._by_digest(origins.limits, origins.constants if self._cuts_by_tensors else [])

    @property
    def _cuts_by_tensors(self) -> bool:
        return bool(_BY_TENSOR & self._origins.operations)

    def source(self, stored: Stored) -> tuple[str, Array | None] | None:
        """Return what a tensor is, in words, and its numbers before they were rounded; None if it is nothing known."""
        if is_neutral(stored):
            return "a scale of ones or a shift of zeros, which the network does without", None
        known = self._limits if limited_by(stored) else self._anywhere
        numbers = known.get(digest(stored.array))
        if numbers is None or self._is_foreign_zero(stored):
            return None
        return f"a {'number' if numbers.ndim == 0 else 'constant'} of the network's code", numbers

    def _is_foreign_zero(self, stored: Stored) -> bool:
        """A product with zero is not always zero, and what it is zero of is not always the network's."""
        factor = any(node.op_type in ("Div", "Mul", "Pow") for node, _, _ in stored.readers)
        return factor and stored.array.size == 1 and not stored.array.any() and 0.0 not in self._origins.scalars

    def problems(self, model: onnx.ModelProto) -> list[str]:
        """Return what is wrong with attributes that are numbers, and with operators that cut off, in sentences."""
        opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        known = _singles(self._origins.scalars)
        found = []
        for node in model.graph.node:
            if not _CUTTING.get(node.op_type, self._origins.operations) & self._origins.operations:
                found.append(f"node {called(node)} cuts off, as a {node.op_type} does, but nothing in the network does")
            for attribute in node.attribute:
                if attribute.type != onnx.AttributeProto.FLOAT or node.op_type == "Constant":
                    continue
                own = known | _singles(_defaults(node.op_type, attribute.name, opset))
                if attribute.name not in _INERT and np.float32(attribute.f) not in own:
                    found.append(
                        f"{attribute.name} of node {called(node)} is {attribute.f:.9g}, which comes from nowhere: "
                        "it is neither the operator's default nor a number of the network's code"
                    )
        return found

    def wrong_limit(self, stored: Stored) -> str | None:
        """Say so if a parameter is a limit, and the network has no such limits."""
        readers = limited_by(stored)
        if not readers or self._cuts_by_tensors:
            return None
        return f"tensor {stored.name!r} is a limit of node {called(readers[0])}, but of nothing in the network"

    def _by_digest(self, scalars: set[float], constants: list[Array]) -> dict[bytes, Array]:
        """Return numbers by the digest of what the file holds of them.

        Where rounding makes two numbers one, that is the nearer of them.
        """
        exact: dict[bytes, Array] = {}
        with np.errstate(over="ignore"):
            numbers = [np.array(number, np.float32) for number in scalars]
        held = [(self._precision.of_numbers(number), number) for number in numbers]
        for rounded, number in sorted(
            held, key=lambda pair: 0 if pair[0] == pair[1] else abs(float(pair[0] - pair[1]))
        ):
            exact.setdefault(digest(rounded), number)
        for scalar, number in zip(scalars, numbers, strict=True):  # a file may hold it as a double
            exact.setdefault(digest(np.array(scalar, np.float64)), number)
        for array in constants:
            for turned in (array, array.T) if len(dims(array)) == 2 else (array,):
                exact.setdefault(digest(self._precision.of_numbers(turned)), turned)
        return exact


def limited_by(stored: Stored) -> list[onnx.NodeProto]:
    """Return the nodes that a tensor is a limit of."""
    return [node for node, index, _ in stored.readers if index in _LIMITS.get(node.op_type, ())]


def resize_problems(graph: onnx.GraphProto, shapes: dict[str, Shape], scalars: set[float]) -> list[str]:
    """Return where the scales of a Resize are not the ratio of the sizes behind and in front of it.

    Args:
        graph: the file's graph.
        shapes: what the graph computes, by value name.
        scalars: numbers of the network's code, of which some may be a scale that it asks for.
    """
    found: list[str] = []
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    constants = dict(constants_in(graph)) if resizes else {}
    asked = _singles(scalars)
    for node in resizes:
        given = [name for name in node.input[1:3] if name]
        if any(name not in constants for name in given):
            found.append(f"node {called(node)} computes its scales, where they should be stored")
            continue
        roi, scales = (constants[name] if name else np.zeros(0) for name in [*node.input, "", ""][1:3])
        if roi.size:
            found.append(f"node {called(node)} has a region of interest, which no network here has")
        before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
        listed: Any = next((a.ints for a in node.attribute if a.name == "axes"), range(len(before)))
        for axis, scale in zip(listed, scales.ravel(), strict=False):
            old, new = before[axis], after[axis]
            whole = isinstance(old, int) and isinstance(new, int) and old > 0
            own = {np.float32(int(new) / int(old))} | (asked if axis % len(before) > 1 else set()) if whole else {1.0}
            if scale not in own:
                found.append(
                    f"node {called(node)} scales axis {axis} by {scale:.9g}, but makes {new} of {old} there: "
                    f"expected {min(own, key=lambda number: abs(float(number) - float(scale))):.9g}"
                )
    return found


def _singles(numbers: set[float]) -> set[Any]:
    with np.errstate(over="ignore"):
        return {np.float32(number) for number in numbers}


def _defaults(op_type: str, name: str, opset: int) -> set[float]:
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return set()
    return {schema.attributes[name].default_value.f} if name in schema.attributes else set()
