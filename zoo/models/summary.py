"""Summarise a network layer by layer: shapes, parameters, multiply-adds, receptive fields.

The network is built and run on PyTorch's `meta` device, which has shapes but no numbers: 129 million parameters take
no memory and no time. The shape of every convolution and pooling is also worked out by the closed formula.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from export.bundle.artifact import count_flops
from export.verification.checks.shapes import closed_formula
from runtime.errors import FashionZooError
from runtime.model.spec import SIDE
from zoo.models import canonical_name, create_model
from zoo.models.preprocess import ImageClassifier

Shape = tuple[int, ...]


class ShapeError(FashionZooError):
    """PyTorch and the closed formula disagree about a layer; like a failed check, it exits with 3."""

    exit_code = 3


@dataclass(frozen=True)
class Layer:
    """A layer or a block of layers; `output_shape` is for one image, `receptive_field` the side, in pixels of the
    network's input, of the square that one number of the output depends on. Padding counts: it may exceed the image.
    """

    name: str
    type: str
    output_shape: Shape
    parameters: int
    multiply_adds: int
    receptive_field: int
    is_leaf: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "output_shape": list(self.output_shape),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "receptive_field": self.receptive_field,
        }


@dataclass(frozen=True)
class Summary:
    """A network's rows at the depth asked for, and its totals; `flops` are two to a multiply-add."""

    model: str
    input_shape: Shape
    parameters: int
    flops: int
    layers: tuple[Layer, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "parameters": self.parameters,
            "flops": self.flops,
            "layers": [layer.as_dict() for layer in self.layers],
        }


def summarize(model: str, depth: int = 1) -> Summary:
    """Describe a model of the zoo, in the order in which its layers run.

    Args:
        model: a name of `list_models()`, or an alias.
        depth: how far blocks are taken apart: 1 gives the rows that D2L prints, 0 every single layer.

    Raises:
        UsageError: no such model.
        ShapeError: a convolution or pooling whose shape is not the closed formula's, at whatever depth it lies.
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
    """Run one image through a classifier. Return every module inside its network as it finished, blocks after their
    own layers, and the floating-point operations in all, as `export.bundle.artifact.count_flops` counts them."""
    layers: list[Layer] = []
    started: dict[nn.Module, int] = {}
    reaches = _Reaches()
    counter = FlopCounterMode(display=False)

    def before(module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        started[module] = counter.get_total_flops()

    def after(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            is_leaf = not list(module.children())
            if is_leaf:
                _check(name, module, inputs[0], output)
                reaches.through(module, inputs[0], output)
            layers.append(
                Layer(
                    name,
                    type(module).__name__,
                    tuple(output.shape),
                    sum(parameter.numel() for parameter in module.parameters()),
                    (counter.get_total_flops() - started[module]) // 2,
                    reaches.of(output).size,
                    is_leaf,
                )
            )

        return note

    modules = [(name, module) for name, module in classifier.named_modules() if name.startswith("network.")]
    image = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8)
    with _hooks(modules, before, after), reaches, counter, torch.no_grad():
        classifier.eval()(image)
    return layers, counter.get_total_flops()


@contextmanager
def _hooks(
    modules: list[tuple[str, nn.Module]],
    before: Callable[..., None],
    after: Callable[[str], Callable[..., None]],
) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(before) for _, module in modules]
    handles += [module.register_forward_hook(after(name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check(name: str, module: nn.Module, given: Tensor, output: Tensor) -> None:
    """Raise ShapeError unless the closed formula, where there is one, agrees with PyTorch."""
    formula, found = closed_formula(module, tuple(given.shape[1:])), tuple(output.shape[1:])
    if formula is not None and formula != found:
        raise ShapeError(
            f"{name} ({module}): PyTorch gives {found}, the closed formula {formula}; one of the two is wrong"
        )


class Reach(NamedTuple):
    """How much of the input one number depends on: the side `size` of a square of pixels; how far the squares of two
    neighbours are apart, `jump`; and how many neighbours there are along a `side`."""

    size: int = 1
    jump: int = 1
    side: int = 1


class _Reaches(TorchFunctionMode):
    """Follows the reach of tensors while a network runs.

    A sliding window widens it (`through`). Any other operation hands on the largest reach among what it is given:
    that takes it past the additions and concatenations in which branches end, where a hook on modules sees nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Reach:
        """Return a tensor's reach; one that no window has widened is the input, each pixel of which sees itself."""
        return self._known.get(tensor) or Reach(side=tensor.shape[-1])

    def through(self, module: nn.Module, given: Tensor, output: Tensor) -> None:
        """Widen the reach by a layer that mixes neighbours."""
        size, jump, side = self.of(given)
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = _side(module.kernel_size), _side(module.stride)
            self._known[output] = Reach(size + (kernel - 1) * jump, jump * stride, output.shape[-1])
        elif isinstance(module, nn.Linear | nn.AdaptiveAvgPool2d):  # a window over the whole map
            self._known[output] = Reach(size + (side - 1) * jump, jump * side)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            items = [item for arg in args for item in (arg if isinstance(arg, list | tuple) else [arg])]
            reaches = [self._known[item] for item in items if isinstance(item, Tensor) and item in self._known]
            if reaches:
                self._known[result] = max(reaches)
        return result


def _side(value: object) -> int:
    """Return the side of a window, which PyTorch gives as a number or a pair; every window of the zoo is square."""
    if isinstance(value, tuple):
        (value,) = set(value)
    assert isinstance(value, int)
    return value


def size_of(name: str) -> tuple[int, int]:
    """Return the parameters of a network, and the operations of one image."""
    with torch.device("meta"):  # shapes without numbers: nothing to allocate, initialise or multiply
        network = create_model(name)
        flops = count_flops(network)
    return sum(parameter.numel() for parameter in network.parameters()), flops
