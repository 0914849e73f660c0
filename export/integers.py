"""Weights as int8 or int4: which ones, with which scales, and what onnxruntime makes of the numbers they multiply.

A weight is `scale * integer`, symmetric around zero: int8 with one scale for each output (row of the matrix, kernel of
the convolution), int4 with one for each block of up to `BLOCK` inputs of an output, as 15 steps for a whole row are too
few.

Scales are rounded to `SCALE_BITS` significant bits. So `scale * integer` is exact in float32: every engine gets the
same weights, whatever its order of operations, and weights rounded once give the same integers and scales again.
A checkpoint can therefore be published in integers too, and the file be recomputed from it bit by bit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from runtime.errors import UsageError

BITS = {"int8": 8, "int4": 4}
BLOCK, SMALLEST_BLOCK = 128, 16  # inputs that share a scale in int4: powers of two, for onnxruntime's kernels
SCALE_BITS = 16  # and 7 of the integer: 23 of float32's 24
DENSE: tuple[type[nn.Module], ...] = (nn.Linear,)
MULTIPLYING: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)  # what computes in int8
_SMALLEST = 2.0**-100  # a scale; smaller weights are zero
# onnxruntime multiplies these weights by int8 numbers (accuracy level 4 of MatMulNBits): one scale per block, or per
# KERNEL_BLOCK inputs if the weight has no blocks.
KERNEL_BLOCK = 32


@dataclass(frozen=True)
class Integers:
    """A weight in integers: `values` int8, of the weight's shape (outputs, ...); `scales` float32 (outputs,) or, where
    `block` inputs share one, (outputs, blocks)."""

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bits: int
    block: int | None = None

    def numbers(self) -> npt.NDArray[np.float32]:
        """Return the weight, float32."""
        rows = self.values.reshape(len(self.values), -1).astype(np.float32)
        scales = self.scales[:, None] if self.block is None else np.repeat(self.scales, self.block, axis=1)
        return (rows * scales).reshape(self.values.shape)


def quantize(weight: npt.NDArray[np.float32], storage: str) -> Integers:
    """Round a weight, (outputs, ...), to the nearest integers of its scales."""
    bits, inputs = BITS[storage], weight[0].size
    limit, block = 2 ** (bits - 1) - 1, block_of(inputs, storage)
    grouped = weight.reshape(len(weight), -1, block or inputs)
    scales = _short(np.abs(grouped).max(axis=2) / limit)
    values = np.clip(np.rint(grouped / scales[:, :, None]), -limit, limit).astype(np.int8).reshape(weight.shape)
    return Integers(values, scales if block else scales[:, 0], bits, block)


def block_of(inputs: int, storage: str) -> int | None:
    """Return how many of so many inputs share a scale: the largest power of two that divides them, as not every engine
    takes a last block that is smaller; None where they all share one."""
    block = min(inputs & -inputs, BLOCK)
    return block if storage == "int4" and block >= SMALLEST_BLOCK else None


def _short(scales: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Round to SCALE_BITS significant bits; 1 where all weights are zero."""
    fraction, exponent = np.frexp(scales.astype(np.float64))
    short = np.ldexp(np.rint(np.ldexp(fraction, SCALE_BITS)), exponent - SCALE_BITS)
    return np.where(scales > 0, np.maximum(short, _SMALLEST), 1).astype(np.float32)


def integers_of(network: nn.Module, storage: str, kinds: tuple[type[nn.Module], ...]) -> dict[str, Integers]:
    """Return the weights of a network's layers of these kinds in integers, by name, but for those that another kind of
    layer reads too.

    Raises:
        UsageError: a weight is not finite.
    """
    fits: dict[int, bool] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            is_weight = isinstance(module, kinds) and parameter is module.weight
            fits[id(parameter)] = fits.get(id(parameter), True) and is_weight
    found = {}
    for name, parameter in network.named_parameters():
        if not fits[id(parameter)]:
            continue
        weight = parameter.detach().cpu().float().numpy()
        if not np.isfinite(weight).all():
            raise UsageError(
                f"{name} holds numbers that are not finite, which no integer stands for: export it as fp32"
            )
        found[name] = quantize(weight, storage)
    return found


class QuantizedInputs:
    """Calls a network as onnxruntime's low-bit kernels compute it: the inputs of linear layers as int8, symmetric, with
    one scale for each block of them; images: uint8 (N, C, H, W) -> logits: float32 (N, K).

    An engine without such kernels rounds less.
    """

    def __init__(self, network: nn.Module, storage: str) -> None:
        self.network, self.storage = network, storage

    def __call__(self, images: Tensor) -> Tensor:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            block = block_of(inputs[0].shape[-1], self.storage) or KERNEL_BLOCK
            return (rounded_in_blocks(inputs[0], block), *inputs[1:])

        layers = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        handles = [layer.register_forward_pre_hook(hook) for layer in layers]
        try:
            logits: Tensor = self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        return logits


def rounded_in_blocks(values: Tensor, block: int) -> Tensor:
    """Round (..., K) to 255 steps between the largest magnitude of each `block` of K and its negative."""
    padded = nn.functional.pad(values, (0, -values.shape[-1] % block))
    grouped = padded.reshape(*padded.shape[:-1], -1, block)
    scales = grouped.abs().amax(-1, keepdim=True) / 127
    rounded = torch.where(scales > 0, torch.round(grouped / scales) * scales, 0).reshape(padded.shape)
    return rounded[..., : values.shape[-1]]
