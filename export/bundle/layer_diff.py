"""What quantisation changed in a file, layer by layer: its weights and the values behind them, beside another file."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from export.convert.graph import with_outputs
from export.convert.quantize import dequantized
from runtime.model.spec import INPUT
from runtime.session.session import open_session

_SUFFIXES = ("_DequantizeLinear_Output", "_fp32")  # onnxruntime's and this exporter's, behind a weight's name
PICTURES = 32


def layer_differences(one: onnx.ModelProto, other: onnx.ModelProto, images: npt.NDArray[Any]) -> list[str]:
    """Say of each weight that one of two files holds in integers how far it is from the other's, and of each value that
    both compute how far apart these are; [] where neither holds integers.
    """
    quantized = [{name for name, _ in _multiplied_out(model)} for model in (one, other)]
    if not any(quantized):
        return []
    weights = [_fold_batch_norms(model, _floats(model) | dict(_multiplied_out(model))) for model in (one, other)]
    found = []
    for name in (name for name in weights[0] if name in weights[1] and name in quantized[0] | quantized[1]):
        before, after = weights[0][name], weights[1][name]
        if before.shape == after.T.shape and before.shape != after.shape:
            after = after.T
        if before.shape == after.shape:
            found.append(f"{name} {list(before.shape)}: {_moved(before, after)}")
    return found + _values(one, other, images)


def _multiplied_out(model: onnx.ModelProto) -> list[tuple[str, npt.NDArray[Any]]]:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and set(n.input) <= stored.keys()]
    return [(_plain_name(node.output[0]), dequantized(node, stored)) for node in nodes]


def _plain_name(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _floats(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: array.astype(np.float32) for name, array in arrays.items() if array.dtype.kind == "f"}


def _batch_norms(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Return each convolution that a batch norm follows, with it: a file in integers has the two as one."""
    convolutions = {node.output[0]: node for node in model.graph.node if node.op_type == "Conv"}
    norms = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    return [(convolutions[norm.input[0]], norm) for norm in norms if norm.input[0] in convolutions]


def _fold_batch_norms(model: onnx.ModelProto, weights: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the weights with each batch norm multiplied into the convolution in front of it."""
    folded = dict(weights)
    for convolution, norm in _batch_norms(model):
        kernel, *bias = (_plain_name(name) for name in convolution.input[1:])
        statistics = [_plain_name(name) for name in norm.input[1:]]
        if not {kernel, *bias, *statistics} <= weights.keys():
            continue
        epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
        scale, shift, mean, variance = (weights[name].astype(np.float64) for name in statistics)
        scale = scale / np.sqrt(variance + epsilon)
        folded[kernel] = (weights[kernel] * scale.reshape(-1, *[1] * (weights[kernel].ndim - 1))).astype(np.float32)
        for name in bias:
            folded[name] = ((weights[name] - mean) * scale + shift).astype(np.float32)
    return folded


def _values(one: onnx.ModelProto, other: onnx.ModelProto, images: npt.NDArray[Any]) -> list[str]:
    nodes = {name: node for node in other.graph.node for name in node.output}
    shared = [
        name
        for node in one.graph.node
        for name in node.output
        if name in nodes and nodes[name].op_type == node.op_type and node.op_type not in ("DequantizeLinear", "Cast")
    ]
    try:
        before, after = (_run(model, shared, images[:PICTURES]) for model in (one, other))
    except Exception as error:  # one of them is not of the contract, which the rest of the comparison shows
        return [f"values cannot be compared: {' '.join(str(error).split())[:200]}"]
    return [
        f"{nodes[name].name or name}: {_moved(a, b)}"
        for name, a, b in zip(shared, before, after, strict=True)
        if a.dtype == np.float32 and a.shape == b.shape and not np.array_equal(a, b)
    ]


def _run(model: onnx.ModelProto, names: list[str], images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return the values of those names; of a convolution, what the batch norm behind it makes of it."""
    normalized = {convolution.output[0]: norm.output[0] for convolution, norm in _batch_norms(model)}
    names = [normalized.get(name, name) for name in names]
    session = open_session(with_outputs(model, names).SerializeToString(), "cpu", what="the file").session
    found: list[npt.NDArray[Any]] = session.run(names, {INPUT: images}) if names else []
    return found


def _moved(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> str:
    error, size = after.astype(np.float64) - before, float(np.sqrt(np.square(before.astype(np.float64)).mean()))
    relative = float(np.sqrt(np.square(error).mean())) / size if size else float("inf")
    return f"differs by {relative:.2%} of its size (root mean square), by up to {np.abs(error).max():.3g}"
