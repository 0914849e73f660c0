"""Write JSON that every reader takes: null for a number that is not finite, as RFC 8259 has no other word."""

import json
import math
from typing import Any


def to_json(document: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return a document as JSON, with null in place of every number that is not finite."""
    form: dict[str, Any] = {"indent": indent, "ensure_ascii": ensure_ascii, "allow_nan": False}
    try:
        return json.dumps(document, **form)
    except ValueError:
        return json.dumps(_finite(document), **form)


def json_bytes(document: Any) -> bytes:
    """Return a document as the content of a JSON file: indented, as UTF-8, and strict as `to_json`."""
    return (to_json(document, indent=2, ensure_ascii=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
