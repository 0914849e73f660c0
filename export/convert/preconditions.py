"""Check that a network can be exported and verified, and its pictures and labels; raise a clear error if not."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from runtime.errors import ImageError, UsageError
from runtime.model.spec import InputSpec

_WRAPPERS = {"_orig_mod": "torch.compile", "module": "DataParallel"}
_CLOSE = 1e-3  # of a sum of float32 probabilities to 1
# Operators after which a softmax would not be the network's. A log_softmax is none: its softmax is that of its input.
_LAST = {
    "sigmoid": "a sigmoid",
    "hardsigmoid": "a hard sigmoid",
    "softmax": "a softmax",
    "_softmax": "a softmax",
    "log_sigmoid_forward": "a log-sigmoid",
}
_VIEWS = {
    "view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "slice", "select", "clone", "contiguous",
    "alias", "detach", "permute", "transpose", "t", "_to_copy", "to", "expand", "_reshape_alias",
}  # fmt: skip


def require_network(network: Any) -> None:
    """Raise UsageError where a network is no module of plain float32 weights that PyTorch can copy and follow."""
    kind = type(network).__name__
    if isinstance(network, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise UsageError(f"{kind} is TorchScript: give the nn.Module that it was scripted or traced from")
    if not isinstance(network, nn.Module):
        hint = ", and load it with load_state_dict" if isinstance(network, dict) else ""
        raise UsageError(f"the network should be an nn.Module with its weights, not a {kind}: build it{hint}")
    for name, module in network.named_modules():
        home = type(module).__module__
        if home.startswith("torch.") and ".quantized" in home:
            raise UsageError(f"{name or kind} is quantised: give the float32 network that it was made from")
        _require_stored_weights(name or kind, module)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise UsageError(f"{name} has no size yet, as the network has never run: call network(images) once first")
        if tensor.is_meta:
            raise UsageError(f"{name} has no numbers: it is on the meta device; load the weights first")
        if tensor.is_quantized:
            raise UsageError(f"{name} is quantised: give the float32 network that it was made from")
        if tensor.layout != torch.strided:
            raise UsageError(f"{name} is sparse: call .to_dense() on it first")
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(f"{name} is {kind}, and a network is exported from float32: call .float() on it first")


def _require_stored_weights(name: str, module: nn.Module) -> None:
    """Raise UsageError where a weight is computed from others each time: the file would hold neither."""
    if parametrize.is_parametrized(module):
        weight = next(iter(module.parametrizations))  # type: ignore[arg-type]
        raise UsageError(
            f"{name} computes its {weight} anew each time, as weight_norm does: call "
            f"torch.nn.utils.parametrize.remove_parametrizations(module, {weight!r}) on it first"
        )
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            weight, remedy = hook._tensor_name, f"prune.remove(module, {hook._tensor_name!r})"
        elif isinstance(hook, WeightNorm):
            weight, remedy = hook.name, f"remove_weight_norm(module, {hook.name!r})"
        elif isinstance(hook, SpectralNorm):
            weight, remedy = hook.name, f"remove_spectral_norm(module, {hook.name!r})"
        else:
            continue
        raise UsageError(
            f"{name} computes its {weight} anew each time, by a {type(hook).__name__}: call torch.nn.utils.{remedy} "
            "on it first"
        )


def copied(network: nn.Module) -> nn.Module:
    """Return a deep copy of a network, without the wrapper that torch.compile or DataParallel puts around it.

    Raises:
        UsageError: it is no such network, or PyTorch cannot copy it.
    """
    while type(network).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel"):
        network = next(inner for wrapper in _WRAPPERS if (inner := network._modules.get(wrapper)) is not None)
    require_network(network)
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                raise UsageError(
                    f"{name or type(network).__name__} keeps the result of a computation in .{attribute}, which "
                    "PyTorch cannot copy: keep .detach() of it, or delete it first"
                )
    try:
        return copy.deepcopy(network)
    except Exception as error:  # whatever a module's own state may raise
        raise UsageError(
            f"{type(network).__name__} cannot be copied by copy.deepcopy: {' '.join(str(error).split())[:300]}; delete "
            "what it keeps beside its parameters and buffers first"
        ) from error


def require_contract(network: nn.Module, input: InputSpec) -> int:
    """Return K; raise UsageError unless a deployed network maps images to logits.

    Args:
        network: images as `input` says -> logits (N, K); see `export.convert.normalization.deployed`.
    """
    kind = type(network).__name__
    given = "normalised images, float32" if input.mean is not None else f"images, {input.dtype}"
    operators = _Operators()
    try:
        with torch.no_grad(), operators:
            logits = network(torch.from_numpy(input.random(2)))
    except Exception as error:
        raise UsageError(
            f"{kind} should map {given} {(2, *input.shape)}, to logits, but fails: "
            f"{' '.join(str(error).split())[:300]}; if it takes others, say so by input=InputSpec.photo(...)"
        ) from error
    if not isinstance(logits, Tensor):
        raise UsageError(f"{kind} should return logits, one tensor (N, K), but returns a {type(logits).__name__}")
    if logits.ndim != 2 or len(logits) != 2 or logits.dtype != torch.float32:
        found = f"{logits.dtype} {tuple(logits.shape)}".removeprefix("torch.")
        raise UsageError(f"{kind} should map 2 images to logits, float32 (2, K), not {found}")
    if (last := _probabilities(logits, operators.made.get(id(logits), ""))) is not None:
        raise UsageError(
            f"{kind} ends in {last}: its outputs are probabilities already, and the file adds a softmax itself; leave "
            "that layer out, or put torch.nn.Identity() in its place"
        )
    return int(logits.shape[1])


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes by which operator each tensor was made, before it was only viewed or copied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: dict[int, str] = {}  # an address given to another tensor later is noted again

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        first = next((value for value in tree_iter(args) if isinstance(value, Tensor)), None)
        name = function.overloadpacket.__name__.rstrip("_")
        name = self.made.get(id(first), "") if name in _VIEWS else name
        self.made |= {id(value): name for value in tree_iter(result) if isinstance(value, Tensor)}
        return result


def _probabilities(logits: Tensor, operator: str) -> str | None:
    """Say what turned a network's outputs into probabilities, by the last operator or by their values on random images;
    None if nothing did."""
    if operator in _LAST:
        return _LAST[operator]
    values = logits.double()
    sums_to_one = (values >= 0).all() and ((values.sum(1) - 1).abs() < _CLOSE).all()
    return "a softmax" if logits.shape[1] > 1 and sums_to_one else None


def require_images(images: Any, input: InputSpec, argument: str = "images") -> npt.NDArray[Any]:
    """Return `images`, contiguous; raise UsageError unless they are as `input` says. Messages name the argument."""
    if not isinstance(input, InputSpec):
        raise UsageError(f"input: expected an InputSpec, such as InputSpec.photo(224), found {type(input).__name__}")
    images = images.numpy() if isinstance(images, Tensor) and images.device.type == "cpu" else images
    try:
        checked = input.checked(images)
    except ImageError as error:
        raise UsageError(f"{argument}: {error}; they are the input of the file, before any normalisation") from error
    if len(checked) == 0:
        raise UsageError(f"{argument}: there should be one or more, and there are none")
    return checked


def require_max_drop(max_drop: float) -> None:
    """Raise UsageError unless this is a share of the images, from 0 to 1."""
    if not 0 <= max_drop <= 1:
        raise UsageError(f"max_drop: expected a share of the images from 0 to 1, found {max_drop}")


def require_labels(labels: Any, count: int, classes: int) -> npt.NDArray[Any]:
    """Return `labels` as int (N,); raise UsageError unless there is a class from 0 to K - 1 for each picture."""
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise UsageError(
            f"labels should be whole numbers (N,), a class for each image, not {found.dtype} {found.shape}"
        )
    if len(found) != count:
        raise UsageError(f"labels should be as many as images, but there are {len(found)} and {count} images")
    if found.min() < 0 or found.max() >= classes:
        raise UsageError(
            f"labels should be from 0 to {classes - 1}, as the network has {classes} classes, but are from "
            f"{found.min()} to {found.max()}"
        )
    return found
