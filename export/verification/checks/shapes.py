"""Check: layer by layer, the shape in the file is that in PyTorch, and that of the closed formula where there is one;
`batch` stands at the front of each, for any number of images."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from export.analysis.exported_program import Call, Shape, Trace
from export.analysis.layer_matching import values_of_modules
from export.verification.context import CheckFailed, CheckResult, VerificationContext
from runtime.model.metadata import LOGITS
from runtime.model.spec import BATCH

_KEEPS_SHAPE = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Dropout, nn.BatchNorm2d, nn.LeakyReLU, nn.Identity, nn.Softmax)


@dataclass(frozen=True)
class LayerShape:
    """One layer's output, `batch` for the symbol: by PyTorch, by the closed formula (None where there is none), by the
    file (None where no node of the file could be matched with it); `value` is its name in the file."""

    module: str
    kind: str
    torch: Shape
    formula: Shape | None
    onnx: Shape | None
    value: str | None


def shapes(context: VerificationContext) -> CheckResult:
    traced = context.trace
    if problem := _batch_problem(traced):
        raise CheckFailed(problem, {"calls": [[c.name, c.before, c.after] for c in traced.calls]})
    rows = layer_shapes(context)
    folded = context.provenance.folded
    measures = {"table": [asdict(row) for row in rows], "folded": folded}
    for row in rows:
        if row.formula is not None and row.formula != row.torch:
            raise CheckFailed(
                f"{row.module} ({row.kind}): PyTorch gives {shown(row.torch)}, the closed formula {shown(row.formula)}",
                measures,
            )
        if row.onnx is not None and _contradicts(row.onnx, row.torch):
            raise CheckFailed(
                f"{row.module} ({row.kind}): PyTorch gives {shown(row.torch)}, the file computes {shown(row.onnx)} in "
                f"{row.value!r}",
                measures,
            )
    matched = [row for row in rows if row.onnx is not None]
    if not matched:
        raise CheckFailed("no value of the file could be matched with a layer's result, so none is compared", measures)
    merged = list(dict.fromkeys(row.module for row in rows if row.onnx is None))  # a shared layer runs twice
    words = f"; folded: {', '.join(f'{norm} into {layer}' for norm, layer in folded.items())}" if folded else ""
    words += f"; not matched in the file: {', '.join(merged)}" if merged else ""
    return CheckResult(
        f"{len(matched)} of {len(rows)} layers have the same shape in PyTorch and in the file, "
        f"{sum(row.formula is not None for row in rows)} also by formula, for any batch{words}",
        {"layers": len(rows), "matched": len(matched), "merged": merged} | measures,
    )


def layer_shapes(context: VerificationContext) -> list[LayerShape]:
    """Return every leaf module of the network in the order it ran, its shape from three sources side by side."""
    calls = context.trace.calls
    ran = [(call.name, call.module) for call in calls]
    values = values_of_modules(ran, context.network, context.multiplied_out.graph, context.provenance.places)
    values[""] = LOGITS
    in_file = context.examination.shapes
    rows = []
    for call in calls:
        value = values.get(call.name)
        shape = in_file.get(value) if value else None
        if value and shape and _contradicts(shape, call.after) and _reshaped(value, shape, call, context):
            value = shape = None
        rows.append(LayerShape(call.name, type(call.module).__name__, call.after, _formula(call), shape, value))
    return rows


def _reshaped(value: str, found: Shape, call: Call, context: VerificationContext) -> bool:
    """Whether a value may be a module's result in another shape: exporters merge a reshape with the next one."""
    nodes = context.multiplied_out.graph.node
    made = {node.op_type for node in nodes if value in node.output}
    read = {node.op_type for node in nodes if value in node.input}
    sizes = _numbers(found), _numbers(call.after)
    return {"Reshape"} in (made, read) and (None in sizes or sizes[0] == sizes[1])


def _numbers(shape: Shape) -> int | None:
    """Return how many numbers a value of this shape holds for one image; None where that is not known."""
    factors = [str(size).removesuffix(BATCH).removesuffix("*") or "1" for size in shape]
    known = [int(factor) for factor in factors if factor.isdigit()]
    return math.prod(known) if len(known) == len(factors) and all(known) else None


def _contradicts(found: Shape, expected: Shape) -> bool:
    """Whether a shape in the file is another one; its size 0 is one that inference does not know."""
    return len(found) != len(expected) or any(
        size not in (0, other) for size, other in zip(found, expected, strict=True)
    )


def shown(shape: Shape) -> str:
    """Return a shape as it is written in this project: `(batch, 6, 28, 28)`."""
    return f"({', '.join(map(str, shape))})"


def _batch_problem(traced: Trace) -> str | None:
    """Say where the batch is lost on the way, and why, if the network's own code does not keep it."""
    for call in traced.calls:
        if any(isinstance(size, str) for size in call.before) and not any(isinstance(size, str) for size in call.after):
            layer = f"{call.name or 'the network'} ({type(call.module).__name__})"
            return f"{layer}: PyTorch gives {shown(call.after)} for {shown(call.before)}, one result for all images"
    return f"the network is not the same for any batch: {traced.problem}" if traced.problem else None


def _formula(call: Call) -> Shape | None:
    """Return the closed formula's shape for a batch of images; of what is no batch, nothing is said."""
    sizes = tuple(size for size in call.before[1:] if isinstance(size, int))
    if call.before[:1] != (BATCH,) or len(sizes) != len(call.before) - 1:
        return None
    after = closed_formula(call.module, sizes)
    return None if after is None else (BATCH, *after)


def closed_formula(module: nn.Module, before: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return one image's output shape that follows from a layer's hyperparameters, or None where no formula is known.

    For convolution and pooling (C, H, W) it is floor((n - k + p + s) / s), p both sides together (D2L 7.3).
    """
    if isinstance(module, _KEEPS_SHAPE):
        return before
    if isinstance(module, nn.Linear):
        return (*before[:-1], module.out_features)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return (math.prod(before),)
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) or isinstance(module.padding, str):
        return None
    if getattr(module, "ceil_mode", False) or len(before) != 3:
        return None
    kernel, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
    dilation = _pair(getattr(module, "dilation", 1))
    sizes = tuple(
        math.floor((n - (d * (k - 1) + 1) + 2 * p + s) / s)
        for n, k, s, p, d in zip(before[1:], kernel, stride, padding, dilation, strict=True)
    )
    return (module.out_channels if isinstance(module, nn.Conv2d) else before[0], *sizes)


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
