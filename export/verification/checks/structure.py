"""Check: the file is valid ONNX, fully typed, with nothing left over, and what it says of its shapes is so."""

from typing import Any

import onnx
import onnx.numpy_helper

from export.verification.context import CheckFailed, CheckResult, VerificationContext

OPSETS, IR_VERSIONS = range(13, 24), range(7, 12)


def structure(context: VerificationContext) -> CheckResult:
    model = context.model
    examination = context.examination
    if examination.problem and not examination.shapes:
        raise CheckFailed(f"onnx refuses the file: {examination.problem}", fatal=True)
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(opsets) != 1:
        raise CheckFailed(f"the file should import one opset of ai.onnx, but imports {opsets}: readers may disagree")
    (opset,) = opsets
    if opset not in OPSETS:
        raise CheckFailed(f"the opset should be from {OPSETS.start} to {OPSETS.stop - 1}, but is {opset}")
    if model.ir_version not in IR_VERSIONS:
        raise CheckFailed(
            f"the IR version should be from {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}, but is {model.ir_version}"
        )
    for problem in (_name_problem(model.graph), _random(model.graph), _leftover(model.graph), _stale_shape(context)):
        if problem:
            raise CheckFailed(problem)
    if examination.problem:
        raise CheckFailed(f"onnx refuses the file: {examination.problem}")
    return CheckResult(
        f"valid ONNX, opset {opset}, IR version {model.ir_version}", {"opset": opset, "ir": model.ir_version}
    )


def _name_problem(graph: onnx.GraphProto) -> str | None:
    seen: set[str] = set()
    for node in graph.node:
        if node.name and node.name in seen:  # ONNX does not ask for a name, and not every exporter gives one
            return f"node names should be unique, but {node.name!r} occurs more than once"
        seen.add(node.name)
    return None


def _random(graph: onnx.GraphProto) -> str | None:
    """A Dropout may be in training mode; onnxruntime removes it nevertheless, other engines need not."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute}
    for node in graph.node:
        mode = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        if mode and (mode not in constants or onnx.numpy_helper.to_array(constants[mode]).any()):
            return f"node {node.name!r} is a Dropout that drops at random: another answer each time"
    return None


def _leftover(graph: onnx.GraphProto) -> str | None:
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in graph.initializer:
        if tensor.name not in read:
            return f"tensor {tensor.name!r} is stored but never read"
    for node in graph.node:
        if not read.intersection(node.output):
            return f"node {node.name!r} computes {', '.join(node.output)}, which nothing reads"
    return None


def _stale_shape(context: VerificationContext) -> str | None:
    """Compare the stored types and shapes with those that follow from the inputs and the weights."""
    graph, examination = context.model.graph, context.examination
    shapes: dict[str, Any] = examination.shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    types = examination.types | {tensor.name: tensor.data_type for tensor in graph.initializer}
    known = shapes.keys() | {name for node in graph.node for name in node.output}
    for info in [*graph.value_info, *graph.output]:
        if info.name not in known:
            return f"the file gives the shape of {info.name!r}, which it neither computes nor stores"
        if info.type.WhichOneof("value") != "tensor_type":
            return f"{info.name!r} should be a tensor, but is said to be a {info.type.WhichOneof('value')}"
        said, real = info.type.tensor_type.elem_type, types.get(info.name)
        if real and said != real:
            names = onnx.TensorProto.DataType.Name
            return f"{info.name!r} is said to be {names(said)}, but the graph computes {names(real)}"
        found = shapes.get(info.name)
        if not info.type.tensor_type.shape.dim or found is None:
            continue
        sizes = [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if len(sizes) != len(found) or any(map(_contradicts, sizes, found)):
            return f"{info.name!r} is said to be {sizes}, but the graph computes {list(found)}"
    return None


def _contradicts(told: int | str, real: int | str) -> bool:
    """Whether a stored size is not the one that is computed; 0 is one that is not known. Two symbols never contradict;
    the batch check judges them."""
    return bool(told and real) and told != real and not (isinstance(told, str) and isinstance(real, str))
