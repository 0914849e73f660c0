"""Check: everything that the graph needs is inside the file, and the file can be opened.

The file is parsed, and put to onnx and onnxruntime, in a process of its own first (`export.examination`), so that one
that crashes a library or asks for all memory is refused by name. This protects from honest accidents: weights that lie
outside, custom operators, functions, control flow, randomness. Who serves networks from strangers needs more than this,
a proxy or a sandbox around the whole service.
"""

from export.subject import Finding, GateFailure, Subject


def closed_world(subject: Subject) -> Finding:
    if reason := subject.examination.unsafe:
        raise GateFailure(reason, fatal=True)
    graph = subject.model.graph
    return Finding(
        f"{len(graph.node)} nodes of {len({node.op_type for node in graph.node})} operators, "
        f"{len(graph.initializer)} tensors, all inside {len(subject.content):,} bytes",
        {"nodes": len(graph.node), "bytes": len(subject.content)},
    )
