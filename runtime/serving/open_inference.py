"""`POST /v2/models/M/infer`: the Open Inference Protocol's tensors, as JSON or, by Triton's extensions, as bytes.

Sources: the protocol (github.com/kserve/open-inference-protocol, `specification/protocol/inference_rest.md`), and of
NVIDIA Triton's extensions (its server's `docs/protocol`) those for binary tensor data, classification, model
configuration and statistics. The body of a binary request is JSON, as long as the header
`Inference-Header-Content-Length` says, with the tensors' bytes behind it.
"""

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.responses import Response

from runtime import __version__
from runtime.errors import quoted
from runtime.model.metadata import LOGITS, PROBABILITIES, TensorSpec, input_specs, output_specs
from runtime.model.spec import INPUT, InputSpec
from runtime.serving.models import Images, Outputs, ServedModel
from runtime.strict_json import to_json

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "statistics")
VERSION = "1"  # every name has one version: the file that it means
PLATFORM = "onnx_onnxv1"  # the protocol's word
_OTHER_VALUES = 10_000  # JSON values of a request beside its images
_OTHER_PARTS = 2**18  # lists and objects beside those of the images, and quotation marks; a list takes 64 bytes
_MAX_ID = 1024  # characters; the answer repeats them


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """One output, and in what form: as bytes or JSON, as numbers or as the names of the `classes` highest."""

    name: str
    binary: bool
    classes: int


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request that has been read: images (N, C, H, W), the outputs it wants, and its id."""

    pixels: Images
    outputs: list[WantedOutput]
    identity: str | None


def server_metadata() -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": "fashion-zoo", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """Return a model's metadata; the dimension that may vary is -1."""
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in input_specs(model.classifier.input)],
        "outputs": [_tensor(spec) for spec in output_specs(len(model.classifier.labels))],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return spec.as_dict() | {"shape": [-1 if isinstance(size, str) else size for size in spec.shape]}


def model_config(model: ServedModel) -> dict[str, Any]:
    """Return a model's configuration in the fields of Triton's `ModelConfig`; `dims` are without the batch."""

    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": list(spec.shape[1:])} for spec in specs
        ]

    return {
        "name": model.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": model.max_batch,
        "input": tensors(input_specs(model.classifier.input)),
        "output": tensors(output_specs(len(model.classifier.labels))),
        "dynamic_batching": {"max_queue_delay_microseconds": round(1e6 * model.max_wait)},
    }


def model_statistics(models: Iterable[ServedModel]) -> dict[str, Any]:
    """Return what models have answered."""
    return {"model_stats": [{"name": model.name, "version": VERSION} | model.statistics.as_dict() for model in models]}


def index_entry(model: ServedModel) -> dict[str, str]:
    """Return a model's line of the repository index."""
    return {"name": model.name, "version": VERSION, "state": "READY", "reason": ""}


def infer_response(request: InferRequest, outputs: Outputs, model: str, labels: Sequence[str]) -> Response:
    """Return the response to a request; outputs: logits and probabilities, each float32 (N, K)."""
    tensors = dict(zip((LOGITS, PROBABILITIES), outputs, strict=True))
    descriptions, buffers = [], []
    for want in request.outputs:
        description, buffer = _output(want, tensors[want.name], labels)
        descriptions.append(description)
        buffers.append(buffer)
    document: dict[str, Any] = {"model_name": model, "model_version": VERSION}
    if request.identity is not None:
        document["id"] = request.identity
    header = to_json(document | {"outputs": descriptions}).encode()
    if not any(want.binary for want in request.outputs):
        return Response(header, media_type="application/json")
    return Response(
        b"".join([header, *buffers]),
        headers={HEADER_LENGTH: str(len(header))},
        media_type="application/octet-stream",
    )


def _output(want: WantedOutput, tensor: npt.NDArray[np.float32], labels: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    if want.classes:
        highest = np.argsort(-tensor, axis=1, kind="stable")[:, : want.classes]
        named = [f"{tensor[row, k]:f}:{k}:{labels[k]}" for row, ks in enumerate(highest) for k in ks]
        description = {"name": want.name, "datatype": "BYTES", "shape": list(highest.shape)}
        buffer = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in named)
        data: list[Any] = named
    else:
        description = {"name": want.name, "datatype": "FP32", "shape": list(tensor.shape)}
        buffer = tensor.astype("<f4", copy=False).tobytes() if want.binary else b""
        data = [] if want.binary else tensor.ravel().tolist()
    if want.binary:
        return description | {"parameters": {"binary_data_size": len(buffer)}}, buffer
    return description | {"data": data}, b""


def read_request(body: bytes, header_length: str | None, max_images: int, spec: InputSpec) -> InferRequest:
    """Read a request.

    Args:
        body: the whole body.
        header_length: the value of `Inference-Header-Content-Length`, or None where all of the body is JSON.
        max_images: the largest N.
        spec: the model's input.

    Raises:
        HTTPException: 400, and what is wrong with it; 413, its JSON holds more values than the largest request needs.
        ImageError: a float is out of the input's range; `.kind` is "array".
    """
    document, behind = _split(body, header_length, max_images, spec)
    if not isinstance(document, dict):
        raise HTTPException(400, f"the request should be a JSON object, not {_kind(document)}")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise HTTPException(400, f"the id should be a string, not {_kind(identity)}")
    if identity is not None and len(identity) > _MAX_ID:
        raise HTTPException(400, f"the id should be of at most {_MAX_ID} characters, not {len(identity)}")
    binary_default = _parameters(document, "the request").get("binary_data_output", False)
    if not isinstance(binary_default, bool):
        raise HTTPException(400, f"binary_data_output should be true or false, not {_kind(binary_default)}")
    pixels = _image(document.get("inputs"), behind, max_images, spec)
    return InferRequest(pixels, _wanted(document.get("outputs"), binary_default), identity)


def _split(body: bytes, header_length: str | None, max_images: int, spec: InputSpec) -> tuple[Any, bytes]:
    if header_length is None:
        header, behind = body, b""
    else:
        # Not int() alone, which also takes signs, spaces and underscores.
        if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 10):
            raise HTTPException(400, f"{HEADER_LENGTH} should be a number of bytes, not {quoted(header_length)}")
        length = int(header_length)
        if not 0 < length <= len(body):
            raise HTTPException(400, f"{HEADER_LENGTH} says {length} bytes of JSON, in a body of {len(body)}")
        header, behind = body[:length], body[length:]
    _check_values(header, max_images, spec)
    try:
        return json.loads(header, object_pairs_hook=_without_twins, parse_constant=_no_constant), behind
    except RecursionError:
        raise HTTPException(400, "the request is not JSON that can be read: it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the request is not JSON: {error}") from error
    except ValueError:  # what Python then says is meant for programmers
        raise HTTPException(
            400, "the request is not JSON that can be read: a number in it has too many digits"
        ) from None


def _check_values(text: bytes, max_images: int, spec: InputSpec) -> None:
    """Refuse JSON of many values before it is parsed: Python takes up to a hundred times the bytes of each of them.

    In front of each value but one there is a comma, a bracket or a brace, so there are no more values than of these.
    An image that is nested as its shape has few lists beside its numbers, and no texts; these take the most memory.
    """
    lists = max_images * (1 + spec.channels + spec.channels * spec.height)
    most = lists + max_images * math.prod(spec.shape) + _OTHER_VALUES
    opened = text.count(b"[") + text.count(b"{")
    texts = text.count(b'"')
    if opened > lists + _OTHER_PARTS or texts > _OTHER_PARTS or opened + text.count(b",") > most:
        raise HTTPException(
            413, f"the JSON holds more than {most} values, which {max_images} images need at most; send it in parts"
        )


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys must differ: readers disagree on which of two values counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise HTTPException(
            400, f"the request is not JSON that can be read: an object in it has the key {quoted(twin)} twice"
        )
    return found


def _no_constant(word: str) -> NoReturn:
    raise HTTPException(400, f"the request is not JSON: {word} is no number there")


def _image(inputs: Any, behind: bytes, max_images: int, spec: InputSpec) -> Images:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        found = f"{len(inputs)} of them" if isinstance(inputs, list) else _kind(inputs)
        raise HTTPException(400, f"inputs should be a list of one object, the tensor {INPUT!r}; found {found}")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise HTTPException(400, f"there is no input {quoted(tensor.get('name'))}; expected {INPUT!r}")
    if tensor.get("datatype") != spec.datatype:
        raise HTTPException(400, f"the datatype of {INPUT} is {spec.datatype}, not {quoted(tensor.get('datatype'))}")
    shape = tensor.get("shape")
    if not (
        isinstance(shape, list)
        and all(type(size) is int for size in shape)
        and tuple(shape[1:]) == spec.shape
        and shape[0] >= 1
    ):
        expected_shape = ", ".join(map(str, spec.shape))
        raise HTTPException(400, f"the shape of {INPUT} is [N, {expected_shape}] with N from 1, not {quoted(shape)}")
    if shape[0] > max_images:
        raise HTTPException(
            400, f"at most {max_images} images are taken at once, not {quoted(shape[0])}; send them in parts"
        )
    expected = math.prod(shape) * spec.dtype.itemsize
    parameters = _parameters(tensor, INPUT)
    size = parameters.get("binary_data_size")
    if size is None:
        if behind:
            raise HTTPException(400, f"{len(behind)} bytes follow the JSON, but {INPUT} states no binary_data_size")
        return _from_json(tensor.get("data"), shape, spec)
    if "data" in tensor:
        raise HTTPException(400, f"{INPUT} has both data and binary_data_size; expected one of them")
    if type(size) is not int or size != expected or len(behind) != expected:
        raise HTTPException(
            400,
            f"{INPUT} of shape {shape} takes {expected} bytes; binary_data_size says {quoted(size)}, "
            f"and {len(behind)} bytes follow the JSON",
        )
    return spec.checked(
        np.frombuffer(behind, spec.dtype.newbyteorder("<")).astype(spec.dtype, copy=False).reshape(shape)
    )


def _from_json(data: Any, shape: list[int], spec: InputSpec) -> Images:
    levels = _flat(data, shape)
    types, what = ({int}, "whole numbers") if spec.datatype == "UINT8" else ({int, float}, "numbers")
    low, high = spec.range
    # All is checked here: of lists of other things NumPy makes arrays that may be thousands of times as large.
    if levels is None or not set(map(type, levels)) <= types or min(levels) < low or max(levels) > high:
        raise HTTPException(
            400,
            f"the data of {INPUT} should be {math.prod(shape)} {what} from {low} to {high}, in one list or nested as "
            f"{shape}",
        )
    if spec.datatype == "UINT8":
        return np.frombuffer(bytes(levels), np.uint8).reshape(shape)
    return spec.checked(np.array(levels, spec.dtype).reshape(shape))


def _flat(data: Any, shape: list[int]) -> list[Any] | None:
    """Return the values of a list that has as many as the shape, or is nested as the shape; of others, None."""
    if isinstance(data, list) and len(data) == math.prod(shape) and not isinstance(data[0], list):
        return data
    lists: list[Any] = [data]
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in lists):
            return None
        lists = list(chain.from_iterable(lists))
    return lists


def _wanted(outputs: Any, binary_default: bool) -> list[WantedOutput]:
    if outputs is None or outputs == []:
        return [WantedOutput(name, binary_default, 0) for name in (LOGITS, PROBABILITIES)]
    if not isinstance(outputs, list):
        raise HTTPException(400, f"outputs should be a list of objects, not {_kind(outputs)}")
    wanted: dict[str, WantedOutput] = {}
    for output in outputs:
        name = output.get("name") if isinstance(output, dict) else None
        if name not in (LOGITS, PROBABILITIES) or name in wanted:
            raise HTTPException(
                400, f"outputs may name {LOGITS!r} and {PROBABILITIES!r}, each once; found {quoted(output)}"
            )
        parameters = _parameters(output, name)
        binary = parameters.get("binary_data", binary_default)
        classes = parameters.get("classification", 0)
        if not isinstance(binary, bool):
            raise HTTPException(400, f"binary_data of {name} should be true or false, not {_kind(binary)}")
        if type(classes) is not int or not 0 <= classes < 2**31:
            raise HTTPException(400, f"classification of {name} should be a number of classes, not {quoted(classes)}")
        wanted[name] = WantedOutput(name, binary, classes)
    return list(wanted.values())


def _parameters(holder: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise HTTPException(400, f"the parameters of {what} should be an object, not {_kind(parameters)}")
    if "shared_memory_region" in parameters:
        raise HTTPException(
            400, f"{what} names a shared memory region, which this server does not offer; send the data"
        )
    return parameters


def _kind(value: Any) -> str:
    """JSON's word for a value."""
    words = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
