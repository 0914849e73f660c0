"""A network as a `torch.export.ExportedProgram`, in which the number of images is a symbol.

It says which parameters the network reads, which constants and numbers its code brings in, and which shapes flow from
layer to layer; and PyTorch proves of every size that it holds for any number of images, or says which line of reasoning
asks for a certain number. `export.convert.exporter` translates such a program to ONNX.
"""

import io
import logging
import operator
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_iter

from export.analysis.sandbox_child import BATCHES
from runtime.model.spec import BATCH, FASHION_MNIST, Array, InputSpec

Shape = tuple[int | str, ...]  # a str is an expression in `batch`
_DERIVED = 1 << 26  # numbers that are computed from parameters alone and kept to be compared
_EXAMPLE = 5  # images; any number above 1 stands for all
_NUMBER_OF_IMAGES = re.compile(r"L\['\w+'\]\.size\(\)\[0\]")  # as PyTorch writes it
_NOISY = ("torch.fx.experimental.symbolic_shapes", "torch.export", "torch._export", "torch._dynamo", "torch.onnx")


class NotTraceable(Exception):
    """PyTorch cannot follow a network's code for any number of images; the message says why."""


@dataclass(frozen=True)
class Call:
    """One call of a leaf module, and the shapes of its first argument and result; `name` is '' for a network without
    any module in it."""

    name: str
    module: nn.Module
    before: Shape
    after: Shape


@dataclass(frozen=True)
class Norm:
    """A batch norm with stored statistics: the names of what it reads, None for what it does without.

    Attributes:
        layer, layer_bias: weight and bias of the convolution or linear layer whose result it alone takes.
        transposed: the groups of this layer if it is a transposed convolution.
    """

    mean: str
    variance: str
    weight: str | None
    bias: str | None
    eps: float
    layer: str | None = None
    layer_bias: str | None = None
    transposed: int | None = None

    @property
    def name(self) -> str:
        return self.mean.removesuffix(".running_mean")


@dataclass(frozen=True)
class Derived:
    """A value that the code computes from parameters and numbers alone, so that an exporter may compute it beforehand.

    Attributes:
        value: floats.
        origins: the parameters and buffers that it was computed from.
        steps: the values that it was computed from, and itself, as positions in `Trace.derived`.
        used: whether an operation on the images reads it.
    """

    value: Array
    origins: frozenset[str]
    steps: frozenset[int]
    used: bool


@dataclass
class Trace:
    """What a network's program says.

    Attributes:
        calls: of leaf modules, in order.
        problem: why this does not hold for any number of images, a sentence; None if it does. Then there are no calls,
            and every parameter counts as read.
        tensors: parameters and buffers of floats that the network reads, by their name in the state_dict.
        unread: those that it does not read; a file may do without them.
        constants: other tensors that the code brings in; scalars: plain numbers that it computes with.
        norms: batch norms with stored statistics.
        derived: what the code computes from parameters alone.
    """

    calls: tuple[Call, ...] = ()
    problem: str | None = None
    tensors: dict[str, Array] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    scalars: set[float] = field(default_factory=set)
    norms: list[Norm] = field(default_factory=list)
    derived: list[Derived] = field(default_factory=list)


def export_program(network: nn.Module, input: InputSpec = FASHION_MNIST) -> ExportedProgram:
    """Follow a batch of images, as `input` says, through a deployed network.

    Raises:
        NotTraceable: the code decides by values, or asks for a certain number of images.
    """
    images = torch.from_numpy(input.zeros(_EXAMPLE))
    batch = ({0: torch.export.Dim(BATCH)},)
    first: Exception | None = None
    for strict in (False, True):  # the second reads the code, where the first takes len(images) for a plain number
        try:
            with quiet(), torch.no_grad():
                return torch.export.export(network, (images,), dynamic_shapes=batch, strict=strict)
        except Exception as error:  # PyTorch's own errors share no base class
            first = first or error
    raise NotTraceable(_reason(str(first))) from first


def trace(network: nn.Module, input: InputSpec = FASHION_MNIST) -> Trace:
    """Return what the program of a deployed network says; see `export_program`."""
    try:
        program = export_program(network, input)
    except NotTraceable as error:
        return Trace(
            problem=str(error), tensors={name: _array(t) for name, t in _named(network) if t.is_floating_point()}
        )
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants.values()
    found = Trace(_calls(network, program), constants=[_array(program.constants[name]) for name in lifted])
    inputs = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    names = {node.name: inputs[node.name] for node in program.graph.nodes if node.name in inputs}
    by_name = dict(_named(network))
    read = {by_name[names[node.name]].data_ptr() for node in program.graph.nodes if node.name in names and node.users}
    for name, tensor in by_name.items():
        if tensor.data_ptr() not in read:
            found.unread.append(name)
        elif tensor.is_floating_point():
            found.tensors[name] = _array(tensor)
        else:  # integers may be an index as well as numbers, so the file need not hold them
            found.constants.append(_array(tensor))
    for node in program.graph.nodes:
        if node.op == "call_function":
            numbers = {float(value) for value in tree_iter((node.args, node.kwargs)) if type(value) in (int, float)}
            found.scalars |= numbers | {1 / number for number in numbers if number}
    found.norms = _norms(program, names)
    found.derived = _derived(program, names, by_name)
    return found


def _derived(program: ExportedProgram, names: dict[str, str], tensors: dict[str, Tensor]) -> list[Derived]:
    """Compute every value that depends on no image, in the order of the code; at most `_DERIVED` numbers in all."""
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants
    known: dict[torch.fx.Node, Any] = {}
    origins: dict[torch.fx.Node, frozenset[str]] = {}
    steps: dict[torch.fx.Node, frozenset[int]] = {}
    found: list[tuple[torch.fx.Node, Tensor, frozenset[str]]] = []
    room = _DERIVED

    def note(node: torch.fx.Node, value: Any, read: frozenset[str]) -> None:
        nonlocal room
        if isinstance(value, Tensor) and value.is_floating_point() and read and value.numel() <= room:
            room -= value.numel()
            steps[node] |= {len(found)}
            found.append((node, value, read))

    for node in program.graph.nodes:
        if node.name in names or node.name in lifted:
            known[node] = tensors[names[node.name]] if node.name in names else program.constants[lifted[node.name]]
            origins[node], steps[node] = frozenset(filter(None, [names.get(node.name)])), frozenset()
            continue
        if node.op != "call_function" or any(each not in known for each in node.all_input_nodes):
            continue
        try:
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            with torch.no_grad():
                value = node.target(*arguments[0], **arguments[1])
        except Exception:  # an operation that only an exporter knows
            continue
        known[node] = value
        origins[node] = frozenset[str]().union(*(origins[each] for each in node.all_input_nodes))
        steps[node] = frozenset[int]().union(*(steps[each] for each in node.all_input_nodes))
        if str(node.target).startswith("aten.linear") and len(arguments[0]) == 3:  # exporters add the bias apart
            product = frozenset[str]().union(*(origins[each] for each in node.all_input_nodes[:2]))
            note(node, arguments[0][0] @ arguments[0][1].T, product)
        note(node, value, origins[node])
    return [
        Derived(_array(value), read, steps[node], any(user not in known for user in node.users))
        for node, value, read in found
    ]


def _norms(program: ExportedProgram, names: dict[str, str]) -> list[Norm]:
    def name(value: Any) -> str | None:
        return names.get(value.name) if isinstance(value, torch.fx.Node) else None

    found = []
    for node in program.graph.nodes:
        if not str(node.target).startswith("aten.batch_norm"):
            continue
        layer, weight, bias, mean, variance, training, _, eps, *_ = node.args
        mean, variance = name(mean), name(variance)
        if mean is None or variance is None or training:  # it takes those of the batch
            continue
        norm = Norm(mean, variance, name(weight), name(bias), eps)
        if str(layer.target).startswith(("aten.conv", "aten.linear")) and len(layer.users) == 1:
            kernel, shift = layer.args[1], layer.args[2] if len(layer.args) > 2 else None
            groups = layer.args[6] if len(layer.args) > 6 else 1
            transposed = groups if "transpose" in str(layer.target) else None
            norm = replace(norm, layer=name(kernel), layer_bias=name(shift), transposed=transposed)
        found.append(norm)
    return found


def _calls(network: nn.Module, program: ExportedProgram) -> tuple[Call, ...]:
    """Group the program's operations by the leaf module that they belong to.

    Without those that depend on no image, as position biases: an exporter may compute them beforehand.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    stored = {*program.graph_signature.inputs_to_parameters, *program.graph_signature.inputs_to_buffers}
    moving = set(program.graph_signature.user_inputs)  # names of what depends on the images
    symbol = next(str(node.meta["val"].shape[0]) for node in program.graph.nodes if node.name in moving)
    calls: list[Call] = []
    last = None
    for node in program.graph.nodes:
        if any(each.name in moving for each in node.all_input_nodes):
            moving.add(node.name)
        stack = list(node.meta.get("nn_module_stack", {}).values())
        if node.name not in moving or node.op != "call_function" or not stack:
            continue
        if node.target is operator.getitem and node.args[1]:
            continue
        key = stack[-1][0]  # `network.3`, and where it is called again, `network.3@1`
        module = modules.get(key.partition("@")[0])
        after = _shape(node.meta.get("val"), symbol)
        if module is None or list(module.children()):
            last = None
        elif key == last and after is not None:
            calls[-1] = Call(calls[-1].name, module, calls[-1].before, after)
        elif after is not None:
            given = (_shape(n.meta.get("val"), symbol) for n in node.all_input_nodes if n.name not in stored)
            calls.append(Call(key.partition("@")[0], module, next(filter(None, given), ()), after))
            last = key
    return tuple(calls)


def _named(network: nn.Module) -> list[tuple[str, Tensor]]:
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    return [(name, tensor.detach()) for name, tensor in named]


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().float().numpy()
    return array


def _shape(value: Any, symbol: str) -> Shape | None:
    tensor = next((part for part in tree_iter(value) if isinstance(part, Tensor)), None)
    if tensor is None:
        return None
    return tuple(size if isinstance(size, int) else _in_batch(size, symbol) for size in tensor.shape)


def _in_batch(size: Any, symbol: str) -> int | str:
    """Return a symbolic size as it is written of a file's, whose sizes are known for two numbers of images."""
    free = size.node.expr.free_symbols
    numbers = [size.node.expr.subs(dict.fromkeys(free, count)) for count in BATCHES]
    if [str(each) for each in free] != [symbol] or not all(number.is_Integer for number in numbers):
        return str(size).replace(symbol, BATCH)
    return _expression(int(numbers[0]), int(numbers[1]))


def _reason(message: str) -> str:
    """Return why PyTorch refuses, in a sentence."""
    if guard := re.search(r"generated guard (.*)", message):
        return f"the code asks for {_NUMBER_OF_IMAGES.sub(BATCH, guard[1])}"
    if fixed := re.search(r"specialized it to be a constant \((\d+)\)", message):
        return f"the code takes the number of images for a constant, as {fixed[1]} when it was followed with so many"
    return f"PyTorch cannot follow the code: {' '.join(message.split())[:300]}"


def merged(one: Shape, other: Shape) -> Shape:
    """Return one shape for those of `BATCHES` images: what grows with the batch becomes an expression in it."""
    if len(one) != len(other):
        return ("?",)
    return tuple(_expression(a, b) for a, b in zip(one, other, strict=True))


def _expression(one: int | str, other: int | str) -> int | str:
    if one == other:
        return one
    factor = int(one) // BATCHES[0]
    if (one, other) != tuple(factor * count for count in BATCHES):
        return "?"
    return BATCH if factor == 1 else f"{factor}*{BATCH}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what PyTorch prints on the way: its refusal is an exception, and is reported."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
