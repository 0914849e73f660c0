"""Read golden tensors: pictures and the PyTorch network's answers to them, stored beside a model file.

ONNX's own test format, `test_data_set_0/*.pb`: one `TensorProto` a file. It is read here by hand, since the runtime
does without onnx; only what `export.bundle.test_data` writes is taken: unpacked dimensions, and numbers as raw bytes.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import ModelInvalid, ModelNotFound

FOLDER = "test_data_set_0"
_DTYPES = {1: "<f4", 2: "|u1", 7: "<i8"}  # TensorProto.DataType
_VARINT, _BYTES = 0, 2  # protobuf's wire types
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # TensorProto's fields


def read_tensor(path: Path) -> tuple[str, npt.NDArray[Any]]:
    """Return the name and the read-only array of one file.

    Raises:
        ModelNotFound: there is no such file.
        ModelInvalid: it is no tensor, or a damaged one.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} is missing") from error
    except OSError as error:
        raise ModelInvalid(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _parse(content)
    except ValueError as error:
        raise ModelInvalid(f"{path} is no golden tensor, or a damaged one: {error}") from error


def _parse(content: bytes) -> tuple[str, npt.NDArray[Any]]:
    dims: list[int] = []
    fields: dict[int, Any] = {}
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        field, wire = tag >> 3, tag & 7
        if wire not in (_VARINT, _BYTES):
            raise ValueError(f"field {field} has wire type {wire}")
        number, at = _varint(content, at)  # the value itself, or the length of one
        if wire == _VARINT and field == _DIMS:
            dims.append(number)
        elif wire == _VARINT:
            fields[field] = number
        else:
            at, start = at + number, at
            if at > len(content):
                raise ValueError(f"field {field} ends {at - len(content)} bytes after the file")
            fields[field] = content[start:at]
    kind, raw = fields.get(_DATA_TYPE), fields.get(_RAW_DATA)
    if kind not in _DTYPES or not isinstance(raw, bytes) or not isinstance(fields.get(_NAME, b""), bytes):
        raise ValueError(f"it has data type {kind} and fields {sorted(fields)}, not raw numbers with a name")
    dtype = np.dtype(_DTYPES[kind])
    if len(raw) != math.prod(dims) * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes do not fill the shape {tuple(dims)} of {dtype}")
    return fields.get(_NAME, b"").decode(), np.frombuffer(raw, dtype).reshape(dims)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, seven bits a byte and the lowest first, and where the next begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(content):
            raise ValueError("it is cut short")
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
