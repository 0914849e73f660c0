"""Operators of a file that cut off or saturate: no more of them than the network has.

Sums, products and convolutions that are not the network's show on random pixels: a polynomial that is zero there is
zero everywhere. What can lie still on every picture at hand, and act on another, has to cut off or to saturate:
Relu(2 a - b) of one pixel a and the sum b of all waits for the picture that has this pixel alone. So these operators
are counted, in the file and, as PyTorch runs it, in the network.
"""

from collections import Counter
from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class _Bend:
    """What an operation of PyTorch becomes: one of `operators`, or where a file has fewer of these, `parts` others."""

    operators: tuple[str, ...] = ()
    parts: int = 1


_BENDS = {
    "_log_softmax": _Bend(("Softmax", "LogSoftmax"), 2),  # Exp, and ReduceMax before it
    "_prelu_kernel": _Bend(("PRelu",), 2),
    "_softmax": _Bend(("Softmax", "LogSoftmax"), 2),
    "celu": _Bend(("Celu", "Elu"), 2),
    "clamp": _Bend(("Clip",), 2),  # Max and Min
    "elu": _Bend(("Celu", "Elu", "Selu"), 2),  # PyTorch's celu and selu, too
    "hardsigmoid": _Bend(("HardSigmoid",), 2),
    "hardswish": _Bend(("HardSwish", "HardSigmoid"), 2),
    "hardtanh": _Bend(("Clip",), 2),
    "leaky_relu": _Bend(("LeakyRelu", "PRelu"), 2),
    "mish": _Bend(("Mish",), 2),
}
_BENDS |= dict.fromkeys(
    (
        "abs", "adaptive_max_pool2d", "amax", "amin", "clamp_max", "clamp_min", "erf", "exp", "fmax", "fmin", "gelu",
        "glu", "linalg_vector_norm", "max", "max_pool2d_with_indices", "maximum", "min", "minimum", "relu", "sigmoid",
        "silu", "softplus", "tanh", "threshold",
    ),
    _Bend(),
)  # fmt: skip
# Operations that neither cut off nor saturate, beside views. Of any other it is not known what it becomes.
_STRAIGHT = {
    "_adaptive_avg_pool2d", "_native_batch_norm_legit_no_training", "_to_copy", "_unsafe_view", "add", "addbmm",
    "addcmul", "addmm", "avg_pool2d", "baddbmm", "bmm", "cat", "clone", "constant_pad_nd", "convolution", "copy",
    "cudnn_batch_norm", "div", "empty", "empty_like", "fill", "full", "full_like", "lift_fresh", "lift_fresh_copy",
    "mean", "mm", "mul", "native_batch_norm", "native_layer_norm", "neg", "ones", "ones_like",
    "pow", "reciprocal", "reflection_pad1d", "reflection_pad2d", "replication_pad2d", "rsqrt", "rsub",
    "scalar_tensor", "sqrt", "square", "stack", "sub", "sum", "upsample_bicubic2d", "upsample_bilinear2d",
    "upsample_nearest2d", "zeros", "zeros_like",
}  # fmt: skip
_BENDING = {
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax",
    "Max", "MaxPool", "Min", "Mish", "PRelu", "ReduceMax", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus",
    "Softsign", "Tanh",
}  # fmt: skip
# Operations of PyTorch that cut off above, whatever else they do.
_ABOVE = ("hardsigmoid", "hardswish", "hardtanh")


def bend_problems(graph: onnx.GraphProto, calls: Counter[str]) -> list[str]:
    """Return what a graph has more of than the network, in sentences.

    Args:
        graph: the file's graph.
        calls: how often the network ran each operation of PyTorch, those that take a view left out.
    """
    if calls.keys() - _BENDS.keys() - _STRAIGHT:
        return []
    calls = calls + Counter(["_softmax"])  # the probabilities
    nodes = [node for node in graph.node if node.op_type in _BENDING]
    found = Counter(node.op_type for node in nodes)
    allowed = 0
    for name in calls.keys() & _BENDS.keys():
        bend, count = _BENDS[name], calls[name]
        apart = max(0, count - sum(found[operator] for operator in bend.operators))
        allowed += count + apart * (bend.parts - 1)
    problems = []
    if len(nodes) > allowed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        problems.append(
            f"{len(nodes)} nodes cut off or saturate ({kinds}), where the network and its probabilities need at most "
            f"{allowed}: one of them acts on pictures that are not tried here"
        )
    return problems + _above_problems(graph, calls)


def _above_problems(graph: onnx.GraphProto, calls: Counter[str]) -> list[str]:
    """What cuts off above by a number leaves no trace on pictures that stay below it, nor does its absence."""
    if any(name in calls for name in ("clamp", "clamp_max", "minimum", "maximum", "min", "max", "fmin", "fmax")):
        return []
    expected = sum(calls[name] for name in _ABOVE)
    cutting = [node for node in graph.node if _cuts_above(node)]
    if len(cutting) == expected:
        return []
    return [f"{len(cutting)} nodes cut off above, where the network does so {expected} times"]


def _cuts_above(node: onnx.NodeProto) -> bool:
    limited = node.op_type == "Clip" and len(node.input) > 2 and bool(node.input[2])
    return limited or node.op_type in ("Min", "HardSigmoid", "HardSwish")
