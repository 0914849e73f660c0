"""Fold batch norms into the layers in front of them, so that the weights to be quantised are known beforehand."""

import copy

import torch
from torch import nn

from export.analysis.exported_program import Norm, trace
from runtime.model.spec import FASHION_MNIST, InputSpec


def fold_batch_norms(network: nn.Module, input: InputSpec = FASHION_MNIST) -> nn.Module:
    """Return a copy in which each batch norm that follows a convolution or linear layer is part of it.

    The layer keeps its name and gets a bias; the batch norm becomes an identity. One that another layer shares, or that
    is no module of its own, stays as it is. The same network gives the same numbers, on any machine: each is computed
    in float64 by operations that are rounded correctly, and rounded once to float32.
    """
    twin = copy.deepcopy(network).eval()
    modules = dict(twin.named_modules(remove_duplicate=False))
    norms = trace(twin, input).norms
    layers = [norm.layer for norm in norms]
    for norm in norms:
        layer = modules.get((norm.layer or "").removesuffix(".weight")) if norm.layer else None
        is_own = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) and layers.count(norm.layer) == 1
        if not is_own or not isinstance(modules.get(norm.name), nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            continue
        assert layer is not None
        _fold(twin, norm, layer)
        owner, _, name = norm.name.rpartition(".")
        setattr(twin.get_submodule(owner), name, nn.Identity())
    return twin


def _fold(network: nn.Module, norm: Norm, layer: nn.Module) -> None:
    tensors = {name: tensor.detach().double() for name, tensor in network.state_dict().items()}
    mean, variance = tensors[norm.mean], tensors[norm.variance]
    scale = 1 / torch.sqrt(variance + norm.eps)
    if norm.weight:
        scale = scale * tensors[norm.weight]
    weight, bias = tensors[str(norm.layer)], tensors[norm.layer_bias] if norm.layer_bias else torch.zeros_like(mean)
    shift = (bias - mean) * scale
    if norm.bias:
        shift = shift + tensors[norm.bias]
    layer.weight = nn.Parameter((weight * scale.reshape(-1, *[1] * (weight.dim() - 1))).float(), requires_grad=False)
    layer.bias = nn.Parameter(shift.float(), requires_grad=False)
