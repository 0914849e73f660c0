"""Gate: everything the graph needs is inside the file, and nothing is inside that the graph does not need to be."""

import onnx

from export.subject import Finding, GateFailure, Subject

# What the networks of the zoo and a user's ordinary CNN are made of. An operator outside this list is refused until
# someone has looked at it: control flow, custom code and string handling have no place in a classifier.
OPERATORS = frozenset(
    [
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "Div",
        "Dropout",
        "Exp",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "LRN",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "Pad",
        "Pow",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Softmax",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    ]
)


def closed_world(subject: Subject) -> Finding:
    model = subject.model
    domains = sorted({opset.domain for opset in model.opset_import if opset.domain not in ("", "ai.onnx")})
    if domains:
        raise GateFailure(f"only the ai.onnx domain is allowed, but the file imports {', '.join(domains)}")
    if model.functions:
        raise GateFailure(f"functions are not allowed, but the file defines {model.functions[0].name!r}")
    if model.graph.sparse_initializer:
        raise GateFailure(f"sparse tensors are not allowed, but there are {len(model.graph.sparse_initializer)}")
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise GateFailure(f"external data is not allowed, but tensor {tensor.name!r} is outside the file")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise GateFailure(f"only the ai.onnx domain is allowed, but node {node.name!r} is of {node.domain!r}")
        if node.op_type not in OPERATORS:
            raise GateFailure(f"node {node.name!r} is a {node.op_type}, which is not on the list of operators")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise GateFailure(f"subgraphs are not allowed, but node {node.name!r} has one in {attribute.name!r}")
    return Finding(
        f"{len(model.graph.node)} nodes of {len({node.op_type for node in model.graph.node})} operators, "
        f"{len(model.graph.initializer)} tensors, all inside {len(subject.content):,} bytes",
        {"nodes": len(model.graph.node), "bytes": len(subject.content)},
    )
