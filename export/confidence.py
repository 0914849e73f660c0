"""Fit the confidence of a network on pictures that it was not trained on: what `Description(confidence=...)` takes."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import UsageError
from runtime.model.confidence import MAX_CLASSES_IN_TABLE, Confidence, Score

KEPT = 0.95
# Of the covariance of a class, the share that is its own; the rest is that of all classes. And the share of the energy
# in the score, in standard deviations of the two parts. Both were chosen on three networks of the zoo, by training
# images and made outliers: shuffled blocks, inverted, enlarged and mixed garments, gratings, shapes, fractal noise,
# ramps.
OWN_COVARIANCE = 0.8
ENERGY_SHARE = 0.5
_DIGITS = 4  # significant ones in the file: another machine's rounding gives the same bytes


def fit_confidence(
    logits: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    split: str = "validation",
    kept: float = KEPT,
    clusters: npt.NDArray[Any] | None = None,
) -> Confidence:
    """Fit a temperature, and a score with its threshold; see `runtime.model.confidence` for their formulas.

    Args:
        logits: float (N, K), the network's, of pictures that it was not trained on.
        labels: int (N,), their classes.
        split: what these pictures are, in words.
        kept: the share of them that is to be above the threshold.
        clusters: logits, (N, K), of pictures of the same classes in the same order, that give the means and covariances
            of the score; by default `logits`.

    Raises:
        UsageError: there are too few pictures, or the numbers are not finite.
    """
    z, classes = np.asarray(logits, np.float64), logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    if not np.isfinite(z).all() or len(counts) != classes or len(z) < 10 * classes:
        raise UsageError(
            f"the confidence is fitted on finite logits of at least {10 * classes} pictures of {classes} classes; "
            f"found {len(z)} pictures"
        )
    # The table needs more pictures of each class than a covariance has rows.
    table = classes <= MAX_CLASSES_IN_TABLE and counts.min() > 2 * classes
    means, factors, weight = (
        _table(z if clusters is None else np.asarray(clusters, np.float64), labels) if table else (None, None, 1.0)
    )
    threshold = float(np.quantile(Score(0.0, kept, weight, means, factors)(z), 1 - kept))
    score = Score(_rounded(threshold), kept, weight, means, factors)
    return Confidence(_rounded(fit_temperature(z, labels)), score, {"split": split, "n": len(z)})


def fit_temperature(logits: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> float:
    """Return the temperature of the least negative log-likelihood, from 0.05 to 20 (Guo et al., 2017).

    The likelihood has one maximum in 1/T: golden-section search on the logarithm of T finds it.
    """
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        top = scaled.max(1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(1)) - scaled[rows, labels]).mean())

    low, high, ratio = math.log(0.05), math.log(20), (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-5:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def _table(
    z: npt.NDArray[np.float64], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Return means, factors and the weight of the energy, so scaled that both parts count as ENERGY_SHARE says."""
    classes = z.shape[1]
    means = np.stack([z[labels == k].mean(0) for k in range(classes)])
    off = z - means[labels]
    pooled = np.cov(off.T)
    pooled += 1e-3 * np.trace(pooled) / classes * np.eye(classes)
    factors = []
    for k in range(classes):
        covariance = OWN_COVARIANCE * np.cov(off[labels == k].T) + (1 - OWN_COVARIANCE) * pooled
        factors.append(np.linalg.cholesky(np.linalg.inv(covariance)).T)
    means, whitening = _rounded_array(means), _rounded_array(np.stack(factors))
    energy = Score(0.0, KEPT)(z)
    distance = -Score(0.0, KEPT, 0.0, means, whitening)(z)
    return means, whitening, _rounded(ENERGY_SHARE * float(distance.std() / energy.std()))


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


def _rounded_array(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.vectorize(_rounded)(numbers)  # type: ignore[no-any-return]
