"""The contract of a model file: names, types and shapes of inputs and outputs, and the metadata.

    input   image           [batch, C, H, W]    as the file's `InputSpec` says
    output  logits          float32 [batch, K]
    output  probabilities   float32 [batch, K]

`metadata_props` hold JSON strings under the keys of `METADATA_KEYS`, so that an app with this one file can use it.
Other keys may stand beside them, for other programs; nothing here reads those.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import Any

from runtime.errors import ModelInvalid, quoted, shown
from runtime.model.confidence import Confidence
from runtime.model.spec import BATCH, FASHION_MNIST, INPUT, InputSpec, is_same_json

# Control characters, halves of a character, line and paragraph separators; then what turns the reading direction over.
_NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}

FORMAT_1 = "fashion-zoo model 1"  # the input is Fashion-MNIST's; read for ever
FORMAT = "fashion-zoo model 2"  # the input is an `InputSpec`; written
LOGITS = "logits"
PROBABILITIES = "probabilities"

# Always there; accuracy, recipe and the rest of the provenance are null where the maker of the file had none to give.
METADATA_KEYS = (
    "format",
    "model",
    "labels",
    "input",
    "accuracy",
    "recipe",
    "seed",
    "epochs",
    "checkpoint",
    "versions",
    "license",
)

# Stored only where they differ: the type that the file computes in, that of its weights, and how it is quantized.
DEFAULTS = {"dtype": "fp32", "storage": "fp32", "quantization": None}
DTYPES = ("fp32", "fp16", "int8")
STORAGES = ("fp32", "fp16", "int8", "int4")  # integers: of dense layers alone, the rest is fp16
CONFIDENCE = "confidence"  # as `runtime.model.confidence` has it; without it, probabilities are softmax(logits)

# The metadata `input` of a file of format 1.
INPUT_CONTRACT_1 = {
    "name": INPUT,
    "datatype": "UINT8",
    "shape": [BATCH, 1, 28, 28],
    "pixel_format": "Gray8",
    "range": [0, 255],
    "polarity": "light garment on black background",
}
_DATATYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output, in the Open Inference Protocol's terms."""

    name: str
    datatype: str
    shape: tuple[str | int, ...]

    def __str__(self) -> str:
        return shown(f"{self.name} {self.datatype}[{', '.join(str(size) for size in self.shape)}]")

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape), "datatype": self.datatype}


def input_specs(input: InputSpec) -> tuple[TensorSpec, ...]:
    return (TensorSpec(INPUT, input.datatype, (BATCH, *input.shape)),)


def output_specs(classes: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec(LOGITS, "FP32", (BATCH, classes)), TensorSpec(PROBABILITIES, "FP32", (BATCH, classes)))


def check_signature(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], metadata: Metadata, what: str
) -> None:
    """Compare a file's inputs and outputs with what its metadata say.

    Raises:
        ModelInvalid: they differ; the sentence says what was expected and found.
    """
    for kind, expected, found in (
        ("inputs", input_specs(metadata.input), inputs),
        ("outputs", output_specs(len(metadata.labels)), outputs),
    ):
        if expected != found:
            raise ModelInvalid(
                f"{what} does not keep the contract: its {kind} should be "
                f"{'; '.join(map(str, expected))}, but are {'; '.join(map(str, found))}"
            )


@dataclass(frozen=True)
class Metadata:
    """A model's description of itself, checked: `labels` in the order of the outputs, `fields` as stored."""

    model: str
    labels: tuple[str, ...]
    input: InputSpec
    fields: dict[str, Any]
    confidence: Confidence | None = None

    @property
    def temperature(self) -> float:
        return self.confidence.temperature if self.confidence else 1.0


def encode_metadata(fields: dict[str, Any]) -> dict[str, str]:
    """Turn a description into `metadata_props`: each value a JSON string, in the order of METADATA_KEYS.

    `fields["input"]` is an `InputSpec.as_dict()`; by default Fashion-MNIST's.
    """
    full = {"format": FORMAT, "input": FASHION_MNIST.as_dict()} | fields
    keys = [*METADATA_KEYS, *(key for key, usual in DEFAULTS.items() if full.get(key, usual) != usual)]
    keys += [CONFIDENCE] if full.get(CONFIDENCE) is not None else []
    return {key: json.dumps(full.get(key), ensure_ascii=False) for key in keys}


def parse_metadata(props: dict[str, str], what: str) -> Metadata:
    """Read `metadata_props` back.

    Raises:
        ModelInvalid: the description is absent, malformed or of another format.
    """
    missing = [key for key in METADATA_KEYS if key not in props]
    if missing:
        raise ModelInvalid(f"{what} is not a model of this format: its metadata lacks {', '.join(missing)}")
    fields: dict[str, Any] = {}
    for key in (*METADATA_KEYS, *DEFAULTS, CONFIDENCE):
        try:
            fields[key] = _read_json(props[key]) if key in props else DEFAULTS.get(key)
        except (ValueError, RecursionError) as error:
            raise ModelInvalid(f"{what}: the metadata {key!r} is not JSON: {error}") from error
    read = _input(fields["format"], fields["input"], what)
    for key, known in (("dtype", DTYPES), ("storage", STORAGES)):
        if fields[key] not in known:
            raise ModelInvalid(
                f"{what}: the metadata {key!r} should be one of {', '.join(known)}, not {quoted(fields[key])}"
            )
    if not _is_quantization(fields["quantization"]):
        raise ModelInvalid(
            f"{what}: the metadata 'quantization' should be {{calibration: {{images, sha256}}, float_layers}} or null, "
            f"not {quoted(fields['quantization'])}"
        )
    labels, name = fields["labels"], fields["model"]
    if not is_folder_name(name):
        raise ModelInvalid(f"{what}: the metadata 'model' should be a name that does as a folder's, not {quoted(name)}")
    if not isinstance(labels, list) or len(labels) < 2 or not all(map(is_name, labels)):
        raise ModelInvalid(f"{what}: the metadata 'labels' should be a list of printable names, not {quoted(labels)}")
    if len(set(labels)) != len(labels):
        raise ModelInvalid(f"{what}: the metadata 'labels' names a class twice: {quoted(labels)}")
    if fields["license"] is not None and not is_name(fields["license"]):
        raise ModelInvalid(f"{what}: the metadata 'license' should be a name or null, not {quoted(fields['license'])}")
    versions = fields["versions"]
    if versions is not None and not (isinstance(versions, dict) and all(map(is_name, versions.values()))):
        raise ModelInvalid(
            f"{what}: the metadata 'versions' should be texts by library, or null, not {quoted(versions)}"
        )
    confidence = None
    if fields[CONFIDENCE] is not None:
        try:
            confidence = Confidence.from_dict(fields[CONFIDENCE], len(labels))
        except ValueError as error:
            raise ModelInvalid(f"{what}: the metadata 'confidence' cannot be read: {error}") from error
    return Metadata(name, tuple(labels), read, fields, confidence)


def _is_quantization(value: Any) -> bool:
    """Whether this says on which images activations were calibrated, and which layers were left in float32."""
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    calibration, layers = value.get("calibration"), value.get("float_layers")
    return (
        isinstance(calibration, dict)
        and type(calibration.get("images")) is int
        and is_name(calibration.get("sha256"))
        and isinstance(layers, list)
        and all(map(is_name, layers))
    )


def _input(format: Any, stored: Any, what: str) -> InputSpec:
    if format == FORMAT:
        try:
            return InputSpec.from_dict(stored)
        except ValueError as error:
            raise ModelInvalid(f"{what}: the metadata 'input' cannot be read: {error}") from error
    if format != FORMAT_1:
        raise ModelInvalid(f"{what} is of format {quoted(format)}; this runtime reads {FORMAT!r} and {FORMAT_1!r}")
    if not is_same_json(stored, INPUT_CONTRACT_1):
        raise ModelInvalid(f"{what} asks for input {quoted(stored)}; format 1 has {INPUT_CONTRACT_1}")
    return FASHION_MNIST


def _read_json(text: str) -> Any:
    """Read what every parser reads alike: no key twice in one object, no NaN and no infinity."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError(f"an object has a key twice, among {quoted([key for key, _ in pairs])}")
    return read


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number there")


def is_name(value: object) -> bool:
    """Whether `value` is text that reads as itself wherever it is printed: not blank, and no command to a terminal."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not any(
            unicodedata.category(letter) in _NO_TEXT or unicodedata.bidirectional(letter) in _TURNING
            for letter in value
        )
    )


def is_folder_name(value: object) -> bool:
    """Whether `value` is such a name, and names a folder here and nowhere else."""
    return isinstance(value, str) and is_name(value) and not value.startswith(".") and not set("/\\") & set(value)


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
    metadata = parse_metadata(props, what)
    check_signature(inputs, outputs, metadata, what)
    return metadata


def _specs(arguments: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(argument.name, _DATATYPES.get(argument.type, argument.type), tuple(argument.shape))
        for argument in arguments
    )
