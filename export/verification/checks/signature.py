"""Check: inputs, outputs and metadata are those of the contract, and say what is known to be true."""

from collections import Counter
from typing import Any

import onnx
import onnx.helper

from export.precision import other_float, precision_in
from export.verification.context import CheckFailed, CheckResult, VerificationContext
from runtime.errors import ModelInvalid
from runtime.model.metadata import TensorSpec, check_signature, is_name
from runtime.model.spec import is_same_json

_DATATYPES: dict[int, str] = {onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.FLOAT: "FP32"}


def signature(context: VerificationContext) -> CheckResult:
    graph = context.model.graph
    try:
        metadata = context.metadata
        check_signature(_specs(graph.input), _specs(graph.output), metadata, "the file")
    except ModelInvalid as error:
        raise CheckFailed(str(error)) from error
    if metadata.input != context.input:
        raise CheckFailed(
            f"the file takes {metadata.input.as_dict()}, but is verified as one that takes {context.input.as_dict()}",
            fatal=metadata.input.shape != context.input.shape or metadata.input.dtype != context.input.dtype,
        )
    if twice := [key for key, count in Counter(prop.key for prop in context.model.metadata_props).items() if count > 1]:
        raise CheckFailed(f"the metadata {twice[0]!r} stands twice: readers may disagree on which counts")
    if problem := other_float(context.model, context.examination.types) or _unlikely(metadata.fields):
        raise CheckFailed(problem)
    declared, real = context.precision, precision_in(context.model, context.examination.types)
    if declared != real:
        raise CheckFailed(f"the metadata declares {declared}, but the graph is {real}")
    for field, expected in context.expected.items():
        found = metadata.fields.get(field)
        if not is_same_json(found, expected):
            raise CheckFailed(f"the metadata {field!r} should be {expected!r}, but is {found!r}")
    inputs = "; ".join(map(str, _specs(graph.input)))
    outputs = "; ".join(map(str, _specs(graph.output)))
    return CheckResult(f"{inputs} -> {outputs}; {len(metadata.fields)} metadata fields")


def _unlikely(fields: dict[str, Any]) -> str | None:
    """Look at what the runtime does without, so that it reads a file that is wrong in it."""
    for key in ("seed", "epochs"):
        value = fields[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            return f"the metadata {key!r} should be a whole number or null, but is {value!r}"
    checkpoint = fields["checkpoint"]
    if checkpoint is not None and not (isinstance(checkpoint, dict) and all(map(is_name, checkpoint.values()))):
        return f"the metadata 'checkpoint' should be {{file, sha256}} or null, but is {checkpoint!r}"
    if not fields["versions"]:
        return "the metadata 'versions' should name the libraries that made the file, but names none"
    return None


def _specs(infos: "list[onnx.ValueInfoProto]") -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            info.name,
            _DATATYPES.get(info.type.tensor_type.elem_type)
            or onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type),
            tuple(dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim),
        )
        for info in infos
    )
