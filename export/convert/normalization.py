"""The network as the file holds it: a copy whose input is that of an `InputSpec`, with the normalisation in front."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from export.convert.preconditions import copied
from runtime.model.spec import FASHION_MNIST, InputSpec


def deployed(network: nn.Module, input: InputSpec = FASHION_MNIST) -> nn.Module:
    """Return a copy of a network, on the CPU and in evaluation mode, that takes images as `input` says.

    With a mean and a std in the spec, a hook in front of its forward normalises as torchvision's preset does: float32,
    divided by the range, minus the mean, divided by the std. A hook leaves the names of the modules and parameters as
    they are in the user's checkpoint. The numbers are buffers of the copy: `.double()` and a deep copy include them.

    Raises:
        UsageError: PyTorch cannot copy it; the sentence says why and what to do.
    """
    twin = copied(network).to("cpu").eval()
    if input.mean is None or input.std is None:
        return twin
    buffers: dict[str, str] = {}
    for role, values in (("mean", input.mean), ("std", input.std)):
        if any(value != (role == "std") for value in values):  # else subtracting 0, or dividing by 1
            name = f"input_{role}"
            while hasattr(twin, name):
                name += "_"
            twin.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1))
            buffers[role] = name
    low, high = input.range
    hook = functools.partial(_normalize, low=low, high=high, mean=buffers.get("mean"), std=buffers.get("std"))
    twin.register_forward_pre_hook(hook, prepend=True)
    return twin


def _normalize(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    low: float,
    high: float,
    mean: str | None = None,
    std: str | None = None,
) -> tuple[Any, ...]:
    values = inputs[0].float()
    if low != 0:
        values = values - low
    if high - low != 1:
        values = values / (high - low)
    if mean is not None:
        values = values - network.get_buffer(mean)
    if std is not None:
        values = values / network.get_buffer(std)
    return (values,)
