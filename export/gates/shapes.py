"""Gate: layer by layer, the shape in the file is the shape in PyTorch, and the closed formula's where there is one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx.shape_inference
import torch
from torch import Tensor, nn

from export.subject import Finding, GateFailure, Subject

_BATCH = 2  # stands for the symbol while PyTorch is watched
Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerShape:
    """One layer's output without the batch: by PyTorch, by the closed formula (None where there is none), by the file
    (None where the exporter merged the layer into another)."""

    module: str
    kind: str
    torch: Shape
    formula: Shape | None
    onnx: Shape | None


def shapes(subject: Subject) -> Finding:
    rows = list(layer_shapes(subject))
    for row in rows:
        if row.formula is not None and row.formula != row.torch:
            raise GateFailure(f"{row.module} ({row.kind}): PyTorch gives {row.torch}, the closed formula {row.formula}")
        if row.onnx is not None and row.onnx != row.torch:
            raise GateFailure(f"{row.module} ({row.kind}): PyTorch gives {row.torch}, the file says {row.onnx}")
    matched = [row for row in rows if row.onnx is not None]
    if not matched:
        raise GateFailure("no node of the file is named after a module of the network, so no layer can be compared")
    folded = [row.module for row in rows if row.onnx is None]
    merged = f"; merged into others: {', '.join(folded)}" if folded else ""
    return Finding(
        f"{len(matched)} of {len(rows)} layers have the same shape in PyTorch and the file, "
        f"{sum(row.formula is not None for row in rows)} also by formula{merged}",
        {"layers": len(rows), "matched": len(matched), "merged": folded},
    )


def layer_shapes(subject: Subject) -> Iterator[LayerShape]:
    """Yield every leaf module of the network in the order it ran."""
    inferred = onnx.shape_inference.infer_shapes(subject.model, strict_mode=True, data_prop=True).graph
    known = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim[1:])
        for info in [*inferred.value_info, *inferred.output]
    }
    in_file: dict[str, Shape | None] = {}
    for node in inferred.node:  # later nodes of a module replace earlier ones: the last gives its output
        in_file[node.name.rpartition("/")[0]] = known.get(node.output[0])
    for name, module, before, after in _watch(subject.network):
        yield LayerShape(name, type(module).__name__, after, closed_formula(module, before), in_file.get(name))


def _watch(network: nn.Module) -> list[tuple[str, nn.Module, Shape, Shape]]:
    """Run two images through the network and note every leaf module's input and output shape."""
    seen: list[tuple[str, nn.Module, Shape, Shape]] = []

    def watcher(name: str) -> "torch.utils.hooks.Callable":  # type: ignore[name-defined]
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((name, module, tuple(inputs[0].shape[1:]), tuple(output.shape[1:])))

        return note

    handles = [
        module.register_forward_hook(watcher(name))
        for name, module in network.named_modules()
        if name and not list(module.children())
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros(_BATCH, 1, 28, 28, dtype=torch.uint8))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def closed_formula(module: nn.Module, before: Shape) -> Shape | None:
    """Return the output shape (C, H, W) of a convolution or pooling by floor((n - k + p + s) / s), p both sides
    together (D2L 7.3), or None for other layers."""
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return None
    kernel, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
    dilation = _pair(getattr(module, "dilation", 1))
    sizes = tuple(
        math.floor((n - (d * (k - 1) + 1) + 2 * p + s) / s)
        for n, k, s, p, d in zip(before[1:], kernel, stride, padding, dilation, strict=True)
    )
    return (module.out_channels if isinstance(module, nn.Conv2d) else before[0], *sizes)


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, tuple):
        return value
    assert isinstance(value, int)
    return (value, value)
