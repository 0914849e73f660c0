"""Convert an `nn.Module` to ONNX bytes that keep the contract of `runtime.model.metadata`.

PyTorch's exporter does the translation. What it leaves is then made fit to travel: one file, no path of this machine,
and names that say which layer a node came from.
"""

import ast
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from export.analysis.exported_program import NotTraceable, export_program, quiet
from export.analysis.folding import fold_batch_norms
from export.convert.calibrate import Pixels, quantize_statically, value_ranges
from export.convert.float16 import compute_in_half, store_in_half
from export.convert.graph import drop_unused, replace_nodes
from export.convert.normalization import deployed
from export.convert.preconditions import require_contract
from export.convert.quantize import LOWEST_OPSET, store_in_integers
from export.precision import Precision
from runtime.errors import FashionZooError, UsageError
from runtime.model.metadata import CONFIDENCE, FORMAT, LOGITS, PROBABILITIES, encode_metadata
from runtime.model.spec import BATCH, FASHION_MNIST, INPUT, InputSpec

OPSET = 20  # torch.onnx.export's own default
OPSETS = range(18, 24)  # those that it writes by itself
_SCOPES = "pkg.torch.onnx.name_scopes"
_WRAPPED = "classifier"
_NO_SCOPE = "_empty_nn_module_stack_from_metadata_hook"  # what the exporter calls it if it has lost the module
_BARRIER = "fashion_zoo::Barrier"  # stands in a graph only while the exporter works on it


class NotTranslatable(FashionZooError):
    """PyTorch's exporter cannot follow the network's code."""


class _WithProbabilities(nn.Module):
    """Adds the second output of the contract to a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.classifier = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(image)
        return logits, logits.softmax(1)


def default_opset(storage: str) -> int:
    """Return the opset that a file with this storage states where none is asked for."""
    return max(OPSET, LOWEST_OPSET.get(storage, OPSETS.start))


def build_graph(
    network: nn.Module,
    metadata: dict[str, Any],
    opset: int | None = None,
    *,
    input: InputSpec = FASHION_MNIST,
    calibration: Pixels | None = None,
) -> bytes:
    """Return the unverified file of a network, in the precision that the metadata declare; see `translate`.

    The same network, metadata and library versions give the same bytes.
    """
    declared = metadata.get(CONFIDENCE) or {}
    temperature = declared.get("temperature", 1.0)
    model = translate(network, Precision.of(metadata), opset, input, calibration, temperature)
    return with_metadata(model, metadata, input)


def with_metadata(model: onnx.ModelProto, metadata: dict[str, Any], input: InputSpec = FASHION_MNIST) -> bytes:
    """Return a translated network as bytes that hold this description, see `Description.metadata`."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, encode_metadata(metadata | {"input": input.as_dict()}))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def translate(
    network: nn.Module,
    precision: Precision,
    opset: int | None = None,
    input: InputSpec = FASHION_MNIST,
    calibration: Pixels | None = None,
    temperature: float = 1.0,
) -> onnx.ModelProto:
    """Translate a network, in this precision and without a description.

    The arguments are those of `export.export_network`, with its `dtype` and `storage` in `precision`; the network is
    left as it was, in whatever mode. Probabilities are softmax(logits / temperature), float32 in every precision.

    Raises:
        UsageError: the network does not keep the contract, a weight is beyond the range of the precision asked for,
            or the exporter does not write this opset.
        NotTranslatable: PyTorch's exporter cannot follow its code.
    """
    lowest = LOWEST_OPSET.get(precision.storage, OPSETS.start)
    opset = default_opset(precision.storage) if opset is None else opset
    if opset not in OPSETS:
        raise UsageError(
            f"the opset should be from {OPSETS.start} to {OPSETS.stop - 1}, as PyTorch's exporter writes, not {opset}; "
            f"where none is asked for, the file states {OPSET}"
        )
    if opset < lowest:
        raise UsageError(f"{precision.storage} needs opset {lowest} or later, not {opset}")
    twin = deployed(network, input)
    require_contract(twin, input)
    if precision.dtype == "int8":
        twin = fold_batch_norms(twin, input)
    wrapped = _WithProbabilities(precision.rounded(twin)).eval()
    if precision.rounds and precision.dtype != "int8":
        _keep_batch_norms(wrapped)
    try:
        with quiet():
            program = torch.onnx.export(
                export_program(wrapped, input),
                dynamic_shapes=({0: BATCH},),
                input_names=[INPUT],
                output_names=[LOGITS, PROBABILITIES],
                opset_version=opset,
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except (NotTraceable, torch.onnx.OnnxExporterError) as error:
        cause = error if isinstance(error, NotTraceable) else error.__cause__ or error
        raise NotTranslatable(
            f"PyTorch's exporter cannot translate {type(network).__name__}: {' '.join(str(cause).split())[:300]}"
        ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _drop_barriers(model.graph)
    _name_nodes(model.graph)
    _name_weights(model.graph)
    _fix_resize_scales(model.graph)
    drop_unused(model.graph)
    _strip(model)
    if precision.dtype == "fp16":
        compute_in_half(model)
    elif precision.rounds and precision.dtype == "fp32":
        store_in_integers(model, precision.integers(twin))
        store_in_half(model)
    if temperature != 1:
        _divide_by_temperature(model.graph, temperature)
    del model.opset_import[:]  # the barriers' domain too
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))  # the oldest loaders read it
    if precision.dtype == "int8":
        if calibration is None:
            raise UsageError("int8 needs images to calibrate its activations on, as they were in training: none given")
        model = quantize_statically(
            model, value_ranges(model, calibration), [w.numbers() for w in precision.integers(twin).values()]
        )
    return model


def _keep_batch_norms(network: nn.Module) -> None:
    """Keep the exporter from folding batch norms into the layers in front of them.

    A fold of rounded weights is no longer rounded, and rounding the fold would give another network than the one whose
    weights were rounded. Runtimes fold by themselves when they load.
    """

    def barrier(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        (value,) = (*inputs, *keywords.values())
        passed = torch.onnx.ops.symbolic(_BARRIER, (value,), dtype=value.dtype, shape=value.shape, version=1)
        return (passed,), {}

    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_pre_hook(barrier, with_kwargs=True)


def _drop_barriers(graph: onnx.GraphProto) -> None:
    domain, _, operator = _BARRIER.partition("::")
    passed = {n.output[0]: n.input[0] for n in graph.node if (n.domain, n.op_type) == (domain, operator)}
    kept = [node for node in graph.node if node.output[0] not in passed]
    for node in kept:
        node.input[:] = [passed.get(name, name) for name in node.input]
    replace_nodes(graph, kept)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Name every node after the module it came from: `network.0/Conv`. The checks read these names."""
    used: dict[str, int] = {}
    for node in graph.node:
        scopes = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), "['']")
        modules = ast.literal_eval(scopes)[:-1]  # the last scope is the operator's own
        module = modules[-1] if modules and modules[-1] != _NO_SCOPE else ""
        name = f"{module.removeprefix(_WRAPPED).removeprefix('.')}/{node.op_type}"
        used[name] = used.get(name, 0) + 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"


def _name_weights(graph: onnx.GraphProto) -> None:
    """Give initializers the names that the checkpoint has: without the wrapper's prefix, unless a value has them."""
    taken = {info.name for info in graph.input} | {name for node in graph.node for name in node.output}
    taken |= {tensor.name for tensor in graph.initializer if not tensor.name.startswith(f"{_WRAPPED}.")}
    plain = {tensor.name: tensor.name.removeprefix(f"{_WRAPPED}.") for tensor in graph.initializer}
    plain = {name: name if new in taken else new for name, new in plain.items()}
    for tensor in graph.initializer:
        tensor.name = plain[tensor.name]
    for node in graph.node:
        node.input[:] = [plain.get(name, name) for name in node.input]


def _fix_resize_scales(graph: onnx.GraphProto) -> None:
    """Replace the sizes that the exporter computes at run time, from Shape and Concat, by constant scales.

    Shape arithmetic lands on the CPU, stops CUDA graphs, and one engine refuses it; the input's size is fixed, so
    the scales are too.
    """
    sides = {info.name: _sides(info) for info in [*graph.value_info, *graph.input, *graph.output]}
    for node in graph.node:
        if node.op_type != "Resize":
            continue
        after, before = sides.get(node.output[0], []), sides.get(node.input[0], [])
        if len(after) != 2 or len(before) != 2 or 0 in (*after, *before):  # not known, or not of pictures
            continue
        sizes = zip(after, before, strict=True)
        scales = [1.0, 1.0, *(_scale(old, new) for new, old in sizes)]
        name = f"{node.name}/scales"
        graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [4], scales))
        node.input[:] = [node.input[0], "", name]


def _divide_by_temperature(graph: onnx.GraphProto, temperature: float) -> None:
    """Put a division between the logits and the softmax, which both are float32 in every precision."""
    (position,) = (i for i, node in enumerate(graph.node) if list(node.output) == [PROBABILITIES])
    classes = next(info for info in graph.output if info.name == LOGITS).type.tensor_type.shape
    scaled, constant = f"scaled_{LOGITS}", "temperature"
    graph.initializer.append(onnx.helper.make_tensor(constant, onnx.TensorProto.FLOAT, [], [temperature]))
    sizes = [dim.dim_param or dim.dim_value for dim in classes.dim]
    graph.value_info.append(onnx.helper.make_tensor_value_info(scaled, onnx.TensorProto.FLOAT, sizes))
    graph.node[position].input[:] = [scaled]
    graph.node.insert(position, onnx.helper.make_node("Div", [LOGITS, constant], [scaled], name=f"{constant}/Div"))


def _strip(model: onnx.ModelProto) -> None:
    """Remove what only the exporter needs: stack traces with paths of this machine, notes, types of constants."""
    graph = model.graph
    made = {name for node in graph.node for name in node.output} - {output.name for output in graph.output}
    shapes = [info for info in graph.value_info if info.name in made]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
    del graph.metadata_props[:]
    graph.name = FORMAT.replace(" ", "_")
    for part in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""


def _scale(old: int, new: int) -> float:
    """Return the factor by which float32 makes `new` of `old`, once the product is rounded down."""
    scale = np.float32(new / old)
    return float(scale if int(np.float32(old) * scale) == new else np.nextafter(scale, np.float32(np.inf)))


def _sides(info: onnx.ValueInfoProto) -> list[int]:
    """Return height and width of (N, C, H, W)."""
    return [dim.dim_value for dim in info.type.tensor_type.shape.dim[2:]]
