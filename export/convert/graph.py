"""Change the nodes, tensors and outputs of a graph, whatever its operators are."""

import copy
from collections.abc import Iterable

import onnx
from onnx import NodeProto


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return the same model with these values as outputs too."""
    twin = copy.deepcopy(model)
    known = {output.name for output in twin.graph.output}
    twin.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    return twin


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give a graph these nodes, some of which it may hold already."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that nothing reads."""
    wanted = {output.name for output in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    replace_nodes(graph, reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
