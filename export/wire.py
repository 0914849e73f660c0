"""A protobuf file is read field by field, as bytes, before any parser builds objects from it.

A parser believes what a file says: of its lengths, of how often a field occurs, of how deep messages nest. Here each
claim is checked against the bytes that are there and against a limit, in plain Python, so the worst a hostile file can
do is to be refused. The fields that may occur are those of the message's own definition; an unknown one is refused too,
since a reader that knows it might see another model than the one that was verified.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 200_000
MAX_DEPTH = 12
MAX_PACKED = 8 << 20  # bytes of packed integers in all: each may become eight bytes in memory
_PACKABLE = {VARINT, FIXED64, FIXED32}


class WireError(ValueError):
    """The bytes are not a message of this kind, or one beyond the limits."""


@dataclass
class Scan:
    """How often each field occurs, by `Message.field`, and how many fields there are in all."""

    counts: Counter[str] = field(default_factory=Counter)
    fields: int = 0
    packed: int = 0


def scan(content: bytes, descriptor: Any, limits: dict[str, int]) -> Scan:
    """Walk a whole message; linear in the number of fields, and in constant memory.

    Args:
        content: the bytes.
        descriptor: the message's protobuf descriptor, as `onnx.ModelProto.DESCRIPTOR`.
        limits: how often a field may occur in all, by `Message.field`; 0 forbids it.

    Raises:
        WireError: with the field and the offset.
    """
    found = Scan()
    _message(memoryview(content), 0, len(content), descriptor, limits, found, 0)
    return found


def _message(data: memoryview, at: int, end: int, kind: Any, limits: dict[str, int], found: Scan, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"messages nest more than {MAX_DEPTH} deep at byte {at}")
    known, singular_seen = kind.fields_by_number, set()
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number not in known:
            raise WireError(f"a {kind.name} has no field {number}, which stands at byte {start}")
        declared = known[number]
        where = f"{kind.name}.{declared.name}"
        found.fields += 1
        if found.fields > MAX_FIELDS:
            raise WireError(f"there are more than {MAX_FIELDS:,} fields")
        found.counts[where] += 1
        if found.counts[where] > limits.get(where, MAX_FIELDS):
            raise WireError(f"{where} occurs more than {limits[where]:,} times" if limits[where] else f"has a {where}")
        repeated = _is_repeated(declared)
        if not repeated:
            # Two parsers may disagree on which of two counts.
            if number in singular_seen:
                raise WireError(f"{where} stands twice in one message, the second time at byte {start}")
            singular_seen.add(number)
        expected = _wire_type(declared)
        if wire != expected and not (wire == LENGTH and repeated and expected in _PACKABLE):
            raise WireError(f"{where} at byte {start} has wire type {wire} instead of {expected}")
        if wire == VARINT:
            _, at = _varint(data, at, end)
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
        else:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise WireError(f"{where} at byte {start} claims {length:,} bytes, but {end - at:,} are left")
            if expected == VARINT:
                found.packed += length
                if found.packed > MAX_PACKED:
                    raise WireError(f"there are more than {MAX_PACKED:,} bytes of packed integers")
            if declared.message_type is not None:
                _message(data, at, at + length, declared.message_type, limits, found, depth + 1)
            at += length
        if at > end:
            raise WireError(f"{where} at byte {start} is cut off")


def _is_repeated(declared: Any) -> bool:
    """Ask a field's descriptor in the words of its protobuf version."""
    asked = getattr(declared, "is_repeated", None)
    return bool(declared.label == declared.LABEL_REPEATED if asked is None else asked)


def _wire_type(declared: Any) -> int:
    """Return how a field of this type is written."""
    if declared.message_type is not None or declared.type in (9, 12):  # string, bytes
        return LENGTH
    if declared.type in (1, 6, 16):  # double, fixed64, sfixed64
        return FIXED64
    if declared.type in (2, 7, 15):  # float, fixed32, sfixed32
        return FIXED32
    return VARINT


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError(f"a number is cut off or endless at byte {at}")
