"""`POST /predict`: the query's parameters, and the answer, which is that of `runtime predict --json`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException

from runtime.errors import quoted
from runtime.imaging.preprocess import Fit, Invert

_SWITCH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class PredictParams:
    """The query of a `/predict`: which model, and what to answer."""

    model: str | None = None
    topk: int = 5
    invert: Invert | None = None
    fit: Fit | None = None
    pixels: bool = False


@functools.lru_cache(maxsize=256)  # programs ask the same again and again
def read_params(query: bytes) -> PredictParams:
    """Parse the query string.

    Raises:
        HTTPException: 400, a parameter is unknown, given twice, or has a value that it cannot have.
    """
    found: dict[str, Any] = {}
    readers: dict[str, Callable[[str], Any]] = {
        "model": str,
        "topk": _count,
        "invert": lambda value: _one_of(value, get_args(Invert)),
        "fit": lambda value: _one_of(value, get_args(Fit)),
        "pixels": lambda value: _SWITCH[_one_of(value, tuple(_SWITCH))],
    }
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError as error:
        raise HTTPException(400, "the query cannot be read; expected name=value&name=value") from error
    for name, value in pairs:
        if name not in readers:
            raise HTTPException(400, f"the parameter {quoted(name)} is not known; expected one of {', '.join(readers)}")
        if name in found:
            raise HTTPException(400, f"the parameter {name!r} is given twice")
        try:
            found[name] = readers[name](value)
        except ValueError as error:
            raise HTTPException(400, f"the parameter {name} cannot be {quoted(value)}; expected {error}") from error
    return PredictParams(**found)


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < len(value) < 7 and int(value) > 0):
        raise ValueError("a whole number from 1")
    return int(value)


def _one_of(value: str, words: tuple[str, ...]) -> Any:
    if value not in words:
        raise ValueError("one of " + ", ".join(words))
    return value
