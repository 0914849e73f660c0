"""How far probabilities are from frequencies: the reliability diagram and the expected calibration error."""

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15


def reliability(probabilities: npt.NDArray[Any], labels: npt.NDArray[Any], bins: int = BINS) -> list[dict[str, Any]]:
    """Return the reliability diagram (Guo et al., 2017), a row for each of `bins` equal bins of the confidence.

    Args:
        probabilities: float (N, K). labels: int (N,).

    Returns:
        Rows of `low`, `high`, `n`, and mean `confidence` and `accuracy` of the pictures in the bin, None where none is.
    """
    confidence = np.asarray(probabilities, np.float64).max(1)
    right = probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    rows: list[dict[str, Any]] = []
    for number in range(bins):
        inside = which == number
        n = int(inside.sum())
        row: dict[str, Any] = {"low": number / bins, "high": (number + 1) / bins, "n": n}
        row["confidence"], row["accuracy"] = (float(v[inside].mean()) if n else None for v in (confidence, right))
        rows.append(row)
    return rows


def calibration_error(probabilities: npt.NDArray[Any], labels: npt.NDArray[Any], bins: int = BINS) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over all pictures."""
    filled = [row for row in reliability(probabilities, labels, bins) if row["n"]]
    gaps = [float(row["n"] * abs(row["confidence"] - row["accuracy"])) for row in filled]
    return sum(gaps) / max(1, len(labels))


def softmax(logits: npt.NDArray[Any], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the probabilities of logits (N, K) at a temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
