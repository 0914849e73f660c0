"""The references of a graph: a network in float64, one that rounds to float16, and one whose sums are as inexact as
those of any float32 kernel.

All hold for any network, whatever its code asks for: PyTorch is stopped at every operation.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map


class _EverythingInDouble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns every request for float32, and every float32 result, to float64.

    `module.double()` alone reaches parameters and buffers; an `images.float()` inside a forward would bring the
    reference back to the precision that it is there to judge.
    """

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        return tree_map(_doubled, function(*args, **asked))


def _doubled(value: Any) -> Any:
    return value.double() if _is_float32(value) else value


class InDouble:
    """Calls a copy of a deployed network in float64: the file's images -> logits: float64 (N, K)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).double().eval()

    def __call__(self, images: Tensor) -> Tensor:
        with _EverythingInDouble():  # type: ignore[no-untyped-call]
            logits: Tensor = self.network(_doubled(images))
        return logits


class _EveryResult(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Changes every float32 result, in place where the operation writes into its argument.

    Args:
        change: a result, how many terms the operation adds to each of its numbers, see `_terms`, and whether partial
            sums may be larger than the result, see `_may_cancel` -> another result.
    """

    def __init__(self, change: Callable[[Tensor, float, bool], Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._change = change

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self._computed(function, args, kwargs or {})
        terms = _terms(function, args, result)
        cancels = _may_cancel(function, args, terms)
        if not function._schema.is_mutable:
            return tree_map(lambda value: self._change(value, terms, cancels) if _is_float32(value) else value, result)
        for value in filter(_is_float32, tree_iter(result)):
            value.copy_(self._change(value, terms, cancels))
        return result

    def _computed(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return function(*args, **kwargs)


def in_half(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Call a deployed network as float16 would compute it: the file's images -> logits: float32 (N, K).

    Every float32 result is rounded to the nearest float16: what an operation writes is rounded, its sums are not. This
    is the float16 of tensor cores, and of onnxruntime on a CPU: products are added in float32 and stored in float16.
    Computing in float32 gives the same on any machine, and at the speed of float32.

    The weights are taken as they are; those of a float16 file have been rounded, see `Precision.rounded`.
    """

    def rounded(value: Tensor, *_: Any) -> Tensor:
        return value.half().float()

    def call(images: Tensor) -> Tensor:
        with _EveryResult(rounded):
            logits: Tensor = network(rounded(images) if _is_float32(images) else images)
        return logits

    return call


def perturbed(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Call a deployed network in float32, each sum as inexact as any kernel's: images -> logits: float32 (N, K).

    Every float32 result is moved at random by the error of a sum of its n terms in any order: u sqrt(n) times its size.
    Rounding errors of n additions grow as sqrt(n) where they are independent (Higham and Mary, A new approach to
    probabilistic rounding error analysis, 2019). The size is that of the number itself and, where terms may cancel, of
    the others beside it: a result that is small by cancellation has partial sums that are not. Where all results are
    whole numbers, they stay: the code may ask which of them are 0, as for the masks of shifted windows (Swin).

    The errors of a sum over positions are not independent where these are alike, as in a flat picture: they grow with
    n, see `_over_positions`. A normalization subtracts such a mean from numbers that may hardly differ from it.
    """

    def call(images: Tensor) -> Tensor:
        with _InexactSums():
            logits: Tensor = network(images)
        return logits

    return call


class _InexactSums(_EveryResult):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__(self._moved)
        self._random = torch.Generator().manual_seed(0)

    def _moved(self, value: Tensor, terms: float, cancels: bool) -> Tensor:
        if terms == 0 or torch.equal(value, value.round()):  # a mask or a count is exact in any order
            return value
        size = value
        if cancels or _has_negative(value):
            size = torch.sqrt(value * value + torch.mean(value * value))
        return value + size * self._noise(value, terms)

    def _noise(self, like: Tensor, terms: float) -> Tensor:
        return torch.rand(like.shape, generator=self._random).sub_(0.5).mul_(math.sqrt(12 * terms) * _UNIT)

    def _computed(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Move what a normalization subtracts: the same in all numbers of a group, divided by their deviation."""
        result = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if "norm" not in name or not isinstance(result, tuple) or len(result) != 3 or not result[1].numel():
            return result
        normalized, mean, inverse = result
        terms = _over_positions(normalized.numel() / mean.numel())
        shift = mean.abs() * inverse * self._noise(mean, terms)
        if "layer_norm" in name:
            weight = args[2]
        else:  # the mean of a group norm is (N, groups), that of statistics by channel (C,)
            channels = normalized.shape[1]
            by_channel = (-1, channels, *[1] * (normalized.dim() - 2))
            shift = shift.repeat_interleave(channels // shift.shape[-1], dim=-1).reshape(by_channel)
            weight = None if args[1] is None else args[1].reshape(by_channel)
        return normalized + (shift if weight is None else shift * weight), mean, inverse


# Operators that compute nothing: they move, choose or compare numbers.
_EXACT = {
    "abs", "alias", "amax", "amin", "arange", "cat", "channel_shuffle", "chunk", "clamp", "clone", "constant_pad_nd",
    "contiguous", "copy", "detach", "dropout", "empty", "expand", "flatten", "flip", "full", "gather", "hardtanh",
    "index", "index_select", "lift_fresh", "masked_fill", "max", "maximum", "min", "minimum", "narrow", "neg", "ones",
    "ones_like", "pad", "permute", "pixel_shuffle", "relu", "repeat", "reshape", "roll", "select", "slice", "split",
    "squeeze", "stack", "t", "threshold", "to", "transpose", "unbind", "unflatten", "unsqueeze", "view", "where",
    "zeros", "zeros_like",
}  # fmt: skip
_UNIT = 2.0**-24  # half a unit in the last place of float32
_POINTWISE = 4  # roundings of one operation on single numbers: engines approximate exp, tanh and erf by polynomials


_PARTIAL_SUMS = 16  # in which engines add up many numbers: two vectors of eight


def _over_positions(terms: float) -> float:
    """Return how many independent roundings err as much as a sum of equal terms: each of its parts rounds alike."""
    return max(terms, (terms / _PARTIAL_SUMS) ** 2)


def _may_cancel(function: Any, args: Any, terms: float) -> bool:
    """Return whether an operation may add terms of both signs: those of a variance or a softmax have one."""
    name = function.overloadpacket.__name__
    if terms <= _POINTWISE or any(word in name for word in ("var", "std", "norm", "softmax")):
        return False
    return any(_is_float32(value) and _has_negative(value) for value in tree_iter(args))


def _has_negative(value: Tensor) -> bool:
    return bool((value < 0).any())


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _terms(function: Any, args: Any, result: Any) -> float:
    """Return how many terms an operator adds to each number of its result; 0 where it computes none."""
    name = function.overloadpacket.__name__.strip("_")
    given = [value for value in tree_iter(args) if isinstance(value, Tensor) and value.is_floating_point()]
    made = next((value for value in tree_iter(result) if _is_float32(value)), None)
    if made is None or not given or not made.numel() or name in _EXACT or "max_pool" in name or "view" in name:
        return 0
    first, *others = given
    kernels = [value for value in others if value.dim() >= 2]
    if "conv" in name and kernels:
        return float(kernels[0].numel() / min(kernels[0].shape[:2]) if "transpose" in name else kernels[0][0].numel())
    if name in ("mm", "bmm", "linear", "matmul", "mv", "dot"):
        return float(first.shape[-1])
    if name in ("addmm", "baddbmm", "addmv"):
        return float(others[0].shape[-1] + 1)
    if "scaled_dot_product" in name or "attention" in name:
        return int(first.shape[-1] + max(value.shape[-2] for value in given if value.dim() >= 2))
    if any(word in name for word in ("lstm", "gru", "rnn")):
        return max((value.shape[-1] for value in given if value.dim() >= 2), default=1) * 2
    if "batch_norm" in name:
        return _POINTWISE
    if "layer_norm" in name or "rms_norm" in name:
        sizes = next((value for value in args if isinstance(value, list | tuple)), [first.shape[-1]])
        return math.prod(sizes) + _POINTWISE
    if "group_norm" in name:
        return float(first[0].numel() / max(1, args[6] if len(args) > 6 else 1) + _POINTWISE)
    if "softmax" in name:
        return float(max(first.shape[1:], default=1) + _POINTWISE)
    return _over_positions(max(1.0, first.numel() / made.numel())) * _POINTWISE
