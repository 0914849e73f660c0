"""Summarise a network layer by layer: shapes, parameters, multiply-adds, receptive fields.

The network is built and run on PyTorch's `meta` device, whose tensors have shapes but no values, so that 129 million
parameters take no memory and no time. The shapes of convolutions and poolings are also computed by the closed formula.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from export.verification.checks.shapes import closed_formula
from runtime.errors import FashionZooError
from runtime.model.spec import FASHION_MNIST
from zoo.models import canonical_name, create_model
from zoo.models.preprocess import ImageClassifier

Shape = tuple[int, ...]


class ShapeError(FashionZooError):
    """PyTorch and the closed formula disagree about a layer; like a failed check, it exits with 3."""

    exit_code = 3


@dataclass(frozen=True)
class Layer:
    """A layer or a block of layers.

    `output_shape` is for one image. `receptive_field` is the side, in pixels of the network's input, of the square that
    one value of the output depends on; padding counts, so it may be larger than the image.
    """

    name: str
    type: str
    output_shape: Shape
    parameters: int
    multiply_adds: int
    receptive_field: int
    is_leaf: bool


@dataclass(frozen=True)
class Summary:
    """A network's rows at one depth, and its totals; a multiply-add is two `flops`."""

    model: str
    input_shape: Shape
    parameters: int
    flops: int
    layers: tuple[Layer, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        document = dataclasses.asdict(self)
        for layer in document["layers"]:
            del layer["is_leaf"]
        return document


def summarize(model: str, depth: int = 1) -> Summary:
    """Describe a model of the zoo, in the order in which its layers run.

    Args:
        model: a name of `list_models()`, or an alias.
        depth: 1 gives the rows that D2L prints, 2 the parts of its blocks, 0 every single layer.

    Raises:
        UsageError: no such model.
        ShapeError: the shape of a convolution or pooling, at any depth, is not that of the closed formula.
    """
    name = canonical_name(model)
    with torch.device("meta"):
        classifier = create_model(name)
        layers, flops = watch(classifier)
    side = classifier.preprocess.size
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    rows = tuple(layer for layer in layers if _is_row(layer, depth))
    return Summary(name, (1, 1, side, side), parameters, flops, rows)


def _is_row(layer: Layer, depth: int) -> bool:
    level = layer.name.count(".")  # network.0 is at level 1
    return level == depth or (layer.is_leaf and (depth == 0 or level < depth))


def watch(classifier: ImageClassifier) -> tuple[list[Layer], int]:
    """Run one image through a classifier.

    Returns:
        Every module inside its network in the order in which they finish, blocks after their own layers; and the
        floating-point operations of all, as `export.bundle.artifact.count_flops` counts them.
    """
    finished: list[tuple[str, nn.Module, Shape, int]] = []
    fields = _ReceptiveFields()
    counter = FlopCounterMode(display=False)
    names = {module: name for name, module in classifier.named_modules() if name.startswith("network.")}

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module not in names:
            return
        if not list(module.children()):
            _check(names[module], module, inputs[0], output)
            fields.widen(module, inputs[0], output)
        finished.append((names[module], module, tuple(output.shape), fields.of(output).size))

    hook = nn.modules.module.register_module_forward_hook(after)
    try:
        with fields, counter, torch.no_grad():
            classifier.eval()(torch.from_numpy(FASHION_MNIST.zeros(1)).to(next(classifier.parameters()).device))
    finally:
        hook.remove()
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    layers = [
        Layer(
            name,
            type(module).__name__,
            shape,
            sum(parameter.numel() for parameter in module.parameters()),
            flops.get(f"{type(classifier).__name__}.{name}", 0) // 2,
            receptive_field,
            not list(module.children()),
        )
        for name, module, shape, receptive_field in finished
    ]
    return layers, counter.get_total_flops()


def _check(name: str, module: nn.Module, given: Tensor, output: Tensor) -> None:
    """Raise ShapeError unless the closed formula, where there is one, agrees with PyTorch."""
    formula, found = closed_formula(module, tuple(given.shape[1:])), tuple(output.shape[1:])
    if formula is not None and formula != found:
        raise ShapeError(
            f"{name} ({module}): PyTorch gives {found}, the closed formula {formula}; one of the two is wrong"
        )


class _Field(NamedTuple):
    """The receptive field of one value of a tensor.

    Attributes:
        size: side of the square, in pixels of the network's input.
        jump: distance between the squares of two neighbours.
        side: neighbours along a side of the tensor.
    """

    size: int = 1
    jump: int = 1
    side: int = 1


class _ReceptiveFields(TorchFunctionMode):
    """Follows receptive fields while a network runs.

    Layers with a window widen them (`widen`). Any other operation passes on the largest among its inputs, so that the
    additions and concatenations at the end of branches count, which hooks on modules do not see.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> _Field:
        """Return a tensor's field; that of the network's input is one pixel."""
        return self._known.get(tensor) or _Field(side=tensor.shape[-1])

    def widen(self, module: nn.Module, given: Tensor, output: Tensor) -> None:
        """Record the field of a layer's output, where the layer has a window."""
        size, jump, side = self.of(given)
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = _side(module.kernel_size), _side(module.stride)
            self._known[output] = _Field(size + (kernel - 1) * jump, jump * stride, output.shape[-1])
        elif isinstance(module, nn.Linear | nn.AdaptiveAvgPool2d):  # a window over the whole map
            self._known[output] = _Field(size + (side - 1) * jump, jump * side)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            items = [item for arg in args for item in (arg if isinstance(arg, list | tuple) else [arg])]
            if known := [self._known[item] for item in items if isinstance(item, Tensor) and item in self._known]:
                self._known[result] = max(known)
        return result


def _side(value: object) -> int:
    """Return the side of a square window, which PyTorch stores as a number or a pair."""
    if isinstance(value, tuple):
        (value,) = set(value)
    assert isinstance(value, int)
    return value
