"""Check that a network can be exported and verified, and raise a clear error if not."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from runtime.errors import UsageError


def require_float32(network: nn.Module) -> None:
    """Raise UsageError where a parameter or buffer is of another float type: to round is the export's part."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(f"{name} is {kind}, and a network is exported from float32: call .float() on it first")


def require_stored_weights(network: nn.Module) -> None:
    """Raise UsageError where a weight is computed from others each time: the file would hold neither."""
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module):
            (weight, *_) = module.parametrizations
            raise UsageError(
                f"{name or type(module).__name__} computes its {weight} anew each time, as weight_norm does: call "
                f"torch.nn.utils.parametrize.remove_parametrizations(module, {weight!r}) on it first"
            )


def require_contract(network: nn.Module, example: Tensor) -> None:
    """Raise UsageError unless the network maps pictures to logits and holds no floats but float32."""
    kind = type(network).__name__
    require_float32(network)
    require_stored_weights(network)
    try:
        with torch.no_grad():
            logits = copy.deepcopy(network).to("cpu").eval()(example)
    except Exception as error:
        raise UsageError(
            f"{kind} should map images, uint8 {tuple(example.shape)}, to logits, but fails: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    if not isinstance(logits, Tensor):
        raise UsageError(f"{kind} should return logits, one tensor (N, K), but returns a {type(logits).__name__}")
    if logits.ndim != 2 or len(logits) != len(example) or logits.dtype != torch.float32:
        found = f"{logits.dtype} {tuple(logits.shape)}".removeprefix("torch.")
        raise UsageError(f"{kind} should map {len(example)} images to logits, float32 ({len(example)}, K), not {found}")
