"""What an open session says of itself, held against the contract."""

from __future__ import annotations

from typing import Any

from runtime import contract
from runtime.contract import Metadata, TensorSpec
from runtime.errors import ModelInvalid

_DATATYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}


def checked_metadata(session: Any, what: str) -> Metadata:
    """Return the description inside the model of an `onnxruntime.InferenceSession`; `what` names the model in errors.

    Raises:
        ModelInvalid: its inputs, outputs or metadata break the contract.
    """
    try:
        props = session.get_modelmeta().custom_metadata_map
        inputs, outputs = _specs(session.get_inputs()), _specs(session.get_outputs())
    except UnicodeDecodeError as error:  # onnxruntime reads a file's text when it is asked for
        raise ModelInvalid(f"{what} holds text that is not UTF-8, as ONNX's is: {error}") from error
    metadata = contract.parse_metadata(props, what)
    contract.check_signature(inputs, outputs, len(metadata.labels), what)
    return metadata


def _specs(arguments: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(argument.name, _DATATYPES.get(argument.type, argument.type), tuple(argument.shape))
        for argument in arguments
    )
