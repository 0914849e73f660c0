"""Gate: the file is valid ONNX, fully typed, with nothing left over."""

import onnx
import onnx.checker
import onnx.shape_inference

from export.subject import Finding, GateFailure, Subject

OPSETS = range(13, 24)
IR_VERSIONS = range(7, 12)


def structure(subject: Subject) -> Finding:
    model = subject.model
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # the checker's and the inference's errors share no base class
        raise GateFailure(f"onnx refuses the file: {' '.join(str(error).split())}") from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        raise GateFailure(f"opset {opset} is outside {OPSETS.start} to {OPSETS.stop - 1}")
    if model.ir_version not in IR_VERSIONS:
        raise GateFailure(f"IR version {model.ir_version} is outside {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}")
    graph = model.graph
    names = [node.name for node in graph.node]
    for name in names:
        if not name or names.count(name) > 1:
            raise GateFailure(f"node names must be there and unique, but {name!r} occurs {names.count(name)} times")
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in graph.initializer:
        if tensor.name not in read:
            raise GateFailure(f"tensor {tensor.name!r} is stored but never read")
    for node in graph.node:
        if not read.intersection(node.output):
            raise GateFailure(f"node {node.name!r} computes {', '.join(node.output)}, which nothing reads")
    return Finding(
        f"valid ONNX, opset {opset}, IR version {model.ir_version}", {"opset": opset, "ir": model.ir_version}
    )
