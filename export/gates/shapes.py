"""Gate: layer by layer, the shape in the file is the shape in PyTorch, and the closed formula's where there is one."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from export.layers import values_of_modules
from export.subject import Finding, GateFailure, Subject

_BATCH = 2  # stands for the symbol while PyTorch is watched
Shape = tuple[int, ...]
_KEEPS_SHAPE = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Dropout, nn.BatchNorm2d, nn.LeakyReLU, nn.Identity, nn.Softmax)


@dataclass(frozen=True)
class LayerShape:
    """One layer's output without the batch: by PyTorch, by the closed formula (None where there is none), by the file
    (None where no node of the file can be told to be this layer); `value` is its name in the file."""

    module: str
    kind: str
    torch: Shape
    formula: Shape | None
    onnx: Shape | None
    value: str | None


def shapes(subject: Subject) -> Finding:
    rows = layer_shapes(subject)
    folded = subject.provenance.folded
    measures = {"table": [asdict(row) for row in rows], "folded": folded}
    for row in rows:
        if row.formula is not None and row.formula != row.torch:
            raise GateFailure(
                f"{row.module} ({row.kind}): PyTorch gives {row.torch}, the closed formula {row.formula}", measures
            )
        if row.onnx is not None and row.onnx != row.torch:
            raise GateFailure(
                f"{row.module} ({row.kind}): PyTorch gives {row.torch}, the file computes {row.onnx} in {row.value!r}",
                measures,
            )
    matched = [row for row in rows if row.onnx is not None]
    if not matched:
        raise GateFailure("no value of the file can be told to be a layer's result, so none is compared", measures)
    merged = [row.module for row in rows if row.onnx is None]
    words = f"; folded: {', '.join(f'{norm} into {layer}' for norm, layer in folded.items())}" if folded else ""
    words += f"; not told apart in the file: {', '.join(merged)}" if merged else ""
    return Finding(
        f"{len(matched)} of {len(rows)} layers have the same shape in PyTorch and the file, "
        f"{sum(row.formula is not None for row in rows)} also by formula{words}",
        {"layers": len(rows), "matched": len(matched), "merged": merged} | measures,
    )


def layer_shapes(subject: Subject) -> list[LayerShape]:
    """Return every leaf module of the network in the order it ran, its shape from three sources side by side."""
    ran = _watch(subject.network)
    modules = [(name, module) for name, module, _, _ in ran]
    values = values_of_modules(modules, subject.model.graph, subject.provenance.places)
    in_file = subject.examination.shapes
    rows = []
    for name, module, before, after in ran:
        value = values.get(name)
        shape = in_file[value][1:] if value in in_file else None
        rows.append(LayerShape(name, type(module).__name__, after, closed_formula(module, before), shape, value))
    return rows


def _watch(network: nn.Module) -> list[tuple[str, nn.Module, Shape, Shape]]:
    """Run two images through the network and note every leaf module's input and output shape."""
    seen: list[tuple[str, nn.Module, Shape, Shape]] = []

    def watcher(name: str) -> Callable[..., None]:
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
    """Return the output shape that follows from a layer's hyperparameters, or None where no formula is known.

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
