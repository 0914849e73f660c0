"""Match values of the file with modules: by the weights a node reads, by exporters' names, else by execution order."""

import ast
from itertools import pairwise

import onnx
from torch import nn

_SCOPES = "pkg.torch.onnx.name_scopes"
# Modules that every exporter writes as one node.
_OPERATORS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.ReLU: ("Relu",),
    nn.Sigmoid: ("Sigmoid",),
    nn.Tanh: ("Tanh",),
    nn.MaxPool2d: ("MaxPool",),
    nn.AvgPool2d: ("AveragePool",),
    nn.AdaptiveAvgPool2d: ("GlobalAveragePool", "ReduceMean"),
    nn.Flatten: ("Reshape", "Flatten"),
}


def values_of_modules(
    ran: list[tuple[str, nn.Module]], network: nn.Module, graph: onnx.GraphProto, places: dict[str, onnx.NodeProto]
) -> dict[str, str]:
    """Return the name of the value that holds each module's result, where it can be found.

    `ran` are leaf modules in the order they ran; `places` has the node of a module where the weights tell.
    """
    names = [name for name, _ in ran]
    once = {name for name in names if names.count(name) == 1}  # of a shared module, no one value is the result
    found = {name: node.output[0] for name, node in places.items() if name in once}
    pools = {name for name, module in ran if isinstance(module, nn.AdaptiveAvgPool2d)}
    for name, node in _by_scope(graph, {name for name, _ in network.named_modules()}).items():
        if name in once and (name not in pools or not _drops_sizes(node)):
            found.setdefault(name, node.output[0])
    claimed = set(found.values())
    for kind, operators in _OPERATORS.items():
        modules = [name for name, module in ran if type(module) is kind]
        nodes = [node for node in graph.node if node.op_type in operators and not _drops_sizes(node)]
        if len(modules) == len(nodes):
            for name, node in zip(modules, nodes, strict=True):
                if name in once and name not in found and node.output[0] not in claimed:
                    found[name] = node.output[0]
    return found


def _by_scope(graph: onnx.GraphProto, modules: set[str]) -> dict[str, onnx.NodeProto]:
    """Read what exporters write of where a node came from; the last node of a module gives its result."""
    found: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        # The exporter may have put a wrapper around the network: `classifier.network.0`. The longest name counts, be it
        # that of a block: what `1.0` computes is not the result of the layer `0`.
        parts = _scope(node).split(".")
        name = next((".".join(parts[i:]) for i in range(len(parts)) if ".".join(parts[i:]) in modules), None)
        if name:
            found[name] = node
    return found


def _drops_sizes(node: onnx.NodeProto) -> bool:
    """A mean that leaves no 1 x 1 is an average pooling and what flattens its result, in one."""
    return node.op_type == "ReduceMean" and any(a.name == "keepdims" and not a.i for a in node.attribute)


def _scope(node: onnx.NodeProto) -> str:
    for prop in node.metadata_props:
        if prop.key == _SCOPES:
            try:
                listed = ast.literal_eval(prop.value)
            except (ValueError, SyntaxError):
                break
            if isinstance(listed, list) and len(listed) > 1:
                return str(listed[-2])
    # Ours: network.0.f/Conv; TorchScript's: /network/network.0/f/Conv, where a layer repeats what a list is called.
    steps = node.name.rpartition("/")[0].strip("/").split("/")
    kept = [step for step, after in pairwise([*steps, ""]) if not after.startswith(f"{step}.")]
    return ".".join(kept)
