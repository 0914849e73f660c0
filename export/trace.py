"""The shapes that flow through a network, without computing them: the batch is a symbol, and stays one or does not.

`torch.export` leads tensors without numbers ("fake tensors") through the network's own code, and proves of every size
that it holds for any number of images; where it cannot, it says which line of reasoning asks for a certain number.
"""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from runtime import contract

Shape = tuple[int | str, ...]  # a str is an expression in `batch`
_EXAMPLE = 5  # images; any number above 1 stands for all
_SIZES = (3, 7)  # images, where real tensors have to do; neither is the example, to which code may have been fitted
_NUMBER_OF_IMAGES = re.compile(r"L\['\w+'\]\.size\(\)\[0\]")  # as the tracer writes it
_NOISY = ("torch.fx.experimental.symbolic_shapes", "torch.export", "torch._export")


@dataclass(frozen=True)
class Call:
    """One call of a leaf module, and the shapes of its first argument and result; `name` is '' for a network without
    any module in it."""

    name: str
    module: nn.Module
    before: Shape
    after: Shape


@dataclass(frozen=True)
class Trace:
    """The calls of a network's leaf modules, in order.

    Attributes:
        by: what was led through the network, in words.
        problem: why this does not hold for any number of images, a sentence; None if it does.
    """

    calls: tuple[Call, ...]
    by: str
    problem: str | None


def trace(network: nn.Module) -> Trace:
    """Follow `images: uint8 (batch, 1, 28, 28)` through a network in evaluation mode, on the CPU.

    A network whose code looks at values, which fake tensors have not, or takes the size of a batch for a plain number,
    as `len(images)` gives it, is run on real ones instead, in two sizes.
    """
    calls: list[Call] = []
    images = _images(_EXAMPLE)
    try:
        with _watching(network, calls), _quiet(), torch.no_grad():
            torch.export.export(
                network, (images,), dynamic_shapes=({0: torch.export.Dim(contract.BATCH)},), strict=False
            )
    except Exception as error:  # the tracer's own errors share no base class
        if guard := re.search(r"generated guard (.*)", str(error)):
            asked = _NUMBER_OF_IMAGES.sub(contract.BATCH, guard[1])
            return Trace(tuple(calls), "fake tensors", f"the code asks for {asked}")
        return _by_real_tensors(network, error)
    return Trace(tuple(calls), "fake tensors", None)


def _by_real_tensors(network: nn.Module, why: Exception) -> Trace:
    by = f"real tensors, since fake ones cannot follow the code ({type(why).__name__})"
    runs: list[list[Call]] = []
    for size in _SIZES:
        calls: list[Call] = []
        with _watching(network, calls), torch.no_grad():
            try:
                network(_images(size))
            except Exception as error:  # whatever a network may raise
                problem = f"it fails on {size} images: {' '.join(str(error).split())}"
                return Trace(tuple(calls), by, problem)
        runs.append(calls)
    if [call.name for call in runs[0]] != [call.name for call in runs[1]]:
        return Trace(tuple(runs[0]), by, f"{_SIZES[0]} images take another way through it than {_SIZES[1]}")
    calls = [
        Call(one.name, one.module, merged(one.before, other.before), merged(one.after, other.after))
        for one, other in zip(*runs, strict=True)
    ]
    return Trace(tuple(calls), by, None)


def merged(one: Shape, other: Shape, sizes: tuple[int, int] = _SIZES) -> Shape:
    """Return one shape for two, measured with so many images: what grows with the batch becomes an expression in it."""
    if len(one) != len(other):
        return ("?",)
    return tuple(_expression(a, b, sizes) for a, b in zip(one, other, strict=True))


def _expression(one: int | str, other: int | str, sizes: tuple[int, int]) -> int | str:
    if one == other:
        return one
    factor = int(one) // sizes[0]
    if (one, other) != (factor * sizes[0], factor * sizes[1]):
        return "?"
    return contract.BATCH if factor == 1 else f"{factor}*{contract.BATCH}"


@contextmanager
def _watching(network: nn.Module, calls: list[Call]) -> Iterator[None]:
    """Note every call of a leaf module while the block runs."""
    symbol: list[str] = []

    def entered(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls.clear()  # a tracer may go through it more than once
        symbol[:] = [str(size) for size in inputs[0].shape[:1] if not isinstance(size, int)]

    def shape_of(values: Any) -> Shape | None:
        tensor = next((value for value in tree_iter(values) if isinstance(value, Tensor)), None)
        return None if tensor is None else tuple(_plain(size, symbol) for size in tensor.shape)

    def watcher(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
            before, after = shape_of((inputs, keywords)), shape_of(output)
            if before is not None and after is not None:
                calls.append(Call(name, module, before, after))

        return note

    handles = [network.register_forward_pre_hook(entered)]
    handles += [
        module.register_forward_hook(watcher(name), with_kwargs=True)
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _plain(size: Any, symbol: list[str]) -> int | str:
    if isinstance(size, int):
        return size
    written = str(size)
    return int(written) if written.isdigit() else written.replace(symbol[0], contract.BATCH) if symbol else written


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the tracer prints to itself: its refusal is an exception, and is reported."""
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


def _images(count: int) -> Tensor:
    return torch.zeros(count, 1, contract.SIDE, contract.SIDE, dtype=torch.uint8)
