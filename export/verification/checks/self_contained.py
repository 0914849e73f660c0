"""Check: everything that the graph needs is inside the file, and the file can be opened.

The file is parsed, and put to onnx and onnxruntime, in a process of its own first (`export.analysis.sandbox`), so that
one that crashes a library or asks for all memory is refused by name. This protects from honest accidents: weights that
lie outside, custom operators, functions, control flow, randomness. Who serves networks from strangers needs more than
this, a proxy or a sandbox around the whole service.
"""

from export.verification.context import CheckFailed, CheckResult, VerificationContext


def self_contained(context: VerificationContext) -> CheckResult:
    if reason := context.examination.unsafe:
        raise CheckFailed(reason, fatal=True)
    graph = context.model.graph
    return CheckResult(
        f"{len(graph.node)} nodes of {len({node.op_type for node in graph.node})} operators, "
        f"{len(graph.initializer)} tensors, all inside {len(context.content):,} bytes",
        {"nodes": len(graph.node), "bytes": len(context.content)},
    )
