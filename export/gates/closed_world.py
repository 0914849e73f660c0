"""Gate: everything the graph needs is inside the file, within limits that are checked before anything heavy reads it.

The order is the point: first the bytes (`export.wire`), then the parsed message, and only then may a checker, shape
inference or a runtime see the file, and at first only in a process of its own (`export.examination`).
"""

import math

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from export.subject import Finding, GateFailure, Subject
from export.wire import WireError, scan

# Several times what the largest network of the zoo needs.
MAX_BYTES = 768 << 20
MAX_NODES = 5_000
MAX_TENSORS = 5_000
MAX_ELEMENTS = 1 << 28  # of one tensor
MAX_DIMENSION = 1 << 24
MAX_RANK = 8
MAX_NAME = 1_024
MAX_INTEGER = 1 << 24  # of a shape, an axis, a size
_OPEN_END = (1 << 63) - 1  # where a slice ends that goes on to the end
# Where a zero divides and a large number asks for all memory: smallest and largest value allowed.
_BOUNDS = {
    "strides": (1, 1_024),
    "dilations": (1, 1_024),
    "kernel_shape": (1, 4_096),
    "pads": (-4_096, 4_096),
    "group": (1, 1 << 16),
}
_FIELD_LIMITS = {
    "GraphProto.node": MAX_NODES,
    "GraphProto.initializer": MAX_TENSORS,
    "GraphProto.input": 64,
    "GraphProto.output": 64,
    "GraphProto.value_info": 2 * MAX_NODES,
    "ModelProto.opset_import": 16,
    "ModelProto.functions": 0,
    "ModelProto.training_info": 0,
    "ModelProto.configuration": 0,  # of devices
    "GraphProto.sparse_initializer": 0,
    "GraphProto.quantization_annotation": 0,
    "NodeProto.device_configurations": 0,
    "AttributeProto.g": 0,
    "AttributeProto.graphs": 0,
    "AttributeProto.sparse_tensor": 0,
    "AttributeProto.sparse_tensors": 0,
    "AttributeProto.tensors": 0,
    "TensorProto.external_data": 0,
    "TensorProto.string_data": 0,
    "TensorProto.segment": 0,
}
_TOLD = {
    "ModelProto.functions": "functions are not allowed, but the file defines some",
    "ModelProto.training_info": "training graphs are not allowed, but the file has one",
    "GraphProto.sparse_initializer": "sparse tensors are not allowed, but the file has some",
    "GraphProto.quantization_annotation": "a quantization is not allowed, but the file describes one",
    "AttributeProto.g": "subgraphs are not allowed, but a node has one",
    "AttributeProto.graphs": "subgraphs are not allowed, but a node has some",
    "TensorProto.external_data": "external data is not allowed, but a tensor lies outside the file",
}
_STORES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")

# What the networks of the zoo and a user's ordinary CNN are made of. An operator outside this list is refused until
# someone has looked at it: control flow, custom code and string handling have no place in a classifier.
OPERATORS = frozenset(
    [
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Celu",
        "Clip",
        "Concat",
        "Constant",
        "Conv",
        "ConvTranspose",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LayerNormalization",
        "LeakyRelu",
        "LogSoftmax",
        "LRN",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Pad",
        "Pow",
        "PRelu",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Selu",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    ]
)
# What to write in place of an operator that networks often have, in PyTorch's words.
_CONDITION = "a condition on values is best written with torch.relu, clamp, maximum or minimum"
_ADVICE = {
    "DepthToSpace": "use ConvTranspose2d in place of PixelShuffle",
    "Equal": _CONDITION,
    "Expand": "give the sizes as numbers; what is added or multiplied is stretched by itself",
    "Gather": "cut with a slice, as x[:, 0:1], in place of an index",
    "GatherND": "an adaptive pooling should have a size that divides its input's",
    "Greater": _CONDITION,
    "GreaterOrEqual": _CONDITION,
    "InstanceNormalization": "use BatchNorm2d or LayerNorm; on a plain picture this one enlarges rounding",
    "Less": _CONDITION,
    "LessOrEqual": _CONDITION,
    "Shape": "give the sizes as numbers, with -1 for the images, and write norms and attention with sums and products",
    "Where": _CONDITION,
}


def closed_world(subject: Subject) -> Finding:
    model = closed_world_of(subject.content)
    return Finding(
        f"{len(model.graph.node)} nodes of {len({node.op_type for node in model.graph.node})} operators, "
        f"{len(model.graph.initializer)} tensors, all inside {len(subject.content):,} bytes",
        {"nodes": len(model.graph.node), "bytes": len(subject.content)},
    )


def closed_world_of(content: bytes) -> onnx.ModelProto:
    """Parse a file, if it is one that may be parsed and keeps to the limits.

    Raises:
        GateFailure: it does not.
    """
    if len(content) > MAX_BYTES:
        raise GateFailure(f"the file has {len(content):,} bytes; at most {MAX_BYTES:,} are allowed", fatal=True)
    try:
        scanned = scan(content, onnx.ModelProto.DESCRIPTOR, _FIELD_LIMITS)
    except WireError as error:
        raise GateFailure(_refusal(str(error)), fatal=True) from error
    if not scanned.counts["ModelProto.graph"]:
        raise GateFailure("the file has no graph: it is empty, cut off, or no ONNX", fatal=True)
    model = onnx.load_from_string(content)
    problem = next(filter(None, [_domain_problem(model), *map(_node_problem, model.graph.node)]), None)
    tensors = [(tensor.name, tensor) for tensor in model.graph.initializer]
    tensors += [(n.output[0], a.t) for n in model.graph.node if n.output for a in n.attribute if a.HasField("t")]
    uses = {name: _OPEN_END for n in model.graph.node if n.op_type == "Slice" for name in n.input[2:3]}
    uses |= {
        name: 0 for n in model.graph.node for index, name in enumerate(n.input) if (n.op_type, index) != ("Slice", 2)
    }
    found = (_tensor_problem(tensor, uses.get(name, 0)) for name, tensor in tensors)
    problem = problem or next(filter(None, found), None) or _cycle(model.graph)
    if problem:
        raise GateFailure(problem, fatal=True)
    return model


def _refusal(reason: str) -> str:
    field = reason.removeprefix("has a ")
    return _TOLD.get(field, f"the bytes are refused before they are parsed: {reason}")


def _domain_problem(model: onnx.ModelProto) -> str | None:
    domains = sorted({opset.domain for opset in model.opset_import if opset.domain not in ("", "ai.onnx")})
    used = {node.domain for node in model.graph.node}.intersection(domains)
    advice = "" if used else "; no node is of them: delete them from its opset_import"  # onnxruntime writes them so
    return f"only the ai.onnx domain is allowed, but the file imports {', '.join(domains)}{advice}" if domains else None


def _node_problem(node: onnx.NodeProto) -> str | None:
    if any(len(name) > MAX_NAME for name in (node.name, *node.input, *node.output)):
        return f"a name at node {node.name[:40]!r} has more than {MAX_NAME:,} letters"
    if node.domain not in ("", "ai.onnx"):
        return f"only the ai.onnx domain is allowed, but node {node.name!r} is of {node.domain!r}"
    if node.op_type not in OPERATORS:
        advice = _ADVICE.get(node.op_type, "write that part of the network with others, such as Conv, Gemm or Relu")
        return f"node {node.name!r} is a {node.op_type[:40]}, which is not on the list of operators: {advice}"
    if getattr(node, "overload", ""):
        return f"functions are not allowed, but node {node.name!r} names an overload of one, {node.overload[:40]!r}"
    for attribute in node.attribute:
        if attribute.name.startswith("__"):  # onnx's checker lets these pass
            return f"node {node.name!r} has the attribute {attribute.name[:40]!r}, which no operator has"
        if attribute.ref_attr_name:
            return f"{attribute.name} of node {node.name!r} refers to an attribute of a function, and there is none"
        low, high = _BOUNDS.get(attribute.name, (-MAX_INTEGER, MAX_INTEGER))
        for value in [attribute.i] if attribute.type == onnx.AttributeProto.INT else attribute.ints:
            if not low <= value <= high:
                return f"{attribute.name} of node {node.name!r} should be from {low} to {high:,}, but is {value}"
    return None


def _tensor_problem(tensor: onnx.TensorProto, allowed: int) -> str | None:
    """Say what is wrong with a tensor; `allowed` is one integer that it may hold though it is beyond the limit."""
    name = tensor.name[:MAX_NAME]
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return f"external data is not allowed, but tensor {name!r} is outside the file"
    if len(tensor.dims) > MAX_RANK or any(not 0 <= dim <= MAX_DIMENSION for dim in tensor.dims):
        return f"tensor {name!r} has {len(tensor.dims)} dimensions {list(tensor.dims[:MAX_RANK])}, beyond the limits"
    count = math.prod(tensor.dims)
    if count > MAX_ELEMENTS:
        return f"tensor {name!r} claims {count:,} elements; at most {MAX_ELEMENTS:,} are allowed"
    stores = [store for store in _STORES if len(getattr(tensor, store))]
    if len(stores) > 1:
        return f"tensor {name!r} is stored twice, as {' and '.join(stores)}: readers may disagree on which counts"
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return f"tensor {name!r} holds no numbers"
    try:
        stored = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # numpy and onnx each have their own way to refuse
        return f"tensor {name!r} cannot be read: {' '.join(str(error).split())}"
    if stored.size != count:
        return f"tensor {name!r} should hold {count:,} numbers, but holds {stored.size:,}"
    stored = stored[stored != allowed] if stored.dtype == np.int64 else stored
    if stored.dtype == np.int64 and stored.size and int(np.abs(stored.clip(-(1 << 62), None)).max()) > MAX_INTEGER:
        return f"tensor {name!r} holds integers beyond {MAX_INTEGER:,}"
    return None


def _cycle(graph: onnx.GraphProto) -> str | None:
    """Nodes must stand in the order they are computed; a cycle has none."""
    known = {"", *(info.name for info in graph.input), *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if unknown := [name for name in node.input if name not in known]:
            return f"node {node.name!r} reads {unknown[0]!r}, which nothing before it computes: a cycle, or nothing"
        if twice := known.intersection(node.output) - {""}:
            return f"node {node.name!r} computes {min(twice)!r}, which is there already"
        known.update(node.output)
    return None
