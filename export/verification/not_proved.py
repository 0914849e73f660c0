"""What the checks cannot vouch for: operators of the file that are listed in the report beside the results.

Parity measures numbers on pictures. For an operator that is continuous in its inputs, agreement there is agreement
nearby. One that jumps, as a comparison or a rounding does, may jump elsewhere in another place; one of which no check
knows what it computes, or whose shape cannot be inferred, is compared by its effect on the outputs alone.
"""

from typing import Any

from export.verification.context import VerificationContext

_CONTINUOUS = {
    "Abs", "Add", "And", "Attention", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Celu", "Clip",
    "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace",
    "DequantizeLinear", "Div", "Dropout", "Einsum", "Elu", "Erf", "Exp", "Expand", "Flatten", "GRU", "Gather",
    "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LSTM",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max", "MaxPool",
    "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow",
    "QuantizeLinear", "RMSNormalization", "RNN", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
    "Reshape", "Resize", "ScatterElements", "ScatterND", "Selu", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus",
    "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tanh", "Tile", "Transpose",
    "Trilu", "Unsqueeze", "Where",
}  # fmt: skip
_JUMPING = {
    "ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "Mod", "NonZero", "OneHot", "Round", "Shrink", "Sign", "ThresholdedRelu", "TopK",
    "Unique", "Xor",
}  # fmt: skip


def not_proved(context: VerificationContext) -> tuple[dict[str, Any], ...]:
    """Return `{operator, node, reason}` of each such operator that computes from pixels, in the file's order."""
    found: list[dict[str, Any]] = []
    shapes = context.examination.shapes
    for node in context.model.graph.node:
        if not context.of_images.intersection(node.output):
            continue
        if node.op_type in _JUMPING:
            reason = "its result jumps, so that agreement on some pictures says little of others"
        elif node.op_type not in _CONTINUOUS:
            reason = "no check knows what it computes; its effect on the outputs alone is compared"
        elif any(0 in shapes.get(name, (0,)) or "?" in shapes.get(name, ()) for name in node.output if name):
            reason = "its shape cannot be inferred, so that it is not compared"
        else:
            continue
        found.append({"operator": node.op_type, "node": node.name or node.output[0], "reason": reason})
    return tuple(found)
