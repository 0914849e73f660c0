"""Where every number of a network comes from: its parameters, the constants of its code, the pairs that may be folded.

PyTorch is watched while it computes, so this holds for any network, whatever its attributes are called.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from runtime import contract

Array = npt.NDArray[Any]
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Conv1d)
# What an operation of PyTorch is made of, where it becomes several of ONNX: x (1 + erf(x / sqrt 2)) / 2, and its
# approximation by tanh(sqrt(2 / pi) (x + 0.044715 x**3)) (Hendrycks and Gimpel, 2016).
_NUMBERS_WITHIN = {
    "gelu": {0.5, 3.0, math.sqrt(2), math.sqrt(2 / math.pi), 0.044715},
    "hardsigmoid": {0.5, 3.0, 6.0},
    "hardswish": {0.5, 3.0, 6.0},
    "rsqrt": {0.5, -0.5},
    "sqrt": {0.5},
    "square": {2.0},
}
# What cuts values off, and where it does that by itself.
_LIMITS_WITHIN: dict[str, set[float]] = {
    "clamp": set(),
    "clamp_max": set(),
    "clamp_min": set(),
    "hardsigmoid": {0.0, 1.0, 6.0},
    "hardswish": {0.0, 1.0, 6.0},
    "hardtanh": set(),
    "maximum": set(),
    "minimum": set(),
    "relu": {0.0},
    "threshold": set(),
}
# A size or an axis is no number to compute with, nor is what only training reads.
_NUMBER_TYPES = {"Tensor", "Optional[Tensor]", "number", "Optional[number]", "float", "Optional[float]"}
_UNUSED = {"momentum"}


@dataclass
class Origins:
    """The numbers of a network.

    Attributes:
        tensors: parameters and buffers that the forward pass reads, by their name in the state_dict.
        unread: those that it does not read; a graph may do without them.
        reads: how many operations read each of `tensors`, or a view of it; to take a view is not one.
        constants: other tensors that the code brings in; scalars: plain numbers it computes with.
        operations: PyTorch's names of what ran, as `relu`.
        limits: numbers at which one of them cuts off.
        folds: the batch norm, by its name, that takes the result of a convolution or linear layer, by its name.
    """

    tensors: dict[str, Array] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    reads: dict[str, int] = field(default_factory=dict)
    constants: list[Array] = field(default_factory=list)
    scalars: set[float] = field(default_factory=set)
    operations: set[str] = field(default_factory=set)
    limits: set[float] = field(default_factory=set)
    folds: dict[str, str] = field(default_factory=dict)


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every tensor that an operation reads and none has written, and every number passed to one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: dict[int, Tensor] = {}
        self.reads: Counter[int] = Counter()
        self.written: set[int] = set()
        self.operations: set[str] = set()
        self.numbers: set[float] = set()
        self.limits: set[float] = set()
        self._alive: list[Any] = []  # an address must not be used again while we watch

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = function._schema.name.rpartition("::")[2].rstrip("_")
        self.operations.add(name)
        numbers = _numbers_passed(function._schema, args, kwargs or {})
        self.numbers |= numbers | _NUMBERS_WITHIN.get(name, set())
        if name in _LIMITS_WITHIN:
            self.limits |= numbers | _LIMITS_WITHIN[name]
        for value in tree_iter((args, kwargs or {})):
            if isinstance(value, Tensor):
                self.read.setdefault(_address(value), value)
                self.reads[_address(value)] += not function.is_view
        result = function(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor) and _address(value) not in self.read:
                self.written.add(_address(value))
        self._alive.append(result)
        return result


def _numbers_passed(schema: Any, args: Any, kwargs: dict[str, Any]) -> set[float]:
    passed = [*zip(schema.arguments, args, strict=False)]
    passed += [(argument, kwargs[argument.name]) for argument in schema.arguments if argument.name in kwargs]
    return {
        float(value)
        for argument, value in passed
        if isinstance(value, int | float) and str(argument.type) in _NUMBER_TYPES and argument.name not in _UNUSED
    }


def origins_of(network: nn.Module) -> Origins:
    """Watch two pictures go through a network in evaluation mode, on the CPU."""
    found, watcher = Origins(), _Watcher()
    results: dict[int, tuple[str, Tensor]] = {}

    def after(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: results.__setitem__(id(output), (name, output))

    def before(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if id(inputs[0]) in results:
                found.folds[name] = results[id(inputs[0])][0]

        return note

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _LINEAR):
            handles.append(module.register_forward_hook(after(name)))
        elif isinstance(module, _BATCH_NORMS) and module.running_mean is not None:  # else it is the batch's own
            handles.append(module.register_forward_pre_hook(before(name)))
    images = torch.zeros(2, 1, contract.SIDE, contract.SIDE, dtype=torch.uint8)
    try:
        with torch.no_grad(), watcher:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    known = {_address(images)}
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        known.add(_address(tensor))
        if _address(tensor) not in watcher.read:
            found.unread.append(name)
        elif tensor.is_floating_point():
            found.tensors[name] = tensor.detach().float().numpy()
            found.reads[name] = watcher.reads[_address(tensor)]
        else:  # integers may be an index as well as numbers, so the file need not hold them
            found.constants.append(tensor.detach().float().numpy())
    for address, tensor in watcher.read.items():
        if address not in known and address not in watcher.written:
            found.constants.append(tensor.detach().float().numpy())
    found.operations, found.limits = watcher.operations, watcher.limits
    found.scalars = watcher.numbers | {1 / number for number in watcher.numbers if number}
    return found


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@dataclass(frozen=True)
class Fold:
    """A batch norm y = (x - mean) * gamma / sqrt(var + eps) + beta, merged into the layer in front of it.

    Attributes:
        weight, bias: what the merged layer must hold, computed in float64.
        weight_room, bias_room: how far float32 may end from it, in any order of the operations.
    """

    weight: Array
    bias: Array
    weight_room: Array
    bias_room: Array


# Square root, division, product and two sums round six times, each by half a unit of 2**-23 of the largest term.
_ROOM = 4 * float(np.finfo(np.float32).eps)


def fold(network: nn.Module, layer: str, norm: str) -> Fold:
    """Compute the merged weights of a layer and the batch norm behind it."""
    inner, outer = network.get_submodule(layer), network.get_submodule(norm)
    scale, shift, shift_room = scale_and_shift(outer)
    weight = _array(inner.weight)
    if isinstance(inner, nn.ConvTranspose2d):  # (in, out / groups, height, width), one group behind the other
        per_input = np.repeat(scale.reshape(inner.groups, -1), inner.in_channels // inner.groups, axis=0)
        merged = weight * per_input[:, :, None, None]
    else:
        merged = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = _array(inner.bias) if inner.bias is not None else np.zeros_like(scale)
    return Fold(merged, bias * scale + shift, _ROOM * np.abs(merged), _ROOM * np.abs(bias * scale) + shift_room)


def scale_and_shift(norm: Any) -> tuple[Array, Array, Array]:
    """Return a batch norm in evaluation mode as x * scale + shift, and how far float32 may end from the shift."""
    mean, variance = _array(norm.running_mean), _array(norm.running_var)
    gamma = _array(norm.weight) if norm.weight is not None else np.ones_like(mean)
    beta = _array(norm.bias) if norm.bias is not None else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + norm.eps)
    return scale, beta - mean * scale, _ROOM * (np.abs(mean * scale) + np.abs(beta)) + np.finfo(np.float32).tiny


def _array(tensor: Any) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array
