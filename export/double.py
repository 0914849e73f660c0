"""A network in float64, even where its code asks for float32: what everything else is measured against."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


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


class InDouble:
    """Calls a copy of a network in float64: images: uint8 (N, 1, 28, 28) -> logits: float64 (N, K)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).double().eval()

    def __call__(self, images: Tensor) -> Tensor:
        with _EverythingInDouble():  # type: ignore[no-untyped-call]
            logits: Tensor = self.network(images)
        return logits
