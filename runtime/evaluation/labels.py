"""Match class names of a data set, a folder or another model with a model's labels."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.errors import UsageError

_LISTED = 12  # names in a message


def match_labels(names: Sequence[str], labels: Sequence[str]) -> list[int | None]:
    """Return, for each name, the index of the label that it means; None where that is no label, or more than one.

    A name means the label that is spelled alike, else the only one that differs from it in case, spaces and punctuation
    alone: `t-shirt-top` means "T-shirt/top".
    """
    spellings = [(spelled, _unique([spelled(label) for label in labels])) for spelled in (str, _composed, _letters)]
    return [
        next((places[spelled(name)] for spelled, places in spellings if spelled(name) in places), None)
        for name in names
    ]


def class_indices(names: Sequence[str], labels: Sequence[str], *, data: str, model: str) -> npt.NDArray[np.int64]:
    """Return the index in `labels` of each class of a data set, int64 (len(names),).

    The model may have other classes beside these: then its answers are never right where it gives those.

    Args:
        names, labels: the classes of the data and of the model.
        data, model: what messages call the two.

    Raises:
        UsageError: a class of the data is none of the model; the sentence names the classes that do not match.
    """
    found = match_labels(names, labels)
    known = [index for index in found if index is not None and found.count(index) == 1]
    missing = [name for name, index in zip(names, found, strict=True) if index not in known]
    if missing:
        others = [label for index, label in enumerate(labels) if index not in known]
        beside = f"; its labels {listed(others)} are no classes of {data}" if others else ""
        raise UsageError(f"{model} has no label for the classes {listed(missing)} of {data}{beside}")
    return np.array(known, np.int64)


def listed(names: Sequence[str]) -> str:
    """Return names for a message, quoted; of many only the first."""
    shown = ", ".join(map(repr, names[:_LISTED]))
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _unique(keys: Sequence[str]) -> dict[str, int]:
    """Return the place of every key that occurs once and is not empty."""
    counts = Counter(keys)
    return {key: place for place, key in enumerate(keys) if key and counts[key] == 1}


def _composed(name: str) -> str:
    """Write accents in one way: macOS takes the letters of a file's name apart."""
    return unicodedata.normalize("NFC", name)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", _composed(name).casefold())
