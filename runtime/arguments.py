"""What callers may pass where a type alone does not say it."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from runtime.errors import UsageError


def require_count(name: str, value: SupportsIndex) -> None:
    """See that `value` is a whole number of at least 1: Python's own, or NumPy's.

    Raises:
        UsageError: it is not; the sentence calls it `name`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from None
    if number < 1:
        raise UsageError(f"{name} must be at least 1, not {number}")
