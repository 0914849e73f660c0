"""The references of a graph: a network in float64, and a network that rounds to float16.

Both hold for any network, whatever its code asks for: PyTorch is stopped at every operation.
"""

import copy
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
    return value.double() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


class _EverythingRounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds every float32 result to the nearest float16: what an operation writes is rounded, its sums are not.

    This is the float16 of tensor cores, and of onnxruntime on a CPU: products are added in float32 and stored in
    float16. Computing in float32 gives the same on any machine, and at the speed of float32.
    """

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function._schema.is_mutable:
            return tree_map(_rounded, result)
        for value in tree_iter(result):
            if isinstance(value, Tensor) and value.dtype == torch.float32:
                value.copy_(_rounded(value))
        return result


def _rounded(value: Any) -> Any:
    return value.half().float() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


class InDouble:
    """Calls a copy of a deployed network in float64: the file's images -> logits: float64 (N, K)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).double().eval()

    def __call__(self, images: Tensor) -> Tensor:
        with _EverythingInDouble():  # type: ignore[no-untyped-call]
            logits: Tensor = self.network(_doubled(images))
        return logits


class InHalf:
    """Calls a deployed network as float16 would compute it: the file's images -> logits: float32 (N, K).

    The weights are taken as they are; those of a float16 file have been rounded, see `Precision.rounded`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, images: Tensor) -> Tensor:
        with _EverythingRounded():  # type: ignore[no-untyped-call]
            logits: Tensor = self.network(_rounded(images))
        return logits
